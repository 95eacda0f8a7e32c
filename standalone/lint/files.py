"""The pack's own files: pack.yaml, the ones every good pack has, links, requirements, policies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from standalone.lint.model import Finding, LintPack, imported_names
from standalone.pack import metadata_files

_WANTED = ("README.md", "CHANGES.md", "icon.png", "config.schema.yaml", "requirements.txt")
_KINDS = ("actions", "rules", "sensors", "aliases", "policies")
#: What StackStorm 3.9 itself has of packages that packs use too; in a sensor these come first.
STACKSTORM_PINS = {
    "jsonschema": (3, 2, 0),
    "jinja2": (3, 1, 6),
    "networkx": (3, 1),
    "apscheduler": (3, 11, 0),
}
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": lambda pin, ours: pin[: len(ours)] == ours,
    ">=": lambda pin, ours: pin >= ours,
    "<=": lambda pin, ours: pin <= ours,
    "~=": lambda pin, ours: pin >= ours and pin[: len(ours) - 1] == ours[:-1],
    "!=": lambda pin, ours: pin != ours,
    ">": lambda pin, ours: pin > ours,
    "<": lambda pin, ours: pin < ours,
}
_SEMVER = re.compile(r"^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$")
_STACKSTORM_VERSION = re.compile(r"^((>?>|>=|=|<=|<?<)\s*\d+\.\d+\.\d+(dev)?(\s*,)?\s*)+$")


def check(pack: LintPack) -> Iterator[Finding]:
    yield from _pack_yaml(pack)
    for name in (*_WANTED, f"{pack.ref}.yaml.example"):
        if not (pack.directory / name).is_file():
            yield Finding("pack_file_missing", name, None, f"{name} is not there", "Every good pack has it.")
    yield from _unreadable(pack)
    yield from _requirements(pack)
    yield from _links(pack)
    yield from _policies(pack)


def _pack_yaml(pack: LintPack) -> Iterator[Finding]:
    about = pack.about
    if about.error:
        yield Finding("pack_yaml_invalid", "pack.yaml", about.error_line, about.error, "Correct it.")
        return
    data = about.data
    for key in ("name", "description", "version", "author"):
        if not data.get(key):
            yield about.finding(
                "pack_yaml_invalid", f"no {key}", f"Add {key}: the pack is not registered without."
            )
    if not re.fullmatch(r"[a-z0-9_]+", pack.ref):
        todo = "Use a-z, 0-9 and _ only in ref."
        yield about.finding("pack_ref_invalid", f"ref {pack.ref!r} has other characters", todo, "ref")
    if data.get("version") and not _SEMVER.match(str(data["version"])):
        yield about.finding(
            "pack_yaml_invalid", f"version {data['version']!r}", "Write it as 1.2.3.", "version"
        )
    if data.get("python_versions") != ["3"]:
        todo = 'Write python_versions: ["3"].'
        yield about.finding("pack_python_versions", "python_versions is not ['3']", todo, "python_versions")
    wanted = data.get("stackstorm_version")
    if not wanted or not _STACKSTORM_VERSION.match(str(wanted)):
        todo = 'Write for example stackstorm_version: ">=3.9.0".'
        yield about.finding(
            "pack_stackstorm_version", f"stackstorm_version is {wanted!r}", todo, "stackstorm_version"
        )


def _unreadable(pack: LintPack) -> Iterator[Finding]:
    for kind in _KINDS:
        for path in metadata_files(pack.directory, kind):
            file = pack.yaml(path)
            if file.error:
                yield Finding("file_unreadable", file.name, file.error_line, file.error, "Correct the YAML.")
            for line, key in file.repeated_keys():
                yield Finding(
                    "yaml_key_twice", file.name, line, f"{key} is there twice", "The last one counts."
                )
    for folder in ("actions", "sensors", "lib"):
        for path in sorted((pack.directory / folder).rglob("*.py")):
            source = pack.python(path)
            if source.error:
                yield Finding("python_syntax", source.name, source.error_line, source.error, "Correct it.")


def _requirements(pack: LintPack) -> Iterator[Finding]:
    path = pack.directory / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*(\.{1,2}(/|$)|-e\b|--editable|file:)", line):
            todo = "It fails at install: use packages of the index, shared code goes to lib/."
            what = f"relative path {line.strip()}"
            yield Finding("requirement_relative", "requirements.txt", number, what, todo)
        else:
            yield from _pins(number, line)


def _pins(number: int, line: str) -> Iterator[Finding]:
    found = re.match(r"\s*([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*([^#;]*)", line)
    pin = STACKSTORM_PINS.get(found.group(1).lower().replace("_", "-")) if found else None
    for operator, wanted in re.findall(r"(==|>=|<=|~=|!=|>|<)\s*([0-9.]+)", found.group(2) if found else ""):
        ours = tuple(int(part) for part in wanted.strip(".").split("."))
        if pin and not _COMPARE[operator](pin, ours):
            version = ".".join(str(part) for part in pin)
            todo = f"A sensor gets StackStorm's {version} first: allow it, and work with it."
            yield Finding("requirement_conflict", "requirements.txt", number, line.strip(), todo)


def _links(pack: LintPack) -> Iterator[Finding]:
    """StackStorm looks for workflows and shared code in fixed places only; links lead there."""
    directory = pack.directory
    for link, why in (
        ("actions/workflows", "StackStorm resolves a workflow's entry_point under actions/ only."),
        ("actions/lib", "Only actions/lib is on the path of python actions."),
    ):
        target = directory / link.partition("/")[2]
        if target.is_dir() and not (directory / link).is_dir():
            yield Finding("link_missing", link, None, why, f"ln -s ../{target.name} {link} and commit it.")
    for path in _all_links(directory):
        if not path.exists() or not path.resolve().is_relative_to(directory.resolve()):
            todo = "Correct the link: a dangling one anywhere in a pack fails `st2 pack install` as a whole."
            yield Finding("link_broken", pack.name(path), None, "leads nowhere inside the pack", todo)
    for _, source in pack.python_entry_points("sensors"):
        for node, name in imported_names(source.tree):
            top = name.split(".")[0]
            in_lib = (directory / "lib" / top).exists() or (directory / "lib" / f"{top}.py").exists()
            if in_lib and not (directory / "sensors" / top).exists():
                todo = f"ln -s ../lib/{top} sensors/{top}: a sensor sees only its own folder."
                yield source.finding("link_missing", node, f"imports {top}, which is in lib/ only", todo)


def _all_links(directory: Path) -> list[Path]:
    """Every symlink of the pack; virtualenvs and other hidden folders are not part of it."""
    found = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in (*folders, *files) if Path(folder, name).is_symlink()]
    return sorted(found)


def _policies(pack: LintPack) -> Iterator[Finding]:
    for file in pack.policy_files:
        kind, target = str(file.data.get("policy_type")), str(file.data.get("resource_ref"))
        if target not in pack.actions:
            what = f"action {target} does not exist"
            yield file.finding(
                "policy_action_unknown", what, "StackStorm registers it anyway.", "resource_ref"
            )
        if kind == "action.retry":
            todo = "It is ignored inside workflows: use the task's `retry`."
            yield file.finding("policy_retry", "an action.retry policy", todo, "policy_type")
        if kind.startswith("action.concurrency"):
            todo = "It does nothing without Redis, and an action left running blocks for ever: use a lease."
            yield file.finding("policy_concurrency", f"an {kind} policy", todo, "policy_type")
