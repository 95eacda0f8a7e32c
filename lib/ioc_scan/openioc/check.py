"""Checks IOC files from disk: reads each within the cap, lints it, and says whether it is usable."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.openioc.lint import is_actionable, lint, lint_collection
from ioc_scan.openioc.model import Ioc, Problem
from ioc_scan.openioc.problem_codes import problem
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.secure_xml import MAX_FILE_BYTES, IocRefused
from ioc_scan.text import printable


@dataclass
class CheckResult:
    """What is said of one file. ``ok``: no error among the problems. ``version`` None: it was not read."""

    file: str
    version: str | None = None
    problems: list[Problem] = field(default_factory=list)
    indicator_items: int = 0
    actionable: bool = False

    @property
    def ok(self) -> bool:
        return not any(entry.severity == "error" for entry in self.problems)

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "ok": self.ok,
            "version": self.version,
            "problems": [entry.as_dict() for entry in self.problems],
            "indicator_items": self.indicator_items,
            "actionable": self.actionable,
        }


def read_file(name: str) -> bytes:
    """A regular file or, for ``-``, standard input: at most one byte more than the cap. Raises IocRefused."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IocRefused("unreadable", f"{printable(name)} is not a regular file", "")
            return stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise IocRefused(
            "unreadable", f"{printable(name)}: {printable(reason or 'cannot be read')}", ""
        ) from None


def write_file(name: str, content: bytes) -> None:
    """Replace a file as a whole (``-``: standard output). Raises InputError ``unwritable``."""
    if name == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    temporary = f"{name}.part"
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
        os.replace(temporary, name)
    except OSError as error:
        raise InputError("unwritable", f"{printable(name)}: {printable(error.strerror)}", "") from None


def check_files(files: Sequence[str], *, profile: str, systems: Sequence[str]) -> list[CheckResult]:
    """Check each file, and with profile kaspersky also what the files are to each other."""
    results = []
    readable: list[tuple[CheckResult, str, int]] = []
    for name in files:
        result = CheckResult(name)
        results.append(result)
        try:
            data = read_file(name)
            ioc = read_ioc(data)
        except InputError as error:
            line = error.line if isinstance(error, IocRefused) else 0
            result.problems.append(problem(error.code, line, error.message, error.hint))
            continue
        check_document(result, ioc, profile, systems)
        readable.append((result, ioc.id, len(data)))
    if profile == "kaspersky":
        for index, entry in lint_collection([(identifier, size) for _, identifier, size in readable]):
            readable[index][0].problems.append(entry)
    return results


def check_document(result: CheckResult, ioc: Ioc, profile: str, systems: Sequence[str]) -> None:
    """Fill in what linting a document says."""
    result.version = ioc.version
    result.problems.extend(lint(ioc, profile, systems))
    result.indicator_items = sum(1 for _ in ioc.items())
    result.actionable = is_actionable(ioc)
