"""Limits on all plain values of a checkpoint together, so that no model passes into an output in small pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .checkpoint_contents import (
    LONGEST_TEXT,
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_NUMBERS,
    Held,
    Keys,
    dotted,
    measure,
)
from .versions import versions_of

# Most numbers of all plain entries of an output; of a small model a tenth of its own, but at least as many as one entry may hold.
# Texts and bytes have the limits of one entry.
NUMBERS_IN_ALL = 10_000
# characters of a name that a message or an output shows, and of the path to the model
LONGEST_NAME, LONGEST_PATH = 100, 1_000
# dropped entries that the metadata of an output lists
MOST_LISTED = 50
# entry that marks metadata of Expunge
METADATA_ENTRY = "expunge"
# metadata of an exported file: the names that its tensors have in the model; no output inherits it
MODEL_NAMES = "model_names"
# longest texts of the metadata that Expunge writes; "requests" has no limit but one for each request
OWN = {
    "expunge": 100,
    "kind": 100,
    "train_hash": 200,
    "split_hash": 200,
    "retain_hash": 200,
    "key_id": 200,
    "split": MOST_CHARACTERS,
    "seed": 100,
    "inputs": LONGEST_TEXT,
    "recipe": LONGEST_TEXT,
    "method": 1_000,
    "settings": LONGEST_TEXT,
    "dropped": LONGEST_TEXT,
    "entry": LONGEST_PATH,
    "format": 100,
    MODEL_NAMES: 1_000_000,
}
# hashes of the sets of a run in the metadata, and the entry by which their key is recognised
HASHES, KEY_ID = ("split_hash", "train_hash", "retain_hash"), "key_id"
# what no output inherits, and what none inherits that has its own: hashes are those of one file, under its own key
NOT_INHERITED, OF_ONE_FILE = ("dropped", "entry", MODEL_NAMES), (*HASHES, KEY_ID, "requests", "split")
LONGEST_REQUEST = 1_000
# largest version of a module of torch is far below
LARGEST_VERSION = 1_000


def drop_above_total(kept: dict[Any, Any], keys: Keys, size: int) -> dict[str, str]:
    """Remove plain entries that are too many together; the smallest stay.

    Args:
        kept: The plain entries of a file, changed in place.
        keys: Where the state of the model is.
        size: Number of values of the model.

    Returns:
        {path: what there is} of the removed entries.
    """
    entries: list[tuple[int, Held, tuple[Any, ...], dict[Any, Any]]] = []
    inside, path = kept, tuple[Any, ...]()
    for k, key in enumerate((*keys, None)):
        # the metadata of Expunge has limits of its own
        plain = [n for n in inside if k == len(keys) or n != key]
        plain = [n for n in plain if k or n != METADATA_ENTRY]
        for name in plain:
            held = measure([name, inside[name]])
            entries.append((8 * held.numbers + held.characters + held.size, held, (*path, name), inside))
        if k == len(keys) or not isinstance(inside.get(key), dict):
            break
        inside, path = inside[key], (*path, key)
    total, dropped = Held(), {}
    numbers = min(NUMBERS_IN_ALL, max(MOST_NUMBERS, size // 10))
    for _, held, names, place in sorted(entries, key=lambda entry: entry[0]):
        total.numbers += held.numbers
        total.characters += held.characters
        total.size += held.size
        if text := _above(total, numbers):
            del place[names[-1]]
            dropped[dotted(names)] = text
    return dropped


def _above(total: Held, numbers: int) -> str:
    if total.numbers > numbers:
        return f"more than {numbers:,} numbers with the other entries"
    if total.characters > MOST_CHARACTERS:
        return f"more than {MOST_CHARACTERS:,} characters with the other entries"
    return f"more than {MOST_BYTES:,} bytes with the other entries" if total.size > MOST_BYTES else ""


def short_texts(texts: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Separate metadata into texts that may stay and {name: length} of what is too long, alone or with the others.

    Raises:
        CheckpointError: An entry of the list of answered requests is longer than Expunge writes it.
    """
    is_own = len(texts.get(METADATA_ENTRY, "")) <= OWN[METADATA_ENTRY] and METADATA_ENTRY in texts
    kept, dropped, total = {}, {}, 0
    for name, text in sorted(texts.items(), key=lambda item: len(item[0]) + len(item[1])):
        if is_own and name == "requests":
            _check_requests(text)
            kept[name] = text
        elif is_own and name in OWN:
            if len(text) <= OWN[name]:
                kept[name] = text
        elif len(text) <= LONGEST_TEXT and total + len(name) + len(text) <= MOST_CHARACTERS:
            total += len(name) + len(text)
            kept[name] = text
        if name not in kept:
            dropped[f"metadata {name}"] = f"{len(text):,} characters"
    return {name: text for name, text in texts.items() if name in kept}, dropped


def _check_requests(text: str) -> None:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    entries = listed if isinstance(listed, list) else [text]
    for entry in entries:
        known = {k: v for k, v in entry.items() if k != "classes"} if isinstance(entry, dict) else entry
        classes = entry.get("classes") if isinstance(entry, dict) else None
        if len(json.dumps(known)) > LONGEST_REQUEST or measure(classes).text():
            raise CheckpointError(
                "the metadata of the checkpoint has a list of requests that is longer than Expunge writes it; use an intact copy."
            )


def sound_versions(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of modules that have tensors in a state dict: the others migrate nothing."""
    modules = {""}
    for name, value in container.items():
        if isinstance(value, Tensor):
            parts = name.split(".")
            modules |= {".".join(parts[:k]) for k in range(1, len(parts))}
    return {
        module: {"version": values["version"]}
        for module, values in versions_of(container).items()
        if module in modules
        and type(values.get("version")) is int
        and 0 <= values["version"] <= LARGEST_VERSION
    }


def check_path(keys: Keys) -> None:
    """Raise `CheckpointError` if the names of the entries around the model are too long to be names."""
    if len(dotted(keys)) > LONGEST_PATH:
        raise CheckpointError(
            f"the model stands under names of {len(dotted(keys)):,} characters ('{dotted(keys)[:LONGEST_NAME]}...'); save its state "
            "dict under a short name."
        )
