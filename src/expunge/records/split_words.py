"""How the split of a checkpoint was drawn, in words: for messages that name the flags to give."""

from __future__ import annotations

import json
from typing import Any

from ..data.split import Split
from .checkpoint import Checkpoint
from .record import plain

# parts of a split's description that messages show
_SHOWN = ("scenario", "forget_classes", "goal", "validation", "validation_from", "unseen_ids", "seed", "copies",
          "copies_included")  # fmt: skip
# entries of a split's description -> their flags
_FLAGS = {"goal": "--goal", "validation": "--validation", "validation_from": "--validation-from", "unseen_ids": "--unseen-ids",
          "seed": "--split-seed", "copies": "--copies"}  # fmt: skip
_FORGET_FLAGS = ("scenario", "forget_classes", "share", "count", "column")


def split_description(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how the split of a checkpoint was drawn (`Split.to_dict`); empty where the metadata does not say it."""
    try:
        description = json.loads(checkpoint.metadata.get("split", "{}"))
    except (ValueError, RecursionError):
        return {}
    return description if isinstance(description, dict) else {}


def set_size(checkpoint: Checkpoint, name: str) -> int | None:
    """Return the size of a set in the split of a checkpoint. None where the metadata does not say it."""
    sizes = split_description(checkpoint).get("sizes")
    size = sizes.get(name) if isinstance(sizes, dict) else None
    return size if type(size) is int else None


def trained_size(checkpoint: Checkpoint) -> int:
    """Return the number of samples that the model of a checkpoint or its original was trained on, from the sizes in its metadata."""
    drawn = split_description(checkpoint)
    sets = [set_size(checkpoint, name) or 0 for name in ("forget", "retain", "withheld")]
    removed, held_out = (int(drawn.get(name) or 0) for name in ("removed", "held_out"))
    return sum(sets) + removed - held_out


def flags_to_give(drawn: dict[str, Any], split: Split, *, forget: bool = True) -> str:
    """Return the flags in which a split differs from the one of a checkpoint, with the values of the checkpoint.

    Args:
        drawn: The description of the checkpoint's split. If it is empty, all flags are named.
        split: The split of this command.
        forget: Whether the forget sets must be the same. An original has none.
    """
    names = _FLAGS if forget else {k: v for k, v in _FLAGS.items() if k not in ("goal", "copies")}
    same = f"the same data{' and forget flags' if forget else ''}"
    if not drawn:
        return f"{same}, and the same {', '.join(names.values())}"
    now = plain(split.to_dict())
    parts = [
        _flag_text(flag, drawn.get(key)) for key, flag in names.items() if drawn.get(key) != now.get(key)
    ]
    if forget and any(drawn.get(key) != now.get(key) for key in _FORGET_FLAGS):
        parts = ["the same forget flags", *parts]
    return " and ".join(parts) or same


def _flag_text(flag: str, value: Any) -> str:
    """Return what to write for a flag. Of ids a split only knows the number."""
    if flag == "--unseen-ids" and value is not None:
        return f"{flag} with its file of {value:,} ids"
    return f"no {flag}" if value is None else f"{flag} {value}"


def in_words(description: dict[str, Any]) -> str:
    """Return how a split was drawn, as far as messages show it."""
    shown = {k: v for k, v in description.items() if k in _SHOWN and v != []}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items()) or "not said"
