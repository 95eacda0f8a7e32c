"""The pack's configuration: checked against ``config.schema.yaml`` more strictly than StackStorm does.

StackStorm leaves the top level open, hands absent values over as ``None`` or ``[]`` and enforces nothing
while no configuration file exists (StackStorm 3.9). So every action reads its configuration through here.
"""

from __future__ import annotations

import copy
import functools
import json
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ioc_scan.errors import ConfigError
from ioc_scan.scanner.protocol import is_absolute
from ioc_scan.text import printable

SCHEMA_FILE = "config.schema.yaml"
#: StackStorm passes the configuration as one argument of 128 KiB at most; refused well before that.
MAX_CONFIG_BYTES = 96 * 1024
HINT = "`python -m ioc_scan check-config FILE` says more (docs/install.md); then: st2ctl reload --register-configs"


def pack_folder() -> Path:
    """The folder of this pack, whichever symlink (actions/lib, sensors/ioc_scan) led here."""
    return Path(__file__).resolve().parents[2]


def load_config(raw: dict[str, Any] | None) -> dict[str, Any]:
    """The configuration with defaults filled in.

    Raises ConfigError (``config_*``) that names the key: unknown or missing keys, wrong types or values,
    names used twice, policies that point at nothing.
    """
    given = _without_none(raw or {})
    size = len(json.dumps(given, default=str))
    if size > MAX_CONFIG_BYTES:
        raise ConfigError(
            "config_too_large",
            f"the configuration has {size} bytes, at most {MAX_CONFIG_BYTES} are safe",
            "Move inventories and lists into files that the configuration names.",
        )
    schema = _schema()
    config: dict[str, Any] = _fill(schema, given)
    validator = jsonschema.Draft7Validator(schema)
    problems = sorted(
        validator.iter_errors(config), key=lambda error: [str(part) for part in error.absolute_path]
    )
    if problems:
        raise ConfigError("config_invalid", _describe(problems[0]), HINT)
    for code, message in _contradictions(config):
        raise ConfigError(code, message, HINT)
    return config


@functools.lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    text = (pack_folder() / SCHEMA_FILE).read_text(encoding="utf-8")
    return _to_draft7({"type": "object", "additionalProperties": False, "properties": yaml.safe_load(text)})


def _to_draft7(node: dict[str, Any]) -> dict[str, Any]:
    """StackStorm's dialect (``required: true`` on a property, draft 3) as draft 7."""
    out = {
        key: value for key, value in node.items() if key not in ("required", "properties", "items", "secret")
    }
    if "properties" in node:
        out["properties"] = {name: _to_draft7(child) for name, child in node["properties"].items()}
        out["required"] = [
            name for name, child in node["properties"].items() if child.get("required") is True
        ]
    if "items" in node:
        out["items"] = _to_draft7(node["items"])
    return out


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_none(child) for child in value if child is not None]
    return value


def _fill(schema: dict[str, Any], value: Any) -> Any:
    if isinstance(value, dict) and schema.get("type") == "object":
        filled = dict(value)
        for name, child in schema.get("properties", {}).items():
            if name not in filled and "default" in child:
                filled[name] = copy.deepcopy(child["default"])
            if name in filled:
                filled[name] = _fill(child, filled[name])
        return filled
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_fill(schema["items"], child) for child in value]
    return value


#: Messages of our own for these: jsonschema's would show the value, which may be a secret.
_RULES = {"type": "of type", "minimum": "at least", "maximum": "at most"}


def _describe(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "top level"
    rule = _RULES.get(str(error.validator))
    what = f"must be {rule} {error.validator_value}" if rule else error.message
    return printable(f"{where}: {what}", 400)


def _contradictions(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for section in ("sources", "threat_response_policies", "device_managers"):
        names = [entry["name"] for entry in config[section]]
        for name in {name for name in names if names.count(name) > 1}:
            yield "config_duplicate_name", f"{section}: the name {name!r} is used twice"
    accounts = [entry["account"] for entry in config["rights"]["accounts"]]
    for account in sorted({name for name in accounts if accounts.count(name) > 1}):
        yield "config_duplicate_name", f"rights: the account {printable(account, 64)!r} is listed twice"
    for source in config["sources"]:
        if source["type"] == "folder" and not str(source.get("path", "")).startswith("/"):
            yield "config_source_path", f"source {source['name']}: `path` must be an absolute folder"
    source_names = {source["name"] for source in config["sources"]}
    for policy in config["threat_response_policies"]:
        yield from _policy_contradictions(policy, source_names)
    masters = [
        m["url"].rstrip("/").lower()
        for m in config["device_managers"]
        if m["type"] == "salt" and m.get("url")
    ]
    for url in sorted({url for url in masters if masters.count(url) > 1}):
        yield (
            "config_salt_master_twice",
            f"device_managers: two entries name the Salt master {printable(url, 100)}",
        )
    for manager in config["device_managers"]:
        groups = [group["name"] for group in manager["groups"]]
        if len(groups) != len(set(groups)):
            yield "config_duplicate_name", f"device manager {manager['name']}: a group is named twice"
        roots: dict[str, str | None] = {}
        for group in manager["groups"]:
            for device in group["devices"]:
                root = device.get("root")
                if root is not None and not root.startswith("/"):
                    yield "config_device_root", f"device {device['id']}: `root` must be an absolute folder"
                if roots.setdefault(device["id"], root) != root:
                    yield "config_device_conflict", f"device {device['id']} has two different roots"


def _policy_contradictions(policy: dict[str, Any], source_names: set[str]) -> Iterator[tuple[str, str]]:
    name = policy["name"]
    if not policy["when"]:
        yield (
            "config_policy_when_empty",
            f"policy {name}: an empty `when` is refused; use `sources: []` for any source",
        )
    for source in policy["when"].get("sources", []):
        if source not in source_names:
            yield "config_policy_source", f"policy {name}: there is no source named {printable(source, 64)!r}"
    if policy["scope"] == "custom" and not policy["roots"]:
        yield "config_policy_roots", f"policy {name}: scope custom needs `roots`"
    if policy["roots"] and policy["scope"] != "custom":
        yield "config_policy_roots", f"policy {name}: `roots` needs scope custom"
    for root in policy["roots"]:
        if not is_absolute(root):
            yield "config_policy_roots", f"policy {name}: {printable(root, 100)!r} is not an absolute folder"
    yield from _start_contradictions(policy)
    groups = [entry["group"] for entry in policy["run_ioc_scan_on"]]
    if len(groups) != len(set(groups)):
        yield "config_policy_groups", f"policy {name}: a group is named twice"


def _start_contradictions(policy: dict[str, Any]) -> Iterator[tuple[str, str]]:
    name, window, place = policy["name"], policy.get("start_window"), policy.get("start_time_zone")
    if (policy["start"] == "window") != (window is not None):
        yield "config_policy_start", f"policy {name}: `start: window` and `start_window` go together"
    elif window is not None and window[:5] == window[6:]:
        yield "config_policy_start", f"policy {name}: the window {window} is empty"
    if place is not None:
        try:
            zoneinfo.ZoneInfo(place)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield (
                "config_time_zone",
                f"policy {name}: there is no time zone {printable(place, 64)!r} on this machine",
            )
