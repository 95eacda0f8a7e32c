"""Salt in a virtualenv of its own, installed once: the pack itself needs none, it speaks to salt-api only."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ioc_scan.errors import IocScanError

#: Later ones ask for a certifi that is not everywhere to be had.
SALT = "salt==3008.3"
CACHE_VARIABLE = "IOC_SCAN_SALT_CACHE"


class SaltUnavailable(IocScanError):
    """``salt_unavailable``: Salt cannot be installed here."""


def cache_folder() -> Path:
    """Where the virtualenv is kept between runs; ``IOC_SCAN_SALT_CACHE`` names another place."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "ioc_scan-salt")


def salt_programs() -> Path:
    """The folder of ``salt-master`` and the others, installed if it is not there yet.

    One virtualenv per version and interpreter; a second caller waits for the first. Raises SaltUnavailable.
    """
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{SALT.replace('==', '-')}-py{sys.version_info[0]}.{sys.version_info[1]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(folder)
    return folder / "bin"


def _install(folder: Path) -> None:
    print(f"Installing {SALT} into {folder} (once, about two minutes)", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", SALT]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise SaltUnavailable(
            "salt_unavailable",
            f"{SALT} cannot be installed here: {said[-300:]}",
            f"pip must reach an index that has it; {CACHE_VARIABLE} may name a folder where it was installed",
        ) from None
    (folder / "complete").touch()
