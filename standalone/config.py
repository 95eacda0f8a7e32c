"""The pack's configuration as its actions and sensors get it from StackStorm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
from ioc_scan.errors import ConfigError

from standalone import dialect, templates
from standalone.pack import Pack, load_yaml


def read_config(pack: Pack, source: Path | dict[str, Any] | None) -> dict[str, Any]:
    """The values of a config file, checked as at registration. None: no file, nothing is checked.

    As in StackStorm the top level is open (a misspelt key passes) and ``required`` is not enforced
    where there is no file. Raises ConfigError.
    """
    if source is None:
        return {}
    values = copy.deepcopy(source) if isinstance(source, dict) else load_yaml(source)
    where = "config" if isinstance(source, dict) else str(source)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError("config_invalid", f"{where} is not a mapping", "See ioc_scan.yaml.example.")
    schema = dialect.parameters_schema(pack.config_schema, open_top=True)
    try:
        dialect.validate(values, schema)
        _refuse_decrypt(values, pack.config_schema)
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "top level"
        raise ConfigError(
            "config_invalid",
            f"{where}: {place}: {error.message}",
            "Compare it with config.schema.yaml and the example.",
        ) from error
    return values


def _refuse_decrypt(values: dict[str, Any], schema: dict[str, Any]) -> None:
    for name, value in values.items():
        if (schema.get(name) or {}).get("secret") and "decrypt_kv" in str(value):
            raise jsonschema.ValidationError(
                "a secret value decrypts by itself, remove decrypt_kv", path=[name]
            )


def resolve_config(
    pack: Pack, values: dict[str, Any], get: Callable[[str], str | None], user: str
) -> dict[str, Any]:
    """``values`` with ``{{ st2kv... }}`` rendered (always to text, None if empty) and defaults filled in.

    Sections that are absent arrive with their defaults, arrays as ``[]``. Nothing is encrypted here, so
    a ``secret: true`` value is taken as it is. Raises ConfigError.
    """
    context = {"st2kv": templates.key_value_context(get, user)}

    def rendered(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {name: rendered(item, f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [rendered(item, f"{path}.{number}") for number, item in enumerate(value)]
        if not templates.is_expression(value):
            return value
        try:
            return templates.render(value, context) or None
        except jinja2.TemplateError as error:
            raise ConfigError(
                "config_not_rendered",
                f"Failed to render dynamic configuration value for key {path[1:]!r}: {error}",
                "Only {{ st2kv.system.<key> }} and {{ st2kv.user.<key> }} are known here.",
            ) from error

    config: dict[str, Any] = rendered(copy.deepcopy(values), "")
    filled: dict[str, Any] = _fill(config, pack.config_schema)
    return filled


def _fill(config: Any, schemas: dict[Any, Any]) -> Any:
    """Defaults into a mapping (schemas by key) or a list (schemas by index), in place, at every depth."""
    for name, schema in schemas.items():
        if not isinstance(schema, dict):
            continue
        is_list = isinstance(config, list)
        if "default" in schema and not is_list and name not in config:
            config[name] = copy.deepcopy(schema["default"])
        kind, value = schema.get("type"), config[name] if is_list else config.get(name)
        if kind == "object" and (schema.get("properties") or schema.get("additionalProperties")):
            config[name] = _fill(value or {}, _schemas_of(schema, value or {}))
        elif kind == "array" and isinstance(schema.get("items"), dict) and schema["items"]:
            config[name] = _fill(value or [], dict.fromkeys(range(len(value or [])), schema["items"]))
    return config


def _schemas_of(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    schemas = dict(schema.get("properties") or {})
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        schemas.update({name: extra for name in value if name not in schemas})
    return schemas
