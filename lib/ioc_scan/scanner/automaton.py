"""Runs the program of a regular expression over a text, in time linear in the text whatever the pattern.

The control side compiles patterns (``ioc_scan.openioc.patterns``); here their states are worked out as the
text needs them and kept, so that a character usually costs one look-up.
"""

from __future__ import annotations

from typing import Any, Sequence

#: States kept before starting afresh; bounds memory for patterns with very many.
MAX_STATES = 1000
MAX_INSTRUCTIONS = 5000
#: Different characters remembered per state.
MAX_CHARS = 256
#: Characters of one text that are looked at; longer texts are cut (paths are shorter).
MAX_TEXT_CHARS = 65536

_KINDS = frozenset({"begin", "end", "line_begin", "line_end", "word", "not_word"})
# what stands before and after a position
_EDGE, _WORD, _OTHER, _NEWLINE = 0, 1, 2, 3


def check_program(program: object) -> bool:
    """Is this a program whose every jump stays inside it?"""
    if not isinstance(program, list) or not 1 <= len(program) <= MAX_INSTRUCTIONS or program[-1] != ["m"]:
        return False
    size = len(program)
    for step in program:
        if not isinstance(step, list) or not step:
            return False
        name, rest = step[0], step[1:]
        if name == "c":
            if (
                len(rest) != 3
                or not isinstance(rest[2], list)
                or not all(_is_range(pair) for pair in rest[2])
            ):
                return False
        elif name in ("s", "j"):
            if len(rest) != (2 if name == "s" else 1) or not all(
                type(to) is int and 0 <= to < size for to in rest
            ):
                return False
        elif name == "a":
            if len(rest) != 1 or rest[0] not in _KINDS:
                return False
        elif step != ["m"]:
            return False
    return True


def _is_range(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)


def _kind(char: str) -> int:
    if char == "\n":
        return _NEWLINE
    return _WORD if char == "_" or (char.isascii() and char.isalnum()) else _OTHER


class _State:
    __slots__ = ("before", "next", "places")

    def __init__(self, places: frozenset[int], before: int) -> None:
        self.places = places
        self.before = before
        self.next: dict[str, _State | None] = {}


class Automaton:
    """``search(text)``: is the pattern found anywhere in the text?"""

    def __init__(self, program: list[list[Any]]) -> None:
        self._program = program
        self._looks = any(step[0] == "a" for step in program)
        self._states: dict[tuple[frozenset[int], int], _State] = {}
        self._start = _State(frozenset(), _EDGE)

    def search(self, text: str) -> bool:
        state = self._start
        for char in text[:MAX_TEXT_CHARS]:
            try:
                following = state.next[char]
            except KeyError:
                following = self._step(state, char)
                if len(state.next) >= MAX_CHARS:
                    state.next.clear()
                state.next[char] = following
            if following is None:
                return True
            state = following
        return self._closure(state, _EDGE) is None

    def _state(self, places: frozenset[int], before: int) -> _State:
        key = (places, before)
        state = self._states.get(key)
        if state is None:
            if len(self._states) >= MAX_STATES:
                self._states.clear()
                self._start.next.clear()
            state = self._states[key] = _State(places, before)
        return state

    def _step(self, state: _State, char: str) -> _State | None:
        kind = _kind(char)
        places = self._closure(state, kind)
        if places is None:
            return None
        forms = {char, char.lower(), char.upper(), char.casefold()}
        plain, folded = (ord(char),), tuple(ord(form) for form in forms if len(form) == 1)
        reached = set()
        for place in places:
            _, negated, ignore_case, ranges = self._program[place]
            codes = folded if ignore_case else plain
            if any(low <= code <= high for code in codes for low, high in ranges) != negated:
                reached.add(place + 1)
        return self._state(frozenset(reached), kind if self._looks else _EDGE)

    def _closure(self, state: _State, after: int) -> Sequence[int] | None:
        """Places that take a character next; None once the pattern is found. A search may begin anywhere."""
        seen: set[int] = set()
        stack = [0, *state.places]
        takers = []
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            step = self._program[place]
            name = step[0]
            if name == "m":
                return None
            if name == "c":
                takers.append(place)
            elif name == "s":
                stack += step[1:]
            elif name == "j":
                stack.append(step[1])
            elif self._holds(step[1], state.before, after):
                stack.append(place + 1)
        return takers

    @staticmethod
    def _holds(kind: str, before: int, after: int) -> bool:
        if kind == "begin":
            return before == _EDGE
        if kind == "end":
            return after == _EDGE
        if kind == "line_begin":
            return before in (_EDGE, _NEWLINE)
        if kind == "line_end":
            return after in (_EDGE, _NEWLINE)
        return ((before == _WORD) != (after == _WORD)) == (kind == "word")
