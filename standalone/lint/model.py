"""What the checks share: findings, and a pack read tolerantly with the line of every key."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from ioc_scan.text import printable

from standalone.pack import Action, metadata_files, read_action


@dataclass(frozen=True)
class Finding:
    """One trap: ``code`` is stable, ``what`` says what is wrong, ``todo`` what to do about it."""

    code: str
    file: str
    line: int | None
    what: str
    todo: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.code}: {printable(self.what, 400)} -> {self.todo}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class YamlFile:
    """A metadata file; ``data`` is an empty mapping where it could not be read."""

    path: Path
    name: str
    data: dict[str, Any] = field(default_factory=dict)
    node: Any = None
    error: str | None = None
    error_line: int | None = None

    def line(self, *keys: Any) -> int | None:
        """Line of the value at these keys, or of the deepest one that is there."""
        node, line = self.node, None
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = [pair for pair in node.value if pair[0].value == str(key)]
                if not found:
                    break
                line, node = found[0][0].start_mark.line + 1, found[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def repeated_keys(self) -> Iterator[tuple[int, str]]:
        """(line, key) of every key that its mapping already has: YAML readers keep the last, silently."""
        waiting = [self.node] if self.node is not None else []
        while waiting:
            node = waiting.pop()
            if isinstance(node, yaml.SequenceNode):
                waiting += node.value
            elif isinstance(node, yaml.MappingNode):
                seen: set[str] = set()
                for key, value in node.value:
                    if key.value in seen:
                        yield key.start_mark.line + 1, str(key.value)
                    if isinstance(key.value, str):
                        seen.add(key.value)
                    waiting.append(value)

    def finding(self, code: str, what: str, todo: str, *keys: Any) -> Finding:
        return Finding(code, self.name, self.line(*keys), what, todo)


@dataclass
class PythonFile:
    """A source file; ``tree`` is empty where it does not parse."""

    path: Path
    name: str
    tree: ast.Module
    error: str | None = None
    error_line: int | None = None

    def finding(self, code: str, node: ast.AST | None, what: str, todo: str) -> Finding:
        return Finding(code, self.name, getattr(node, "lineno", None), what, todo)

    @property
    def classes(self) -> list[ast.ClassDef]:
        return [node for node in self.tree.body if isinstance(node, ast.ClassDef)]


class LintPack:
    """A pack as far as it can be read. What cannot is a finding of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.findings: list[Finding] = []
        self._python: dict[Path, PythonFile] = {}

    def name(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def yaml(self, path: Path) -> YamlFile:
        """Read one file; never raises."""
        read = YamlFile(path, self.name(path))
        try:
            text = path.read_text(encoding="utf-8")
            read.node = yaml.compose(text)
            data = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            read.error = str(error.problem)
            read.error_line = error.problem_mark.line + 1 if error.problem_mark else None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            read.error = str(error)
        else:
            if isinstance(data, dict):
                read.data = data
            elif data is not None:
                read.error = "the file holds no mapping"
        return read

    @cached_property
    def about(self) -> YamlFile:
        return self.yaml(self.directory / "pack.yaml")

    @cached_property
    def ref(self) -> str:
        return str(self.about.data.get("ref") or self.about.data.get("name") or self.directory.name)

    def _all(self, kind: str) -> list[YamlFile]:
        return [self.yaml(path) for path in metadata_files(self.directory, kind)]

    @cached_property
    def action_files(self) -> list[YamlFile]:
        return self._all("actions")

    @cached_property
    def rule_files(self) -> list[YamlFile]:
        return self._all("rules")

    @cached_property
    def sensor_files(self) -> list[YamlFile]:
        return self._all("sensors")

    @cached_property
    def alias_files(self) -> list[YamlFile]:
        return self._all("aliases")

    @cached_property
    def policy_files(self) -> list[YamlFile]:
        return self._all("policies")

    @cached_property
    def actions(self) -> dict[str, Action]:
        """Every action StackStorm would register, and its own core actions this pack may use."""
        from standalone.pack import BUILTIN_ACTIONS

        known = {ref: Action(ref, "builtin", own_parameters=p) for ref, p in BUILTIN_ACTIONS.items()}
        for file in self.action_files:
            try:
                action = read_action(self.ref, file.data)
            except (jsonschema.ValidationError, KeyError, ValueError, TypeError, AttributeError):
                continue
            known[action.ref] = action
        return known

    @cached_property
    def trigger_types(self) -> dict[str, dict[str, Any]]:
        """Declared trigger types by ref."""
        kinds = [k for file in self.sensor_files for k in file.data.get("trigger_types") or []]
        return {f"{self.ref}.{k['name']}": k for k in kinds if isinstance(k, dict) and "name" in k}

    def entry_point(self, file: YamlFile, folder: str) -> Path:
        return self.directory / folder / str(file.data.get("entry_point") or "")

    def python(self, path: Path) -> PythonFile:
        """Parse one file; never raises. Files are parsed once."""
        if path not in self._python:
            tree, error, line = ast.Module(body=[], type_ignores=[]), None, None
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
            except SyntaxError as problem:
                error, line = str(problem.msg), problem.lineno
            except (OSError, ValueError) as problem:
                error = str(problem)
            self._python[path] = PythonFile(path, self.name(path), tree, error, line)
        return self._python[path]

    def python_entry_points(self, kind: str) -> Iterator[tuple[YamlFile, PythonFile]]:
        """Metadata and source of every python action or sensor whose file is there."""
        for file in self.action_files if kind == "actions" else self.sensor_files:
            path = self.entry_point(file, kind)
            if path.suffix == ".py" and path.is_file():
                yield file, self.python(path)


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def called_name(node: ast.Call) -> str:
    """``a.b.c`` of a call ``a.b.c(...)``; a part that is no name is left out."""
    parts: list[str] = []
    target: ast.AST = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    if isinstance(target, ast.Name):
        parts.append(target.id)
    return ".".join(reversed(parts))


def imported_names(tree: ast.AST, *, top_level_only: bool = False) -> Iterator[tuple[ast.AST, str]]:
    """(node, dotted name) of everything imported; ``from a import b`` gives ``a.b``."""
    nodes = ast.iter_child_nodes(tree) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def required_lists(schema: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of ``required: [...]``; below ``properties`` a key of that name is a property."""
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from required_lists(item, (*path, number))
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "required" and isinstance(value, list):
            yield (*path, key)
        elif key in ("properties", "patternProperties", "definitions") and isinstance(value, dict):
            for name, below in value.items():
                yield from required_lists(below, (*path, key, name))
        elif key not in ("default", "enum"):
            yield from required_lists(value, (*path, key))
