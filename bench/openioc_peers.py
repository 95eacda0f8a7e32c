"""What reads OpenIOC elsewhere, each in a virtualenv of the benchmark alone: ioc_writer and PyMISP.

Run by their own interpreter as ``openioc_peers.py WORK FOLDER``: prints ``{"seconds", "done", "failed"}``: the names
of the files it managed and not, and the CPU time of one pass over the former (after one pass to warm up).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = {"ioc_writer": ["ioc_writer==0.3.3", "setuptools<80"], "pymisp": ["pymisp[openioc]"]}
#: work -> the package that does it
WORKS = {"ioc_writer read": "ioc_writer", "ioc_writer convert": "ioc_writer", "pymisp load": "pymisp"}


def install(folder: Path) -> dict[str, Path]:
    """Interpreters of the peers by package; one that cannot be installed is left out."""
    found = {}
    for name, packages in PACKAGES.items():
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
            command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            if subprocess.run(command).returncode:
                continue
        found[name] = python
    return found


def _worker(work: str):  # type: ignore[no-untyped-def]  # the peers have no types
    if work == "ioc_writer read":
        from ioc_writer import ioc_api

        return lambda path: ioc_api.IOC(fn=str(path))
    if work == "ioc_writer convert":
        from ioc_writer.managers.upgrade_10 import UpgradeManager

        def convert(path: Path) -> None:
            manager = UpgradeManager()
            manager.insert(str(path))
            manager.convert_to_11()
            assert len(manager.iocs_11) == 1

        return convert
    from pymisp.tools.openioc import load_openioc_file

    return lambda path: load_openioc_file(str(path))


def main(work: str, folder: Path) -> None:
    do = _worker(work)
    done, failed = [], []
    for path in sorted(folder.rglob("*.ioc")):
        try:
            do(path)
            done.append(path)
        except Exception:  # noqa: BLE001  what a peer raises is its own
            failed.append(path)
    begin = time.process_time()
    for path in done:
        do(path)
    seconds = time.process_time() - begin
    names = [[str(path.relative_to(folder)) for path in paths] for paths in (done, failed)]
    print(json.dumps({"seconds": seconds, "done": names[0], "failed": names[1]}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
