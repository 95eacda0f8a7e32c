"""Traps in the Python of actions, sensors and lib/ that StackStorm's way of loading and running sets."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from standalone.lint.model import Finding, LintPack, PythonFile, called_name, imported_names, methods

_NETWORK = ("requests.", "urllib.", "urllib3.", "socket.", "http.client.", "httpx.", "ftplib.", "smtplib.")
_NETWORK_CALLS = ("urlopen", "create_connection", "connect")
_ST2_MODULES = ("st2common", "st2client", "st2reactor", "st2actions", "st2api")


def check(pack: LintPack) -> Iterator[Finding]:
    for kind in ("actions", "sensors"):
        for _, source in pack.python_entry_points(kind):
            yield from _dataclass(source)
            for found in source.classes:
                init = methods(found).get("__init__")
                if init is not None:
                    yield from _network(source, init)
            if kind == "actions":
                yield from _sleep(source)
            yield from _detached(source)
    for path in sorted((pack.directory / "lib").rglob("*.py")):
        source = pack.python(path)
        for node, name in imported_names(source.tree):
            if name.split(".")[0] in _ST2_MODULES:
                todo = "lib/ must work without StackStorm: import it in actions and sensors only."
                yield source.finding("lib_imports_st2", node, f"lib imports {name}", todo)
        yield from _detached(source)


def _dataclass(source: PythonFile) -> Iterator[Finding]:
    future = any(name == "__future__.annotations" for _, name in imported_names(source.tree))
    for found in source.classes if future else []:
        for decorator in found.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name == "dataclass":
                todo = "It crashes, for the file is not in sys.modules: move the class to lib/."
                yield source.finding("future_dataclass", found, "dataclass with postponed annotations", todo)


def _network(source: PythonFile, init: ast.FunctionDef) -> Iterator[Finding]:
    for node in ast.walk(init):
        if isinstance(node, ast.Call):
            name = called_name(node)
            if name.startswith(_NETWORK) or name.rpartition(".")[2] in _NETWORK_CALLS:
                todo = "Connect when run() or setup() needs it: __init__ has no timeout and hides the error."
                yield source.finding("network_in_init", node, f"__init__ calls {name}", todo)


def _sleep(source: PythonFile) -> Iterator[Finding]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called_name(node) in ("time.sleep", "sleep"):
            todo = "60 sleeping actions stop the node: look once, and let the workflow's retry wait."
            yield source.finding("action_sleeps", node, "an action sleeps", todo)


def _detached(source: PythonFile) -> Iterator[Finding]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or called_name(node).rpartition(".")[2] != "Popen":
            continue
        given = {keyword.arg for keyword in node.keywords}
        if "start_new_session" in given and not {"stdin", "stdout", "stderr"} <= given and None not in given:
            todo = "Give it /dev/null three times, else it holds the action open."
            yield source.finding("detached_child_output", node, "a detached child inherits output", todo)
