"""Chat aliases: formats are regular expressions with ``{{ parameter }}`` in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from standalone.lint.model import Finding, LintPack, YamlFile

_KEYS = frozenset(
    ("id", "ref", "uid", "name", "pack", "description", "enabled", "action_ref", "formats", "ack", "result")
) | frozenset(("extra", "immutable_parameters", "metadata_file"))
_PLACE = re.compile(r"{{\s*([^\s=}]+?)\s*(=[^}]*)?}}")


def check(pack: LintPack) -> Iterator[Finding]:
    for file in pack.alias_files:
        if file.error:
            continue
        for key in ("name", "action_ref", "formats"):
            if not file.data.get(key):
                yield file.finding("alias_metadata", f"no {key}", "Add it.")
        for key in sorted(set(file.data) - _KEYS):
            yield file.finding(
                "alias_metadata", f"unknown key {key}", "StackStorm refuses it: remove it.", key
            )
        yield from _action(pack, file)


def _formats(file: YamlFile) -> Iterator[tuple[tuple[Any, ...], str]]:
    for number, item in enumerate(file.data.get("formats") or []):
        if isinstance(item, str):
            yield ("formats", number), item
        elif isinstance(item, dict):
            representation = item.get("representation") or []
            for text in [representation] if isinstance(representation, str) else representation:
                yield ("formats", number, "representation"), str(text)


def _action(pack: LintPack, file: YamlFile) -> Iterator[Finding]:
    ref = str(file.data.get("action_ref"))
    if ref not in pack.actions:
        todo = "StackStorm registers the alias anyway: correct the name."
        yield file.finding("alias_action_unknown", f"action {ref} does not exist", todo, "action_ref")
        return
    parameters = pack.actions[ref].parameters
    fixed = file.data.get("immutable_parameters") or {}
    for name in sorted(set(fixed) - set(parameters)):
        what = f"{ref} has no parameter {name}"
        yield file.finding("alias_parameter_unknown", what, "Correct it.", "immutable_parameters", name)
    for where, text in _formats(file):
        try:
            re.compile(format_regex(text), re.DOTALL)
        except re.error as error:
            yield file.finding("alias_format", f"{text!r} does not compile: {error}", "Correct it.", *where)
            continue
        used = {name for name, _ in _PLACE.findall(text)}
        for name in sorted(used - set(parameters)):
            yield file.finding(
                "alias_parameter_unknown", f"{ref} has no parameter {name}", "Correct it.", *where
            )
        needed = {n for n, s in parameters.items() if s.get("required") and "default" not in s}
        for name in sorted(needed - used - set(fixed)):
            what = f"{ref} needs {name}"
            yield file.finding(
                "alias_parameter_missing", what, "Add {{ " + name + " }} to the format.", *where
            )


def format_regex(text: str) -> str:
    """The regular expression a format stands for: a named group per parameter, optional with a default."""

    def group(match: re.Match[str]) -> str:
        value = rf'["\']?(?P<{match.group(1)}>.+?)["\']?'
        return f"(?:{value})?" if match.group(2) else value

    return r"^\s*" + _PLACE.sub(group, text) + r"\s*$"
