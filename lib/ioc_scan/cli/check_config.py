"""``check-config FILE``: is this configuration usable? For when no action starts. Exit 0 yes, 1 no, 2 usage.

Needs no StackStorm. A secret that StackStorm cannot decrypt stops every action and the sensor of a pack, with a
message that names neither pack nor key; so each datastore expression is looked at here.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ioc_scan.clock import system_clock
from ioc_scan.config import SCHEMA_FILE, load_config, pack_folder
from ioc_scan.errors import ConfigError, InputError
from ioc_scan.service.context import Context
from ioc_scan.service.setup import check_setup
from ioc_scan.text import printable

Finding = dict[str, str]
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_WHOLE = re.compile(r"\{\{\s*st2kv\.(system|user)\.([A-Za-z0-9_.:-]+)\s*(\|[^}]*)?\}\}")
#: What stands for a secret while the rest is checked.
_STAND_IN = "stand-in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="the configuration, for example /opt/stackstorm/configs/ioc_scan.yaml"
    )
    parser.add_argument(
        "--try",
        action="store_true",
        dest="attempt",
        help="also try store, sources and device managers, as check_setup does; run it as the user of the actions",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    raw = read_yaml(args.file)
    findings = list(look(raw))
    table = ""
    if args.attempt and not any(finding["severity"] == "error" for finding in findings):
        context = Context(load_config(without_secrets(raw)), system_clock)
        try:
            answer = check_setup(context)
        finally:
            context.close()
        table = answer["table"]
        findings += [
            _finding("error", check["name"], check["code"], check["message"], check["hint"])
            for check in answer["checks"]
            if check["state"] == "FAILED"
        ]
    ok = not any(finding["severity"] == "error" for finding in findings)
    if args.json:
        print(json.dumps({"ok": ok, "findings": findings}, ensure_ascii=True))
    else:
        _show(args.file, ok, findings, table)
    return 0 if ok else 1


def read_yaml(path: str) -> dict[str, Any]:
    """The file's content. Raises InputError ``config_*`` with the line where YAML went wrong."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InputError("config_unreadable", f"{printable(path)}: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        problem = printable(getattr(error, "problem", None) or "cannot be read", 200)
        hint = "A value that begins with {{ must stand in quotes."
        raise InputError("config_not_yaml", f"{printable(path)}: {where}: {problem}", hint) from None
    if data is not None and not isinstance(data, dict):
        raise InputError("config_not_yaml", f"{printable(path)} does not hold sections with names")
    return data or {}


def look(raw: dict[str, Any]) -> Iterator[Finding]:
    """Everything that can be said without asking anybody."""
    secrets = _secret_keys()
    for where, value in _strings(raw):
        yield from _expression(where, value, (where[0], where[-1]) in secrets)
    try:
        config = load_config(without_secrets(raw))
    except ConfigError as error:
        yield _finding("error", "configuration", error.code, error.message, error.hint)
        return
    for where, value in _strings(config):
        key = where[-1]
        if key.endswith("_file"):
            yield from _file(".".join(where), value)
        elif (where[0], key) in secrets and not _EXPRESSION.search(value) and value != _STAND_IN:
            message = "a secret stands in the file itself"
            hint = f"Put it into a file and name it as {key}_file; both keep it out of process lists."
            yield _finding("warning", ".".join(where), "secret_in_clear", message, hint)
    if not config["threat_response_policies"]:
        message = "no policy: detections are recorded and nothing runs"
        yield _finding(
            "warning", "threat_response_policies", "no_policy", message, "Begin with response_mode report."
        )


def _expression(where: tuple[str, ...], value: str, secret: bool) -> Iterator[Finding]:
    if "{{" not in value:
        return
    place = ".".join(where)
    whole = _WHOLE.fullmatch(value.strip())
    if whole is None and secret:
        message = "there is text around the datastore expression of a secret"
        hint = "StackStorm says `Odd-length string` or `Non-hexadecimal digit found`, and no action starts."
        yield _finding("error", place, "secret_with_text", message, hint)
    elif whole is None:
        message = "this is no datastore expression of the form {{ st2kv.system.NAME }}"
        yield _finding(
            "error", place, "expression_unknown", message, "Write the value itself, or such an expression."
        )
    elif whole[3]:
        message = f"the filter {printable(whole[3].strip(), 40)} does not belong here"
        hint = "A key marked secret is decrypted by itself; decrypting twice fails every action."
        yield _finding("error", place, "secret_with_filter", message, hint)
    elif not secret:
        message = (
            "a datastore expression in a key that is not marked secret arrives as stored, encrypted or not"
        )
        yield _finding("warning", place, "expression_not_secret", message, "Use it for secrets only.")
    else:
        name = whole[2]
        message = f"comes from the datastore as {printable(name, 80)}"
        hint = (
            f"It must have been stored encrypted (st2 key get {printable(name, 80)} shows `encrypted: true`), else no "
            f"action starts: st2 key set {printable(name, 80)} VALUE --encrypt. A missing key is read as absent."
        )
        yield _finding("note", place, "secret_in_datastore", message, hint)


def _file(where: str, path: str) -> Iterator[Finding]:
    hint = "It must exist and be readable by the user that runs actions."
    try:
        with open(path, "rb") as stream:
            stream.read(1)
    except OSError as error:
        yield _finding("error", where, "file_unreadable", f"{printable(path)}: {error.strerror}", hint)


def without_secrets(raw: Any) -> Any:
    """The same with a stand-in for every expression, so that the rest can be checked."""
    if isinstance(raw, dict):
        return {key: without_secrets(value) for key, value in raw.items()}
    if isinstance(raw, list):
        return [without_secrets(value) for value in raw]
    return _STAND_IN if isinstance(raw, str) and _EXPRESSION.search(raw) else raw


def _strings(node: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _strings(value, (*where, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            name = str(value["name"]) if isinstance(value, dict) and "name" in value else str(index)
            yield from _strings(value, (*where, printable(name, 64)))
    elif isinstance(node, str) and where:
        yield where, node


def _secret_keys() -> set[tuple[str, str]]:
    """(section, key) of what the schema marks secret."""

    def walk(node: Any, section: str, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict):
            if node.get("secret") is True:
                yield section, name
            for key, value in node.items():
                yield from walk(value, section, key)

    schema = yaml.safe_load((pack_folder() / SCHEMA_FILE).read_text(encoding="utf-8"))
    return {found for section, node in schema.items() for found in walk(node, section, section)}


def _finding(severity: str, where: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "where": where, "code": code, "message": message, "hint": hint}


def _show(path: str, ok: bool, findings: list[Finding], table: str) -> None:
    print(f"{'ok   ' if ok else 'ERROR'} {printable(path)}")
    for finding in findings:
        print(f"  {finding['severity']:7} {finding['where']}: {finding['message']} [{finding['code']}]")
        if finding["hint"]:
            print(f"          {finding['hint']}")
    if table:
        print("\n" + table)
    if ok and not table:
        print("  next: st2ctl reload --register-configs, then st2 run ioc_scan.check_setup")
