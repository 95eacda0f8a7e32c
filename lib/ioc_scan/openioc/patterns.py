"""Regular expressions that cost linear time everywhere: checked by RE2 here, run as a program on devices.

A pattern that RE2 does not take (look-around, back references, too much memory) is refused with its reason.
The program is a small automaton (``scanner/automaton.py`` runs it): a device needs neither RE2 nor Python's
``re``, whose time grows exponentially on patterns such as ``^(a+)+$``.

A program is a list of instructions: ``["c", negated, ignore_case, [[low, high], ...]]`` takes a character,
``["s", a, b]`` goes on at both, ``["j", a]`` at a, ``["a", kind]`` asks where it is, ``["m"]`` is the end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ioc_scan.openioc.pattern_syntax import PatternError, Tree, parse_pattern

__all__ = ["PatternError", "compile_pattern", "repeats_repetitions", "required_literal"]

#: Instructions; bounded repetitions are written out.
MAX_PROGRAM = 1000
_RE2_MEMORY_BYTES = 8 * 1024 * 1024


def compile_pattern(pattern: str, *, ignore_case: bool) -> list[list[Any]]:
    """The program of a pattern that searches anywhere in a text; not to be changed. Raises PatternError."""
    result = _compiled(pattern, ignore_case)
    if isinstance(result, tuple):
        raise PatternError(*result)
    return result


@lru_cache(maxsize=512)
def _compiled(pattern: str, ignore_case: bool) -> list[list[Any]] | tuple[str, str]:
    """Checking a file asks for the same pattern several times; refusals (message, hint) are kept too."""
    try:
        return _compile(pattern, ignore_case)
    except PatternError as error:
        return str(error), error.hint


def _compile(pattern: str, ignore_case: bool) -> list[list[Any]]:
    tree = parse_pattern(pattern, ignore_case)
    if _steps(tree) > MAX_PROGRAM:
        raise PatternError(f"it needs more than {MAX_PROGRAM} steps", "lower its repetitions")
    program: list[list[Any]] = []
    _emit(tree, program)
    program.append(["m"])
    _check_re2(pattern, ignore_case)
    return program


def _check_re2(pattern: str, ignore_case: bool) -> None:
    import re2  # here, so that only files with patterns pay for loading it

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.max_mem = _RE2_MEMORY_BYTES
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not RE2"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(
            f"RE2 says: {text[:150]}", "RE2's syntax: https://github.com/google/re2/wiki/Syntax"
        ) from None
    except UnicodeEncodeError:
        raise PatternError("it holds half of a surrogate pair") from None


def _steps(tree: Tree) -> int:
    """How long the program will be, before it is written out."""
    kind = tree[0]
    if kind in ("set", "at"):
        return 1
    if kind == "cat":
        return sum(_steps(part) for part in tree[1])
    if kind == "alt":
        return sum(_steps(part) + 2 for part in tree[1]) - 2
    inner, least, most = _steps(tree[1]), tree[2], tree[3]
    if most is None:
        return least * inner + inner + 2
    return least * inner + (most - least) * (inner + 1)


def _emit(tree: Tree, program: list[list[Any]]) -> None:
    kind = tree[0]
    if kind == "set":
        program.append(["c", tree[1], tree[2], [list(pair) for pair in tree[3]]])
    elif kind == "at":
        program.append(["a", tree[1]])
    elif kind == "cat":
        for part in tree[1]:
            _emit(part, program)
    elif kind == "alt":
        _emit_alternatives(tree[1], program)
    else:
        _emit_repetition(tree[1], tree[2], tree[3], program)


def _emit_alternatives(branches: tuple[Tree, ...], program: list[list[Any]]) -> None:
    ends = []
    for branch in branches[:-1]:
        split = len(program)
        program.append(["s", split + 1, 0])
        _emit(branch, program)
        ends.append(len(program))
        program.append(["j", 0])
        program[split][2] = len(program)
    _emit(branches[-1], program)
    for end in ends:
        program[end][1] = len(program)


def _emit_repetition(tree: Tree, least: int, most: int | None, program: list[list[Any]]) -> None:
    for _ in range(least):
        before = len(program)
        _emit(tree, program)
        if len(program) == before:  # it takes nothing: once is as good as a thousand times
            return
    if most is None:
        split = len(program)
        program.append(["s", split + 1, 0])
        _emit(tree, program)
        program.append(["j", split])
        program[split][2] = len(program)
        return
    splits = []
    for _ in range(most - least):
        splits.append(len(program))
        program.append(["s", len(program) + 1, 0])
        _emit(tree, program)
    for split in splits:
        program[split][2] = len(program)


def required_literal(pattern: str) -> str:
    """The longest text, casefolded, that lies in every casefolded text with a match; "" if none is sure."""
    runs, current = [""], ""
    tree = parse_pattern(pattern, True)
    for part in tree[1] if tree[0] == "cat" else (tree,):
        forms = {chr(low).casefold() for low, high in part[3] if low == high} if part[0] == "set" else set()
        if len(forms) == 1 and not part[1] and all(low == high for low, high in part[3]):
            current += forms.pop()
        else:
            runs.append(current)
            current = ""
    return max([*runs, current], key=len)


def repeats_repetitions(pattern: str) -> bool:
    """Does an endless repetition hold another one, on which engines that backtrack may hang?"""
    return _nested(parse_pattern(pattern, True), False)


def _nested(tree: Tree, repeated: bool) -> bool:
    if tree[0] == "rep":
        endless = tree[3] is None
        return (endless and repeated) or _nested(tree[1], repeated or endless)
    return tree[0] in ("cat", "alt") and any(_nested(part, repeated) for part in tree[1])
