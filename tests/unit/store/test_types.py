"""Whatever text, number or data comes from outside: it can be stored, and what was safe is not changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ioc_scan.store.types import Unsigned64, dump_json, safe_data, safe_text

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


@given(any_text)
def test_any_text_becomes_text_both_databases_take(text: str) -> None:
    safe = safe_text(text)
    assert "\x00" not in safe and safe.encode("utf-8").decode("utf-8") == safe
    assert safe_text(safe) == safe
    if "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text):
        assert safe == text


@given(plain)
def test_any_plain_data_is_stored_and_comes_back_safe(value: object) -> None:
    stored = dump_json(value)
    assert stored.isascii() and "\\u0000" not in stored
    back = json.loads(stored)
    assert back == safe_data(value)
    assert dump_json(back) == stored, "stored again it has the same digest"
    back_again = json.dumps(back, ensure_ascii=False)
    assert back_again.encode("utf-8")


def test_the_order_of_keys_does_not_matter_and_words_json_lacks_become_null() -> None:
    assert (
        dump_json({"b": 1, "a": [1.0, float("nan")]})
        == dump_json({"a": (1.0, None), "b": 1})
        == '{"a":[1.0,null],"b":1}'
    )
    assert dump_json({2: "mixed", "10": "keys"}) == '{"10":"keys","2":"mixed"}'


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_device_and_inode_numbers_keep_all_their_bits(number: int) -> None:
    column = Unsigned64()
    stored = column.process_bind_param(number, None)  # type: ignore[arg-type]
    assert stored is not None and -(2**63) <= stored < 2**63
    assert column.process_result_value(stored, None) == number  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [-1, 2**64])
def test_what_is_no_such_number_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        Unsigned64().process_bind_param(number, None)  # type: ignore[arg-type]
