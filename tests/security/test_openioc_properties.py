"""What holds for every document and every host: reading gives back what was written, evaluation is as the plainest
oracle says, and the shortcuts of a file walk never lose a match."""

from __future__ import annotations

import re
from typing import Any

import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ioc_scan.openioc.content import ContentError, build_test
from ioc_scan.openioc.model import Ioc
from ioc_scan.openioc.pattern_syntax import PatternError
from ioc_scan.openioc.patterns import compile_pattern, required_literal
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.writer import write_ioc
from ioc_scan.scanner.automaton import Automaton
from ioc_scan.scanner.evaluate import HASH_FIELDS, Evaluator
from ioc_scan.scanner.plan import load_plan

from tests.security.openioc_oracle import document_matches, document_matches_host_wide
from tests.security.openioc_strategies import HOSTS, any_documents, evaluable_documents

BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@BOUNDED
@given(any_documents())
def test_reading_gives_back_what_was_written(ioc: Ioc) -> None:
    data = write_ioc(ioc)
    again = read_ioc(data)
    assert again == ioc
    assert write_ioc(again) == data


def _device_says(ioc: Ioc, host: dict[str, list[dict[str, Any]]], binding: str) -> bool:
    judge = Evaluator(load_plan(compile_plan([(write_ioc(ioc), "hunt")], binding=binding)), None)
    hits = [hit for name, items in host.items() for item in items for hit in judge.feed(name, item)]
    return bool(hits or judge.finish().matches)


@BOUNDED
@given(evaluable_documents(), HOSTS)
def test_evaluation_is_as_the_oracle_says(ioc: Ioc, host: dict[str, list[dict[str, Any]]]) -> None:
    assert _device_says(ioc, host, "item") == document_matches(ioc, host)


@BOUNDED
@given(evaluable_documents(), HOSTS)
def test_the_host_wide_reading_is_as_the_oracle_says(ioc: Ioc, host: dict[str, list[dict[str, Any]]]) -> None:
    assert _device_says(ioc, host, "host") == document_matches_host_wide(ioc, host)


@BOUNDED
@given(evaluable_documents(), HOSTS)
def test_a_walk_that_hashes_as_little_as_it_may_finds_the_same(
    ioc: Ioc, host: dict[str, list[dict[str, Any]]]
) -> None:
    plan = load_plan(compile_plan([(write_ioc(ioc), "hunt")]))
    whole, walk = Evaluator(plan, None), Evaluator(plan, None)
    for file in host["FileItem"]:
        # a walk always knows name, path, size and can hash; only what is read from inside a file may be missing
        complete = {
            **file,
            "FileName": file["FileName"] or "none",
            "FullPath": file["FullPath"] or "/none",
            "SizeInBytes": file["SizeInBytes"] or 7,
            "Sha256sum": file["Sha256sum"] or "c" * 64,
        }
        expected = whole.feed("FileItem", complete)
        name, path, size = complete["FileName"], complete["FullPath"], complete["SizeInBytes"]
        mask = walk.any_size_mask | walk.size_masks.get(size, 0)
        for low, high, more in walk.ranged_masks:
            mask |= more if low <= size <= high else 0
        item = {field: value for field, value in complete.items() if field not in HASH_FIELDS}
        wanted = name.casefold() in walk.exact_names or (
            walk.asks_more and walk.needs_item(name, path if walk.needs_path else "", size)
        )
        if wanted:
            mask |= walk.hash_mask(item)
        if mask & HASH_FIELDS["Sha256sum"]:
            item["Sha256sum"] = complete["Sha256sum"]
            wanted = wanted or bytes.fromhex(complete["Sha256sum"]) in walk.digests
        found = walk.feed("FileItem", item) if wanted else []
        assert {(hit.ioc_index, hit.document) for hit in found} == {
            (hit.ioc_index, hit.document) for hit in expected
        }
        assert len(found) == len(expected)


_PIECES = st.sampled_from(
    [
        "a",
        "b",
        "B",
        "ab",
        ".",
        "^",
        "$",
        r"\b",
        r"\B",
        r"\d",
        r"\W",
        "[ab]",
        "[^a]",
        "[a-c]",
        "[[:digit:]]",
        " ",
        "1",
        "_",
        "\n",
        r"\.",
        "(?i)",
        "(?s)",
        "(?m)",
    ]
)
_PATTERNS = st.recursive(
    st.lists(_PIECES, min_size=1, max_size=4).map("".join),
    lambda inner: st.one_of(
        st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])),
        st.builds("{}|{}".format, inner, inner),
        st.builds("({}{})".format, inner, inner),
    ),
    max_leaves=6,
)


@BOUNDED
@given(_PATTERNS, st.text("abAB1_ .\n\u00df\u0130k", max_size=12), st.booleans())
def test_the_automaton_finds_what_re2_finds(pattern: str, text: str, ignore_case: bool) -> None:
    try:
        program = compile_pattern(pattern, ignore_case=ignore_case)
    except PatternError:
        return
    options = re2.Options()
    options.case_sensitive = not ignore_case
    expected = re2.compile(pattern, options).search(text) is not None
    assert Automaton(program).search(text) == expected
    if expected:
        assert required_literal(pattern) in text.casefold()


@BOUNDED
@given(st.text(max_size=60))
def test_no_pattern_breaks_the_compiler(pattern: str) -> None:
    try:
        compile_pattern(pattern, ignore_case=True)
        required_literal(pattern)
    except PatternError:
        pass


@BOUNDED
@given(
    st.sampled_from(["string", "int", "float", "date", "duration", "bool", "ip", "md5", "sha1", "sha256"]),
    st.sampled_from(
        ["is", "contains", "matches", "starts-with", "ends-with", "greater-than", "less-than", "", "odd"]
    ),
    st.text(max_size=40)
    | st.from_regex(re.compile(r"\[?[0-9a-fT:. -]{0,20}( TO )?[0-9PTH.]{0,12}\]?"), fullmatch=True),
)
def test_no_content_breaks_the_compiler(kind: str, condition: str, content: str) -> None:
    try:
        build_test("FileItem/FileName", kind, condition, content)
    except ContentError as error:
        assert error.code and str(error)
