"""Finds in a pack's files what StackStorm 3.9 would refuse, or fail at without a word. Reads files only.

Each check is one small module; each finding has a stable code, a place, and what to do.
"""

from __future__ import annotations

from pathlib import Path

from standalone.lint import actions, aliases, config, files, python_files, rules, sensors, workflows
from standalone.lint.model import Finding, LintPack

CHECKS = (files, config, actions, python_files, sensors, rules, workflows, aliases)


def lint_pack(directory: Path) -> list[Finding]:
    """All findings, sorted by file, line and code."""
    pack = LintPack(directory)
    for check in CHECKS:
        pack.findings.extend(check.check(pack))
    return sorted(set(pack.findings), key=lambda found: (found.file, found.line or 0, found.code))
