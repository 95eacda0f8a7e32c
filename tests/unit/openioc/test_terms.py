"""The table of terms, from which lint, plans, the page and the collectors follow."""

from __future__ import annotations

from ioc_scan.openioc.terms import SYSTEMS, TYPES, all_terms, find_term


def test_every_row_is_sound() -> None:
    terms = all_terms()
    assert len(terms) > 450
    for name, term in terms.items():
        assert name == f"{term.document}/{term.field}" and term.field, name
        assert term.type in TYPES, name
        assert set(term.collectors) <= set(SYSTEMS), name
        assert len(set(term.collectors.values())) <= 1, name


def test_terms_are_found_in_other_spellings() -> None:
    assert find_term("fileitem/SIZEINBYTES ") is find_term("FileItem/SizeInBytes")
    assert find_term("FileItem") is None
    assert find_term("HookItem/Foo") is None


def test_registry_terms_are_for_windows_only() -> None:
    registry = [term for term in all_terms().values() if term.document == "RegistryItem"]
    assert any(term.collectors for term in registry)
    assert all(set(term.collectors) <= {"windows"} for term in registry)
