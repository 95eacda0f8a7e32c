"""config.schema.yaml and the example that goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema

from standalone import dialect
from standalone.lint.model import Finding, LintPack, YamlFile
from standalone.lint.schemas import check_parameters

_LARGEST_BYTES = 128 * 1024  # config travels as one argument


def check(pack: LintPack) -> Iterator[Finding]:
    path = pack.directory / "config.schema.yaml"
    if not path.is_file():
        return
    schema = pack.yaml(path)
    if schema.error:
        yield Finding("file_unreadable", schema.name, schema.error_line, schema.error, "Correct the YAML.")
        return
    findings = list(check_parameters(schema, schema.data))
    yield from findings
    for name, item in schema.data.items():
        if isinstance(item, dict):
            yield from _item(schema, item, (name,), in_list=False)
    example_path = pack.directory / f"{pack.ref}.yaml.example"
    if example_path.is_file() and not findings:
        yield from _example(pack.yaml(example_path), schema.data)


def _item(file: YamlFile, item: dict[str, Any], path: tuple[Any, ...], *, in_list: bool) -> Iterator[Finding]:
    name = ".".join(str(part) for part in path)
    if item.get("required") is True and "default" not in item and not in_list:
        todo = (
            "It is not enforced while there is no config file, and makes upgrades fail: check it in the code."
        )
        yield file.finding("config_required", f"{name} is required and has no default", todo, *path)
    if not item.get("description"):
        yield file.finding("description_missing", f"{name} has no description", "Describe it.", *path)
    if "anyOf" in item or "oneOf" in item:
        todo = "Misspelt inner keys pass: use one shape."
        yield file.finding("config_any_of", f"{name} has alternatives", todo, *path)
    if (
        item.get("type") == "object"
        and item.get("properties")
        and item.get("additionalProperties") is not False
    ):
        todo = "Set additionalProperties: false, else misspelt keys pass."
        yield file.finding("config_section_open", f"{name} takes any key", todo, *path)
    for key, below in (item.get("properties") or {}).items():
        if isinstance(below, dict):
            yield from _item(file, below, (*path, "properties", key), in_list=in_list)
    items = item.get("items")
    if isinstance(items, dict) and items.get("properties"):
        shape = {**items, "description": "of the list"}
        yield from _item(file, shape, (*path, "items"), in_list=True)


def _example(file: YamlFile, schema: dict[str, Any]) -> Iterator[Finding]:
    if file.error:
        yield Finding("file_unreadable", file.name, file.error_line, file.error, "Correct the YAML.")
        return
    try:
        dialect.validate(file.data, dialect.parameters_schema(schema, open_top=True))
    except jsonschema.ValidationError as error:
        where = tuple(error.absolute_path)
        place = ".".join(str(part) for part in where) or "top level"
        yield file.finding("example_invalid", f"{place}: {error.message}", "Make it fit the schema.", *where)
    for name in file.data:
        if name not in schema:
            todo = "StackStorm accepts misspelt keys at the top level: correct it."
            yield file.finding("example_unknown_key", f"{name} is not in the schema", todo, name)
    yield from _secrets(file, file.data, {"properties": schema}, ())
    if file.path.stat().st_size > _LARGEST_BYTES:
        yield Finding(
            "config_too_large", file.name, None, "over 128 KiB", "Every action would fail: name files."
        )


def _secrets(file: YamlFile, value: Any, schema: Any, path: tuple[Any, ...]) -> Iterator[Finding]:
    if not isinstance(schema, dict):
        return
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _secrets(file, below, (schema.get("properties") or {}).get(name), (*path, name))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _secrets(file, below, schema.get("items"), (*path, number))
    elif schema.get("secret") and "decrypt_kv" in str(value):
        todo = "Leave decrypt_kv out: secret values decrypt by themselves."
        yield file.finding("secret_decrypt_kv", f"{path[-1]} uses decrypt_kv", todo, *path)
    elif schema.get("secret") and "{{" in str(value) and not str(value).strip().startswith("{{"):
        todo = "Every action would fail (Odd-length string): keep the expression alone."
        yield file.finding("secret_with_text", f"{path[-1]} has text around its expression", todo, *path)
