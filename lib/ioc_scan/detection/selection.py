"""Takes the few wanted parts out of a JSON report while it streams by; nothing else is ever kept.

A *wanted* tree says what: a dict goes down by keys, ``WHOLE`` keeps a value, ``Each(shape)`` hands out the
items of a list one by one, with only the keys of ``shape``. What has another type than expected is skipped
and counted: a report that lies about types costs its own part, not the detection.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import ijson
from ijson.common import JSONError

from ioc_scan.detection.reading import CHUNK_BYTES, ReportReader
from ioc_scan.errors import InputError

MAX_DEPTH = 200
MAX_KEPT_DEPTH = 12
MAX_KEPT_ITEMS = 4096
MAX_KEPT_CHARS = 16384

WHOLE = "whole"

_OPEN = frozenset({"start_map", "start_array"})
_STEP = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}

Events = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class Each:
    """The items of a list, or with ``of_map`` the values of an object, each with its key as ``_key``.

    ``shape`` is a dict of wanted keys, or None for the whole item.
    """

    shape: dict[str, Any] | None = None
    of_map: bool = False


@dataclass
class Selection:
    """Yields ``(path, value)``; ``losses`` counts what had to be skipped or cut."""

    reader: ReportReader
    wanted: dict[str, Any]

    def __post_init__(self) -> None:
        self.losses: Counter[str] = Counter()
        self.top_keys: set[str] = set()
        self._depth = 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        events = _events(self.reader)
        try:
            event, _ = next(events)
            if event != "start_map":
                raise InputError(
                    "report_wrong_schema", "the report is not a JSON object", "is it a sandbox report?"
                )
            self._depth = 1
            yield from self._map(events, self.wanted, "")
            for _ in events:  # to the very end, so that trailing garbage is seen and the digest is complete
                pass
        except (JSONError, ValueError, ArithmeticError) as error:
            raise _parse_error(error) from None

    def _map(self, events: Events, wanted: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for event, key in events:
            if event == "end_map":
                self._depth -= 1
                return
            if not path and len(self.top_keys) < 1000:
                self.top_keys.add(key)
            node = wanted.get(key)
            event, value = next(events)
            if node is None:
                if event in _OPEN:
                    self._skip(events)
                continue
            yield from self._node(events, event, value, node, f"{path}/{key}")

    def _node(
        self, events: Events, event: str, value: Any, node: Any, path: str
    ) -> Iterator[tuple[str, Any]]:
        if node == WHOLE:
            yield path, self._keep(events, event, value, None)
        elif event == "null":
            return
        elif isinstance(node, dict) and event == "start_map":
            self._depth += 1
            yield from self._map(events, node, path)
        elif isinstance(node, Each) and node.of_map and event == "start_map":
            self._depth += 1
            yield from self._values(events, node, path)
        elif isinstance(node, Each) and not node.of_map and event == "start_array":
            self._depth += 1
            for event, value in events:
                if event == "end_array":
                    self._depth -= 1
                    return
                item = self._keep(events, event, value, node.shape)
                if item is not None:
                    yield path, item
        else:
            # CAPE writes an empty list where a section has nothing to say; that is no lie
            if not self._is_empty(events, event, value):
                self.losses["unexpected_type"] += 1

    def _values(self, events: Events, node: Each, path: str) -> Iterator[tuple[str, Any]]:
        for event, key in events:
            if event == "end_map":
                self._depth -= 1
                return
            event, value = next(events)
            item = self._keep(events, event, value, node.shape)
            if isinstance(item, dict):
                yield path, {**item, "_key": key[:200]}

    def _is_empty(self, events: Events, event: str, value: Any) -> bool:
        if event not in _OPEN:
            return value in ("", None, False)
        following, _ = next(events)
        if following in ("end_map", "end_array"):
            return True
        self._depth += 1
        if following in _OPEN:
            self._skip(events)
        self._skip(events, opened=True)
        return False

    def _keep(self, events: Events, event: str, value: Any, shape: dict[str, Any] | None) -> Any:
        """Build one value, bounded. With a shape, an item that is no map is a loss."""
        if shape is not None and event != "start_map":
            if event in _OPEN:
                self._skip(events)
            if event != "null":
                self.losses["unexpected_type"] += 1
            return None
        return self._build(events, event, value, shape, 0)

    def _build(self, events: Events, event: str, value: Any, shape: dict[str, Any] | None, level: int) -> Any:
        if event == "string":
            if len(value) > MAX_KEPT_CHARS:
                self.losses["text_cut"] += 1
                return value[:MAX_KEPT_CHARS]
            return value
        if event not in _OPEN:
            return _number(value) if event in ("number", "integer", "double") else value
        if level >= MAX_KEPT_DEPTH:
            self.losses["too_deep"] += 1
            self._skip(events)
            return None
        self._depth += 1
        built = (
            self._build_map(events, shape, level) if event == "start_map" else self._build_list(events, level)
        )
        self._depth -= 1
        return built

    def _build_map(self, events: Events, shape: dict[str, Any] | None, level: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for event, key in events:
            if event == "end_map":
                break
            event, value = next(events)
            inner = None if shape is None else shape.get(key)
            if (shape is not None and inner is None) or (key not in kept and len(kept) >= MAX_KEPT_ITEMS):
                if shape is None:
                    self.losses["items_cut"] += 1
                if event in _OPEN:
                    self._skip(events)
                continue
            below = inner if isinstance(inner, dict) and event == "start_map" else None
            kept[key[:1024]] = self._build(events, event, value, below, level + 1)
        return kept

    def _build_list(self, events: Events, level: int) -> list[Any]:
        kept: list[Any] = []
        for event, value in events:
            if event == "end_array":
                break
            if len(kept) >= MAX_KEPT_ITEMS:
                self.losses["items_cut"] += 1
                if event in _OPEN:
                    self._skip(events)
                continue
            kept.append(self._build(events, event, value, None, level + 1))
        return kept

    def _skip(self, events: Events, opened: bool = False) -> None:
        """Pass over the container whose start was just read, without keeping anything."""
        base = self._depth - 1 if opened else self._depth
        depth = base + 1
        step = _STEP
        for event, _ in events:
            if event in step:
                depth += step[event]
                if depth == base:
                    break
                if depth > MAX_DEPTH:
                    raise InputError(
                        "report_too_deep",
                        f"the report nests deeper than {MAX_DEPTH} levels",
                        "no sandbox writes that: look at where the report comes from",
                    )
        self._depth = base


def _events(reader: ReportReader) -> Events:
    """Parser events, pushed chunk by chunk: an error inside the parser comes out at the push, cleanly.
    ijson's pulling interface goes on after one, which was seen to end in a crash of the interpreter."""
    batch = ijson.sendable_list()
    parser = ijson.basic_parse_coro(batch)

    def batches() -> Iterator[list[tuple[str, Any]]]:
        while chunk := reader.read(CHUNK_BYTES):
            parser.send(chunk)
            yield list(batch)
            batch.clear()
        parser.close()
        yield list(batch)

    return itertools.chain.from_iterable(batches())


def _number(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() and abs(value) < 10**18 else float(value)


def _parse_error(error: Exception) -> InputError:
    text = str(error).lower()
    if "premature" in text or "incomplete" in text:
        return InputError("report_truncated", "the report ends in the middle", "fetch the report again")
    return InputError("report_not_json", "the report is not valid JSON", "fetch the report again")
