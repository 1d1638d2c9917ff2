"""Other ways to write an id: Unicode forms, backslashes, `./`, absolute paths; and the ids that are most like it."""

from __future__ import annotations

import difflib
import os
import posixpath
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

# ids that are compared letter by letter to find the nearest
MOST_COMPARED = 20_000
# unknown ids whose nearest id is looked for
SHOWN_NEAREST = 3


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: a byte of a file name that is no UTF-8 becomes `\\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def composed(text: str) -> str:
    """Return the text in Unicode form NFC. macOS writes file names in form NFD."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Return the text without differences of Unicode form, case and spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def twins(names: Iterable[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """Return (name, other id) for each name of which another id is a Unicode form: receipts take both for one id.

    Args:
        names: Some ids of the data.
        known: All ids of the data.
    """
    odd, plain = list[str](), set[str]()
    for name in known:
        (plain.add if name.isascii() else odd.append)(name)
    if not odd:
        return []
    forms: dict[str, list[str]] = {}
    for name in dict.fromkeys(odd):
        # some signs, such as that of Kelvin, have a letter of ASCII as their form
        forms.setdefault(form := composed(name), [form] if form in plain else []).append(name)
    return [(name, other) for name in names for other in forms.get(composed(name), ()) if other != name]


def resolve_ids(wanted: Collection[str], known: Iterable[str], root: str) -> dict[str, list[str]]:
    """Find the ids that are written in another way.

    Args:
        wanted: Ids that the data does not have as they are written.
        known: The ids of the data.
        root: The folder that ids are paths below; empty if they are no paths.

    Returns:
        {wanted id: the ids of the data that it means}. More than one are two Unicode forms of one name.
    """
    forms = {name: _forms(name, root) for name in wanted}
    needed = {form for of_name in forms.values() for form in of_name}
    matches: dict[str, list[str]] = {}
    for name in known:
        if (form := composed(name)) in needed:
            matches.setdefault(form, []).append(name)
    found = {name: next((matches[f] for f in of_name if f in matches), []) for name, of_name in forms.items()}
    return {name: ids for name, ids in found.items() if ids}


def _forms(name: str, root: str) -> list[str]:
    """The ways that the data may write an id, the likeliest first."""
    forms = [composed(name)]
    # A name that is no UTF-8 has backslashes of its own: \xe9.
    for path in dict.fromkeys((composed(name), composed(name).replace("\\", "/"))) if root else ():
        forms.append(posixpath.normpath(path))
        # a path of this computer: from the current folder, or absolute
        for base in (os.path.abspath(root), os.path.realpath(root)):
            for full in (os.path.abspath(path), os.path.realpath(path)):
                below = os.path.relpath(full, base)
                if not below.startswith(".."):
                    forms.append(composed(below.replace(os.sep, "/")))
    return list(dict.fromkeys(forms))


def nearest(wanted: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return "'A' is like 'B'" for the first ids that are like one of the data.

    An id is like another one if it differs in case or spaces only, if one path ends with the other, or by its letters.
    """
    names = list(known)
    by_fold = {folded(name): name for name in names}
    few = names if len(names) <= MOST_COMPARED else []
    sentences = []
    for name in list(wanted)[:SHOWN_NEAREST]:
        path = folded(name.replace("\\", "/"))
        ends = (n for f, n in by_fold.items() if path.endswith(f"/{f}") or f.endswith(f"/{path}"))
        like = (
            by_fold.get(path)
            or next(ends, None)
            or next(iter(difflib.get_close_matches(name, few, n=1, cutoff=0.8)), None)
        )
        if like is not None:
            sentences.append(f"'{name}' is like '{like}'")
    return sentences


def as_text(values: Any) -> np.ndarray:
    """Return `values` (N,) as an array of text that UTF-8 can hold. Variable-width text keeps its dtype."""
    array = np.asarray(values)
    if isinstance(array.dtype, np.dtypes.StringDType):
        return array
    array = array.astype(str)
    # Python gives the bytes of file names that are no UTF-8 as surrogates.
    numbers = np.ascontiguousarray(array).view(np.uint32) if array.itemsize else np.empty(0, np.uint32)
    if ((numbers >= 0xD800) & (numbers <= 0xDFFF)).any():
        array = np.array([encodable(text) for text in array.tolist()])
    return array


def as_group(values: Any) -> np.ndarray:
    """Return the values (N,) of a group. Texts are those of `as_text`."""
    array = np.asarray(values)
    return as_text(array) if array.dtype.kind == "U" else array


def frozen(array: np.ndarray, given: Any) -> np.ndarray:
    """Return an array that stays as it is: read-only, and without memory that the caller can write to."""
    if array.flags.writeable and not isinstance(given, list | tuple):
        # texts of fixed width have been copied
        array = array.copy() if array.dtype.kind != "U" else array
    array.flags.writeable = False
    return array
