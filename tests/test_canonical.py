"""Canonical JSON: against literal strings, against json itself, and everything it must refuse."""

import hashlib
import json
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import ExpungeError
from expunge.receipts.canonical import (
    LARGEST,
    canonical,
    decimal_text,
    decimals,
    exact,
    file_form,
    parse,
    sha256,
    short_id,
)

text = st.text(st.characters(exclude_categories=["Cs"])).map(lambda s: unicodedata.normalize("NFC", s))
keys = st.text(st.characters(max_codepoint=127))
whole = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | text | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def test_the_form_is_the_literal_one():
    value = {"b": [1, -2, True, None], "a": 'é\n"', "A": {}, "_": LARGEST}
    assert canonical(value) == '{"A":{},"_":9007199254740991,"a":"é\\n\\"","b":[1,-2,true,null]}'.encode()


def test_hash_and_id_by_hand():
    digest = hashlib.sha256(b'{"a":1}').hexdigest()
    assert sha256({"a": 1}) == digest
    # 26 characters of 5 bits of the whole digest, taken by arithmetic in place of a base32 library
    bits = int(digest, 16) >> (256 - 130)
    letters = "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> (5 * (25 - i))) & 31] for i in range(26))
    assert short_id(digest, "ul-") == "ul-" + letters


@given(whole)
def test_the_form_is_that_of_rfc_8785(value):
    """By another implementation. Ours refuses more: floats, keys beyond ASCII, text that is not in NFC."""
    assert canonical(value) == pytest.importorskip("rfc8785").dumps(value)


@given(whole)
def test_both_forms_read_back_and_do_not_depend_on_order(value):
    assert parse(canonical(value)) == parse(file_form(value)) == value
    if isinstance(value, dict):
        assert canonical(dict(reversed(value.items()))) == canonical(value)


@pytest.mark.parametrize(
    "value, word",
    [
        (0.5, "float"),
        ({"a": [1, {"b": math.nan}]}, r"value\.a\[1\]\.b"),
        (2**53, "2\\^53"),
        (-(2**53), "2\\^53"),
        ({"é": 1}, "ASCII"),
        ({1: 2}, "ASCII"),
        ("e\u0301", "NFC"),
        ("\ud800", "surrogate"),
        (b"x", "bytes"),
        ((1, 2), "tuple"),
        ({1, 2}, "set"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_place(value, word):
    for function in (canonical, file_form):
        with pytest.raises(ExpungeError, match=word):
            function(value)


def test_all_problems_are_listed_at_once():
    with pytest.raises(ExpungeError) as caught:
        canonical({"a": 0.5, "b": ["e\u0301", 2**60]})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"b":2,"a":3}}',
        b"1.0",
        b"1e3",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":1',
        b"",
        b"\xff",
        b'"\xc3"',
        b"[" * 100_000,
        b"1" * 5000,
        b"{} {}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_files_with_more_than_one_meaning_are_refused(data):
    with pytest.raises(ExpungeError):
        parse(data)


def test_floats_are_read_where_asked_but_never_a_key_twice():
    assert parse(b'{"a":0.5}', floats=True) == {"a": 0.5}
    for data in (b'{"a":0.5,"a":0.5}', b"NaN"):
        with pytest.raises(ExpungeError):
            parse(data, floats=True)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_text_reads_back_to_the_bit(number):
    assert float(decimal_text(number)).hex() == number.hex()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_decimal_text_refuses_what_is_no_number(number):
    with pytest.raises(ExpungeError):
        decimal_text(number)


def test_settings_become_text():
    given_ = {
        "lr": 0.01,
        "small": 1e-05,
        "n": 3,
        "seed": 2**64,
        "on": True,
        "none": None,
        "t": (0.5, "e\u0301"),
    }
    assert decimals(given_) == {
        "lr": "0.01",
        "small": "1e-05",
        "n": 3,
        "seed": str(2**64),
        "on": True,
        "none": None,
        "t": ["0.5", "é"],
    }


@given(anything, anything)
def test_exact_tells_any_two_values_apart(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical(exact(one)) == canonical(exact(other))) == same


def test_exact_keeps_a_float_apart_from_its_text_and_from_its_mark():
    values = [0.5, "0.5", {"\\decimal": "0.5"}, {"decimal": "0.5"}, 1, 1.0, True, 2**60, str(2**60)]
    assert len({canonical(exact(v)) for v in values}) == len(values)


def test_keys_that_are_the_same_text_are_refused():
    """Two spellings of one character: a reader could take either value, and the hash would hide the other."""
    with pytest.raises(ExpungeError, match="same text in NFC"):
        exact({"\u00e9": 1, "e\u0301": 2})
