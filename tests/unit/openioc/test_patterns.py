# ruff: noqa: E501
"""Patterns: the same on a device as in RE2, in linear time, or refused with a reason."""

from __future__ import annotations

import time

import pytest
from ioc_scan.openioc.pattern_syntax import PatternError
from ioc_scan.openioc.patterns import compile_pattern, repeats_repetitions, required_literal
from ioc_scan.scanner.automaton import MAX_STATES, Automaton, check_program


def found(pattern: str, text: str, ignore_case: bool = True) -> bool:
    program = compile_pattern(pattern, ignore_case=ignore_case)
    assert check_program(program)
    return Automaton(program).search(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        ("B", "abc", True),
        (r"^\D+$", "abc", True),
        (r"^\d+$", "12\n", False),  # $ is the very end, as in RE2
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("(?m)^c$", "ab\nc\nd", True),
        (r"\bcat\b", "the cat sat", True),
        (r"\bcat\b", "concat", False),
        (r"\Bcat", "concat", True),
        ("x{2,3}y", "axxy", True),
        ("x{2,3}y", "axy", False),
        ("a{,2}", "a{,2}", True),  # braces that count nothing are themselves
        ("[[:digit:]]+-[^[:alpha:]]", "12-3", True),
        (r"[\w.-]+@", "me.too@", True),
        (r"\x41\x{42}", "ab", True),
        (r"\Qa.b\E+", "a.bb", True),
        ("(?i:ABC)d", "abcD", True),
        ("(?P<n>a)|b", "b", True),
        ("", "", True),
        ("stra\u00dfe", "STRASSE", False),  # one character for one
        ("\u00c4rger", "\u00e4RGER", True),
        ("(a|b)*?c", "ababc", True),
    ],
)
def test_what_is_found(pattern: str, text: str, expected: bool) -> None:
    assert found(pattern, text) is expected


def test_case_can_matter() -> None:
    assert not found("B", "abc", ignore_case=False)
    assert found("(?i)B", "abc", ignore_case=False)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)", "linear time"),
        ("(?<!a)b", "linear time"),
        (r"(a)\1", "linear time"),
        ("a++", "repetitions follow"),
        ("*a", "nothing to repeat"),
        ("(a", "not closed"),
        ("a)", "never opened"),
        ("[a", "ends too early"),
        (r"\x{41", "not closed"),
        (r"\x4", "two hex digits"),
        ("[z-a]", "before it begins"),
        ("a{1001}", "0 to 1000"),
        (r"\pL", "not known to devices"),
        ("(?>a)", "does not know"),
        ("(((){50}){50}){50}", "RE2 says"),
        ("(((a{30}){30}){30})", "steps"),
        ("a{900}b{900}", "steps"),
        ("x" * 3000, "characters"),
    ],
)
def test_what_is_refused_says_why(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError) as refused:
        compile_pattern(pattern, ignore_case=True)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "(a*)*b", "(a|aa)+$", "(.*)(.*)(.*)(.*)x", "([a-z]+)*!", "(a?){30}a{30}"]
)
def test_time_is_linear_where_backtracking_is_not(pattern: str) -> None:
    automaton = Automaton(compile_pattern(pattern, ignore_case=True))
    begin = time.process_time()
    for length in (29, 1000, 20_000):
        automaton.search("a" * length + "?")
    assert time.process_time() - begin < 1.0


def test_very_many_states_are_bounded() -> None:
    automaton = Automaton(compile_pattern("(a|b)*a(a|b){12}c", ignore_case=True))
    text = "".join("ab"[(number * number // 7) % 2] for number in range(20_000))
    assert not automaton.search(text)
    assert len(automaton._states) <= MAX_STATES
    assert automaton.search("abbabbabbabbabaab" + "c") in (True, False)


def test_a_text_any_match_must_hold_is_found_beforehand() -> None:
    assert required_literal(r"^.*\\Evil\.exe$") == "\\evil.exe"
    assert required_literal("a|b") == ""
    assert required_literal("x(yz)*abc?d") == "ab"


def test_nested_repetition_is_seen() -> None:
    assert repeats_repetitions("^(a+)+$") and repeats_repetitions("((a*b)c)*")
    assert not repeats_repetitions("(ab)+c*") and not repeats_repetitions("(a{2,3})+")


@pytest.mark.parametrize(
    "program",
    [None, [], [["m"], ["x"]], [["j", 9], ["m"]], [["c", 0, 0, [[1]]], ["m"]], [["a", "up"], ["m"]], [["m"]] * 6000, [["s", 0, True], ["m"]]],
)  # fmt: skip
def test_a_program_from_outside_is_checked(program: object) -> None:
    assert not check_program(program)
