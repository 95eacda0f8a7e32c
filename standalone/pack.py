"""Reading a pack's metadata files, and refusing what StackStorm would not register."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from ioc_scan.errors import ConfigError

from standalone import dialect

RUNNER_PARAMETERS: dict[str, dict[str, Any]] = {
    "python-script": {
        "debug": {"type": "boolean", "default": False},
        "content_version": {"type": "string"},
        "env": {"type": "object"},
        "timeout": {"type": "integer", "default": 600},
        "log_level": {"type": "string", "default": "DEBUG"},
    },
    "orquesta": {"notify": {"type": "array", "default": []}},
    "builtin": {},
}
OUTPUT_KEYS = {"python-script": "result", "orquesta": "output"}
BUILTIN_ACTIONS: dict[str, dict[str, Any]] = {
    "core.noop": {},
    "core.echo": {"message": {"type": "string", "default": ""}},
    "core.inject_trigger": {
        "trigger": {"type": "string"},
        "trigger_name": {"type": "string"},
        "payload": {"type": "object"},
        "trace_tag": {"type": "string"},
    },
}


def load_yaml(path: Path) -> Any:
    """Raises ConfigError with the file and the place."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("file_unreadable", f"{path}: {error}", "Correct the file.") from error


@dataclass(frozen=True)
class Action:
    """One action as its metadata file declares it."""

    ref: str
    runner: str
    entry_point: str = ""
    description: str = ""
    enabled: bool = True
    own_parameters: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """Runner parameters, overridden attribute by attribute by the action's own."""
        merged = {name: dict(schema) for name, schema in RUNNER_PARAMETERS[self.runner].items()}
        for name, schema in self.own_parameters.items():
            merged[name] = {**merged.get(name, {}), **schema}
        return merged

    @property
    def output_key(self) -> str | None:
        return OUTPUT_KEYS.get(self.runner)

    def mask_parameters(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: dialect.mask(value, self.parameters.get(name)) for name, value in values.items()}


@dataclass
class Pack:
    """What of a pack StackStorm would register; ``problems`` says what it would not, and why."""

    directory: Path
    ref: str
    actions: dict[str, Action] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    sensors: list[dict[str, Any]] = field(default_factory=list)
    trigger_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    config_schema: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def metadata_files(directory: Path, kind: str) -> Iterator[Path]:
    """The metadata files of ``actions``, ``rules``, ``sensors``, ``aliases`` or ``policies``, sorted."""
    folder = directory / kind
    return iter(sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]))


def read_action(pack_ref: str, metadata: dict[str, Any]) -> Action:
    """Raises jsonschema.ValidationError, KeyError or ValueError where StackStorm refuses the file."""
    runner = metadata["runner_type"]
    if runner not in RUNNER_PARAMETERS or runner == "builtin":
        raise ValueError(f"runner_type {runner!r} is not one standalone can run")
    dialect.check_parameters(metadata.get("parameters") or {})
    output_schema = metadata.get("output_schema") or {}
    dialect.check_schema(output_schema)
    return Action(
        ref=f"{pack_ref}.{metadata['name']}",
        runner=runner,
        entry_point=metadata.get("entry_point") or "",
        description=metadata.get("description") or "",
        enabled=metadata.get("enabled", True),
        own_parameters=metadata.get("parameters") or {},
        output_schema=output_schema,
    )


def load_pack(directory: Path) -> Pack:
    """Read everything under ``directory``. Raises ConfigError if it is no pack at all."""
    directory = directory.absolute()
    about = load_yaml(directory / "pack.yaml")
    if not isinstance(about, dict) or not (about.get("ref") or about.get("name")):
        raise ConfigError("not_a_pack", f"{directory}/pack.yaml names no pack", "Give the folder of a pack.")
    pack = Pack(directory, str(about.get("ref") or about["name"]))
    for ref, parameters in BUILTIN_ACTIONS.items():
        pack.actions[ref] = Action(ref=ref, runner="builtin", own_parameters=parameters)
    for path in metadata_files(directory, "actions"):
        try:
            action = read_action(pack.ref, load_yaml(path))
        except (jsonschema.ValidationError, KeyError, ValueError, TypeError, ConfigError) as error:
            pack.problems.append(f"action not registered: {path.relative_to(directory)}: {_short(error)}")
        else:
            pack.actions[action.ref] = action
    for path in metadata_files(directory, "sensors"):
        sensor = load_yaml(path)
        pack.sensors.append(sensor)
        for trigger_type in sensor.get("trigger_types") or []:
            pack.trigger_types[f"{pack.ref}.{trigger_type['name']}"] = trigger_type
    for path in metadata_files(directory, "rules"):
        rule = load_yaml(path)
        rule["ref"] = f"{pack.ref}.{rule['name']}"
        pack.rules.append(rule)
    schema_file = directory / "config.schema.yaml"
    if schema_file.exists():
        pack.config_schema = load_yaml(schema_file) or {}
        try:
            dialect.check_parameters(pack.config_schema)
        except jsonschema.ValidationError as error:
            pack.problems.append(f"config.schema.yaml not registered: {_short(error)}")
    return pack


def _short(error: Exception) -> str:
    if isinstance(error, jsonschema.ValidationError):
        return error.message
    return f"no {error}" if isinstance(error, KeyError) else str(error)
