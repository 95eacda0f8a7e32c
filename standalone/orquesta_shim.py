"""Makes orquesta 1.2.0 from PyPI run on today's Python and networkx, with StackStorm's functions in it.

StackStorm 3.9 pins a later orquesta that is not on PyPI. Import this module before anything of orquesta.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import networkx

from standalone import templates

_conducting = threading.RLock()
_current: dict[str, Any] = {}


def _apply() -> None:
    """Before orquesta is imported: names that Python and networkx have dropped since."""
    for name in ("Mapping", "MutableMapping", "MutableSequence", "Sequence"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    if not hasattr(networkx.Graph, "node"):
        networkx.Graph.node = property(lambda graph: graph.nodes)
    graphing = importlib.import_module("orquesta.graphing")
    graphing.WorkflowGraph.get_root_nodes = staticmethod(_root_nodes)
    inline: Any = importlib.import_module("orquesta.utils.parameters")
    for word in ("true", "false"):  # a flag in mid-pattern is an error since Python 3.11
        inline.REGEX_INLINE_PARAMS = inline.REGEX_INLINE_PARAMS.replace(f"(?i){word}", f"(?i:{word})")


def _root_nodes(graph: Any) -> list[dict[str, Any]]:
    roots = (node for node, degree in graph.in_degree() if degree == 0)
    return sorted(
        ({"id": node, "name": graph.nodes[node].get("name", node)} for node in roots),
        key=lambda root: str(root["id"]),
    )


@contextmanager
def conducting(
    get_value: Callable[[str], str | None] | None = None, task_results: dict[str, Any] | None = None
) -> Iterator[None]:
    """Hold this around every call into orquesta: YAQL is not safe for threads."""
    with _conducting:
        before = dict(_current)
        _current.update(get_value=get_value, task_results=task_results or {})
        try:
            yield
        finally:
            _current.clear()
            _current.update(before)


def _st2kv(context: Any, key: str, **options: Any) -> Any:
    """``st2kv('system.key', default => x)``; without a default a missing key is an error."""
    from orquesta import exceptions

    scope, _, name = key.partition(".")
    get_value = _current.get("get_value")
    value = get_value(name if scope == "system" else f"user:{name}") if get_value and name else None
    if value is None:
        if "default" in options:
            return options["default"]
        raise exceptions.ExpressionEvaluationException(f'The key "{key}" does not exist in the datastore.')
    return value


def _task(context: Any, task_id: str) -> Any:
    """``task('name')``: status and result of the last run of that task."""
    from orquesta import exceptions

    found = (_current.get("task_results") or {}).get(task_id)
    if found is None:
        raise exceptions.ExpressionEvaluationException(f'Unable to find task execution for "{task_id}".')
    return found


def has_function(name: str) -> bool:
    """Whether a YAQL expression can call ``name(...)``."""
    from orquesta.expressions import yql

    return any(yql.YAQLEvaluator._root_ctx.collect_functions(name))


def _register() -> None:
    """StackStorm's own expression functions, which orquesta does not bring."""
    from orquesta.expressions import jinja, yql
    from orquesta.expressions.functions import base

    functions: dict[str, Callable[..., Any]] = {"st2kv": _st2kv, "task": _task}
    functions.update({name: f for name, f in templates.FILTERS.items() if name != "decrypt_kv"})
    catalog = base.load()
    for name, function in functions.items():
        catalog[name] = function
        yql.YAQLEvaluator._root_ctx.register_function(function, name=name)
        jinja.JinjaEvaluator._jinja_env.filters[name] = function


_apply()
_register()
