"""Write and read canonical JSON: one byte sequence for each value, in any language. Also the ids made from its SHA-256.

The form is that of RFC 8785, with further limits: ASCII keys, text in NFC, no floating-point numbers (languages print them
differently) and no integer beyond 2^53 - 1 (some languages round them). Fractions are text, written by `decimal_text`.

Own code: the package rfc8785 would replace one line, `json.dumps`. It stops at the first problem, does not say where it
is, and accepts floats and text that is not in NFC. The tests compare both.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import unicodedata
from typing import Any, NoReturn

from ..errors import ExpungeError, raise_all

LARGEST = 2**53 - 1
ID_LENGTH = 26  # base32 characters: 130 bits


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON. Raises `ExpungeError` listing everything that has no such form."""
    _refuse_odd(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def file_form(value: Any) -> bytes:
    """`value` in the one readable form that our files have: canonical but for indent and lines."""
    _refuse_odd(value)
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def sha256(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical form of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def short_id(digest: str, prefix: str) -> str:
    """A name for people: `prefix` and the first 26 characters of the base32 (RFC 4648) of a hex digest."""
    return prefix + base64.b32encode(bytes.fromhex(digest)).decode()[:ID_LENGTH]


def parse(text: bytes, *, floats: bool = False) -> Any:
    """The value of canonical JSON or its file form; with `floats`, of any JSON that has one meaning.

    Raises `ExpungeError` for what is not JSON in UTF-8, has a key twice, or holds NaN, infinity or (without
    `floats`) a floating-point number: readers disagree on the value of such files.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = sorted({k for k, _ in pairs if sum(k == other for other, _ in pairs) > 1})
            raise ExpungeError(f"the key {twice[0]!r} is there twice; a reader could take either value.")
        return found

    def refuse(number: str) -> NoReturn:
        raise ExpungeError(f"the number {number} is not an integer; write fractions as text.")

    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=unique,
            parse_constant=refuse,
            parse_float=float if floats else refuse,
        )
    except ExpungeError:
        raise
    except RecursionError:
        raise ExpungeError("the JSON is nested too deeply to be read.") from None
    except ValueError as error:  # broken JSON, broken UTF-8, absurdly long integers
        raise ExpungeError(f"not JSON in UTF-8: {error}.") from error


def decimal_text(number: float) -> str:
    """A float as the shortest decimal text that reads back as exactly this float. Raises `ExpungeError` for
    NaN
    and infinity, which have no decimal text."""
    if not math.isfinite(number):
        raise ExpungeError(f"{number} has no decimal text; leave it out or write None.")
    return repr(float(number))


def decimals(value: Any) -> Any:
    """Settings as canonical JSON can hold them: floats and integers beyond 2^53 - 1 as text, tuples as lists,
    text in NFC. `"0.5"` and `0.5` come out alike: a setting's type is known from its method."""
    if isinstance(value, dict):
        return {k: decimals(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [decimals(v) for v in value]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float):
        return decimal_text(value)
    if isinstance(value, int) and abs(value) > LARGEST:
        return str(value)
    return value


def exact(value: Any) -> Any:
    """Any JSON value as canonical JSON can hold it, different values staying different (but for text equal in
    NFC).

    Floats and large integers become `{"\\\\decimal": text}`; keys become ASCII, a backslash in them doubled,
    so that no key of a user can be taken for that mark.
    """
    if isinstance(value, dict):
        named = [(unicodedata.normalize("NFC", k), v) for k, v in value.items()]
        if len({k for k, _ in named}) < len(named):
            raise ExpungeError(
                f"two keys of {sorted(value)[:5]} are the same text in NFC; a reader could take either value."
            )
        return {k.encode("unicode_escape").decode(): exact(v) for k, v in named}
    if isinstance(value, list | tuple):
        return [exact(v) for v in value]
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > LARGEST):
        return {"\\decimal": decimals(value)}
    return decimals(value)


def _refuse_odd(value: Any) -> None:
    try:
        if not _is_fine(value):
            raise_all(_problems(value, "value"))
    except RecursionError:
        raise ExpungeError("the value is nested too deeply to be written.") from None


def _is_fine(value: Any) -> bool:
    """Whether `value` is surely without problems. Texts outside ASCII are left to `_problems`, which also names places."""
    kind = type(value)
    if kind is str:
        return value.isascii()
    if kind is int:
        return -LARGEST <= value <= LARGEST
    if kind is list:
        return all(map(_is_fine, value))
    if kind is dict:
        return all(type(k) is str and k.isascii() for k in value) and all(map(_is_fine, value.values()))
    return value is None or kind is bool


def _problems(value: Any, where: str) -> list[str]:
    """What in `value` has no canonical form, one sentence each."""
    if isinstance(value, dict):
        bad = [
            f"{where} has the key {k!r}; keys are ASCII text."
            for k in value
            if not (isinstance(k, str) and k.isascii())
        ]
        return bad + [p for k, v in value.items() for p in _problems(v, f"{where}.{k}")]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in _problems(v, f"{where}[{i}]")]
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            return [f"{where} holds half of a surrogate pair, which is not Unicode text."]
        good = unicodedata.is_normalized("NFC", value)
        return [] if good else [f"{where} is not in NFC; normalise it first."]
    if value is None or isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [] if abs(value) <= LARGEST else [f"{where} is {value}, beyond 2^53 - 1; write it as text."]
    return [f"{where} is {value!r}, a {type(value).__name__}; use text, integers, lists, dicts."]
