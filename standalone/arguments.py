"""``key=value`` arguments, cast as the ``st2`` client casts them."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ioc_scan.errors import InputError

from standalone.pack import Action


def read_parameters(action: Action, arguments: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "@b=file"]`` as parameters of ``action``; an array may be given several times.

    Raises InputError.
    """
    given: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise InputError("argument_invalid", f"{argument!r} is not key=value", "Write key=value.")
        try:
            if name.startswith("@"):
                given[name[1:]] = Path(text).read_text(encoding="utf-8")
                continue
            kind = (action.parameters.get(name) or {}).get("type")
            value = _CASTS[kind](text) if kind in _CASTS else text
            given[name] = given[name] + value if kind == "array" and name in given else value
        except (OSError, ValueError, TypeError, SyntaxError) as error:
            raise InputError(
                "argument_invalid",
                f"{name}: {error}",
                f"{name} is of type {(action.parameters.get(name.lstrip('@')) or {}).get('type')}.",
            ) from error
    return given


def _array(text: str) -> Any:
    """JSON, or values between commas; a lone whole number is a list of one.

    An object or text in JSON passes: the action's schema refuses it.
    """
    try:
        return [int(text)]
    except ValueError:
        pass
    try:
        value = json.loads(text)
    except ValueError:
        return [part.strip() for part in text.split(",")]
    if not isinstance(value, (list, dict, str)):
        raise ValueError(f"{text} is no array")
    return value


def _object(text: str) -> Any:
    """JSON, or ``key=value`` pairs between commas."""
    if text.startswith("{"):
        return json.loads(text)
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def _boolean(text: str) -> Any:
    try:
        return ast.literal_eval(text.capitalize())
    except ValueError as error:
        raise ValueError("Valid values are: true, false") from error


_CASTS: dict[Any, Callable[[str], Any]] = {
    "array": _array,
    "boolean": _boolean,
    "integer": int,
    "number": float,
    "object": _object,
    "string": str,
}
