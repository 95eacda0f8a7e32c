"""Fuzz target, guided by coverage: whatever the bytes, reading them ends in a document or a refusal.

``python -m tests.security.openioc_fuzz CORPUS [libFuzzer options]``. Run by test_openioc_fuzz for a bounded time; for
longer: ``-max_total_time=3600``. What a document goes through here is all the control side does with one.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["ioc_scan"]):
    from ioc_scan.errors import InputError
    from ioc_scan.openioc.convert import convert
    from ioc_scan.openioc.explain import explain
    from ioc_scan.openioc.lint import lint
    from ioc_scan.openioc.pattern_syntax import PatternError
    from ioc_scan.openioc.patterns import compile_pattern
    from ioc_scan.openioc.plan import compile_plan
    from ioc_scan.openioc.reader import read_ioc
    from ioc_scan.openioc.stix import to_stix_bundle
    from ioc_scan.openioc.writer import write_ioc
    from ioc_scan.scanner.automaton import Automaton
    from ioc_scan.scanner.evaluate import Evaluator
    from ioc_scan.scanner.plan import PlanError, load_plan

ITEM = {
    "FileName": "a.exe",
    "FullPath": "/x/a.exe",
    "SizeInBytes": 5,
    "Md5sum": "0" * 32,
    "Modified": "2024-01-01",
}


def one_document(data: bytes) -> None:
    try:
        ioc = read_ioc(data)
    except InputError:
        return
    explain(ioc)
    lint(ioc, "kaspersky")
    written = write_ioc(ioc)
    again = read_ioc(written)
    if write_ioc(again) != written:
        raise AssertionError("what was written reads back as something else")
    for version in ("1.0", "1.1"):
        with contextlib.suppress(InputError):
            convert(ioc, version)
    to_stix_bundle(ioc)
    for binding in ("item", "host"):
        try:
            plan = load_plan(compile_plan([(data, "actionable")], binding=binding))
        except InputError:
            continue
        judge = Evaluator(plan, None)
        judge.needs_item("a.exe", "/x/a.exe", 5)
        judge.hash_mask(ITEM)
        judge.feed("FileItem", ITEM)
        judge.finish()


def one_plan(data: bytes) -> None:
    try:
        judge = Evaluator(load_plan(data), "linux")
    except PlanError:
        return
    judge.feed("FileItem", ITEM)
    judge.finish()


def one_pattern(data: bytes) -> None:
    try:
        program = compile_pattern(data.decode("utf-8", "replace"), ignore_case=True)
    except PatternError:
        return
    Automaton(program).search("aaaaaaaaaaaaaaaaaaaa!\n" * 20)


TARGETS = (one_document, one_plan, one_pattern)


def one_input(data: bytes) -> None:
    """The first byte says which target; a corpus of documents begins with ``<``."""
    if data[:1] in (b"p", b"r"):
        (one_plan if data[:1] == b"p" else one_pattern)(data[1:])
    else:
        one_document(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
