"""The tools the scanner and its fleets are measured against, as a person would run them for the same work.

``python -m bench.peers`` installs what can be installed: Debian's hashdeep, and from PyPI yara-x and ansible-core,
each in a virtualenv of its own below the benchmark's folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

#: Walks and scans as the documentation of yara-x shows it; argv: compiled rules, tree.
_YARA_X = """
import os, sys, yara_x
rules = yara_x.Rules.deserialize_from(open(sys.argv[1], "rb"))
scanner = yara_x.Scanner(rules)
for folder, _, names in os.walk(sys.argv[2]):
    for name in names:
        path = os.path.join(folder, name)
        if scanner.scan_file(path).matching_rules:
            print(path)
"""
_YARA_X_COMPILE = """
import sys, yara_x
compiler = yara_x.Compiler()
compiler.add_source(open(sys.argv[1]).read())
compiler.build().serialize_into(open(sys.argv[2], "wb"))
"""


class Peers:
    """Command lines of the peers; ``None`` where one is not installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        python = folder / "yara-x" / "bin" / "python"
        self._yara_python = python if python.exists() else None
        self._ansible = folder / "ansible-core" / "bin" / "ansible-playbook"

    def install(self) -> None:
        """Raises subprocess.CalledProcessError."""
        if shutil.which("hashdeep") is None and shutil.which("apt-get"):
            subprocess.run(["apt-get", "install", "-y", "hashdeep"], check=True)
        for package in ("yara-x", "ansible-core"):
            subprocess.run([sys.executable, "-m", "venv", self.folder / package], check=True)
            python = self.folder / package / "bin" / "python"
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)

    def versions(self) -> dict[str, str]:
        """What was measured against."""
        found = {}
        for name, command in {
            "sha256deep": ["sha256deep", "-v"],
            "find": ["find", "--version"],
            "openssl": ["openssl", "version"],
        }.items():
            if shutil.which(command[0]):
                answer = subprocess.run(command, capture_output=True, text=True, check=False)
                found[name] = (answer.stdout or answer.stderr).splitlines()[0]
        if self._yara_python is not None:
            code = "import importlib.metadata as m; print(m.version('yara-x'))"
            answer = subprocess.run(
                [self._yara_python, "-c", code], capture_output=True, text=True, check=False
            )
            found["yara-x"] = answer.stdout.strip()
        if self._ansible.exists():
            answer = subprocess.run([self._ansible, "--version"], capture_output=True, text=True, check=False)
            found["ansible"] = answer.stdout.splitlines()[0]
        return found

    def ansible(self, inventory: Path, playbook: Path) -> list[str] | None:
        if not self._ansible.exists():
            return None
        return [str(self._ansible), "-i", str(inventory), str(playbook)]

    def sha256deep(self, tree: Path, digests: Path) -> list[str] | None:
        if shutil.which("sha256deep") is None:
            return None
        return ["sha256deep", "-j2", "-r", "-m", str(digests), str(tree)]

    def hashdeep(self, tree: Path, known: Path) -> list[str] | None:
        if shutil.which("hashdeep") is None:
            return None
        return ["hashdeep", "-c", "sha256", "-j2", "-r", "-m", "-k", str(known), str(tree)]

    def openssl(self, tree: Path, digests: Path) -> list[str] | None:
        if shutil.which("openssl") is None:
            return None
        # The grep is inside: two openssl that write into one pipe would cut each other's lines.
        each = f'openssl dgst -sha256 -r "$@" | grep -F -f {digests}'
        line = f"find {tree} -type f -print0 | xargs -0 -P2 -n 500 sh -c '{each}' sh"
        return ["bash", "-c", line]

    def yara_x(self, tree: Path, objects: list[tuple[int, str]], with_size: bool) -> list[str] | None:
        """The rules are compiled beforehand, as our plan is."""
        if self._yara_python is None:
            return None
        terms = []
        for size, digest in objects:
            term = f'hash.sha256(0, filesize) == "{digest}"'
            terms.append(f"(filesize == {size} and {term})" if with_size else term)
        name = f"rules-{len(objects)}-{int(with_size)}"
        source, compiled = self.folder / f"{name}.yar", self.folder / f"{name}.yarc"
        # One rule per object, as feeds of such rules come.
        rules = "\n".join(f"rule r{number} {{ condition: {term} }}" for number, term in enumerate(terms))
        source.write_text('import "hash"\n' + rules + "\n")
        subprocess.run([self._yara_python, "-c", _YARA_X_COMPILE, source, compiled], check=True)
        return [str(self._yara_python), "-c", _YARA_X, str(compiled), str(tree)]

    @staticmethod
    def find_sizes(tree: Path, sizes: list[int]) -> list[str]:
        test = " -o ".join(f"-size {size}c" for size in sizes).split()
        return ["find", str(tree), "-type", "f", "(", *test, ")"]

    @staticmethod
    def find_name(tree: Path, name: str) -> list[str]:
        return ["find", str(tree), "-name", name]


if __name__ == "__main__":
    from bench.scanner import FOLDER

    FOLDER.mkdir(parents=True, exist_ok=True)
    Peers(FOLDER).install()
