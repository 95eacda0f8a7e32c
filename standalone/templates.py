"""Jinja as StackStorm has it: sandboxed, strict about undefined names, with the filters packs use."""

from __future__ import annotations

import functools
import json
import posixpath
import re
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.sandbox
import jsonpath_rw  # type: ignore[import-untyped]
import yaml

NONE_MARK = "%*****__%NONE%__*****%"  # what `use_none` writes for None; casts read it back


def to_json_string(
    value: Any, indent: int | None = None, sort_keys: bool = False, separators: tuple[str, str] = (",", ": ")
) -> str:
    return json.dumps(value, indent=indent, sort_keys=sort_keys, separators=separators)


def jsonpath_query(value: Any, query: str) -> list[Any] | None:
    return [match.value for match in parse_path(query).find(value)] or None


@functools.lru_cache(maxsize=256)
def parse_path(path: str) -> Any:
    """A compiled JSONPath; rule criteria keys are JSONPaths."""
    return jsonpath_rw.parse(path)


def _flags(ignorecase: bool) -> int:
    return re.IGNORECASE if ignorecase else 0


def regex_match(value: str, pattern: str = "", ignorecase: bool = False) -> bool:
    return re.match(pattern, value, _flags(ignorecase)) is not None


def regex_search(value: str, pattern: str = "", ignorecase: bool = False) -> bool:
    return re.search(pattern, value, _flags(ignorecase)) is not None


def regex_replace(value: str, pattern: str = "", replacement: str = "", ignorecase: bool = False) -> str:
    return re.sub(pattern, replacement, value, flags=_flags(ignorecase))


FILTERS: dict[str, Callable[..., Any]] = {
    "basename": posixpath.basename,
    "decrypt_kv": str,  # values are not encrypted here
    "dirname": posixpath.dirname,
    "from_json_string": lambda value: json.loads(str(value)),
    "from_yaml_string": lambda value: yaml.safe_load(str(value)),
    "json_escape": lambda value: json.dumps(value).strip('"'),
    "jsonpath_query": jsonpath_query,
    "regex_match": regex_match,
    "regex_replace": regex_replace,
    "regex_search": regex_search,
    "to_complex": json.dumps,
    "to_json_string": to_json_string,
    "to_yaml_string": lambda value: yaml.safe_dump(value, default_flow_style=False, allow_unicode=True),
    "use_none": lambda value: NONE_MARK if value is None else value,
}


@functools.lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    made = jinja2.sandbox.SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(FILTERS)
    return made


def is_expression(value: Any) -> bool:
    """Whether StackStorm would take this value for a template: it only looks for an opening mark."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def render(template: str, context: dict[str, Any]) -> str:
    """Raises jinja2.TemplateError."""
    return environment().from_string(template).render(context)


class KeyValueLookup:
    """``st2kv.system.a.b`` in a template: the stored text, or the empty text where there is none."""

    def __init__(self, get: Callable[[str], str | None], name: str = "") -> None:
        self._get = get
        self._name = name

    def __getattr__(self, name: str) -> KeyValueLookup:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> KeyValueLookup:
        return KeyValueLookup(self._get, f"{self._name}.{name}" if self._name else name)

    def __str__(self) -> str:
        return self._get(self._name) or ""


def key_value_context(get: Callable[[str], str | None], user: str) -> dict[str, Any]:
    """The ``st2kv`` name of a template: system values, and those of one user (stored as ``user:name``)."""
    return {
        "system": KeyValueLookup(get),
        "user": KeyValueLookup(lambda name: get(f"{user}:{name}")),
    }
