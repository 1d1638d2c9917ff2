"""Which part of a checkpoint file is the model, and what the rest of the file is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..data.class_lists import stored_classes
from ..errors import CheckpointError
from .checkpoint_contents import (
    Keys,
    common_prefix,
    counters_of,
    data_text,
    dotted,
    find_states,
    is_state_dict,
    plain_names,
    shapes,
    state_at,
    without_data,
)
from .checkpoint_totals import (
    LONGEST_NAME,
    METADATA_ENTRY,
    check_path,
    drop_above_total,
    short_texts,
    sound_versions,
)

# entries of a torch file that may hold the state dict; the first that does is used
STATE_ENTRIES = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
# entries that a message shows
SHOWN = 8


class Chosen(NamedTuple):
    """Where the state dict is, the beginning of names that chose it, and its entries without this beginning."""

    keys: Keys
    prefix: str
    entries: Mapping[str, Any]


@dataclass
class Parts:
    """The fields of a `Checkpoint` that come from the content of its file."""

    state: dict[str, Tensor]
    metadata: dict[str, str]
    keys: Keys
    prefix: str
    counters: dict[str, Tensor]
    rest: dict[Any, Any] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    other_states: list[str] = field(default_factory=list)
    versions: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Content:
    """The parts of a file, and the entries of its state dict that are no tensors."""

    parts: Parts
    no_tensors: list[str]


def choose_state(file: Path, loaded: Any, ema: str | None) -> Chosen:
    """Find the model in what a file holds.

    Args:
        file: The file, for messages.
        loaded: Its content.
        ema: The entry that the user named, if any.

    Raises:
        CheckpointError: There is no model, no such entry, or no way to tell which of several models is meant.
    """
    if ema is not None:
        if (chosen := state_at(loaded, ema)) is None:
            raise CheckpointError(_unknown(file, loaded, ema))
        return Chosen(*chosen)
    if is_state_dict(loaded):
        return Chosen((), "", loaded)
    states = find_states(loaded)
    usual = [(k,) for k in STATE_ENTRIES if (k,) in states]
    top = [keys for keys in states if len(keys) == 1] if isinstance(loaded, Mapping) else []
    if not usual + top and len(states) > 1 and isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{file} holds several state dicts, none under a usual name: {_names(states)}; choose one with --ema KEY."
        )
    nested = list(states) if isinstance(loaded, Mapping) else []
    for keys in (usual + top + nested)[:1]:
        return Chosen(keys, "", states[keys])
    content = f"a {type(loaded).__name__}"
    if isinstance(loaded, Mapping):
        content = f"a dict with the entries {sorted(map(str, loaded))[:SHOWN]}"
    raise CheckpointError(f"{file} contains {content}, no state dict of tensors; save model.state_dict().")


def _unknown(file: Path, loaded: Any, ema: str) -> str:
    try:
        default = choose_state(file, loaded, None)
        names = [dotted(default.keys), *other_states(loaded, default)]
    except CheckpointError:
        names = [dotted(keys) for keys in find_states(loaded)]
    names = [name for name in names if name]
    if not names:
        return f"{file} has no model at '{ema}': it holds one state dict without an entry; leave --ema out."
    return f"{file} has no model at '{ema}'; these entries hold one: {', '.join(names)}. Give one of them with --ema."


def _names(states: Mapping[Keys, Any]) -> str:
    return ", ".join(dotted(keys) for keys in states)


def other_states(loaded: Any, chosen: Chosen) -> list[str]:
    """Return the entries beside the chosen one that hold a state of the same names and shapes."""
    wanted = shapes(chosen.entries)
    return [
        name
        for keys, prefix, state in candidates(loaded)
        if (keys, prefix) != (chosen.keys, chosen.prefix)
        and shapes(state) == wanted
        and (name := dotted((*keys, prefix.removesuffix(".")) if prefix else keys))
    ]


def candidates(loaded: Any) -> Iterator[tuple[Keys, str, Mapping[str, Any]]]:
    """Yield every state dict, and every part of one whose names begin alike, with its path and beginning of names."""
    for keys, state in find_states(loaded).items():
        yield keys, "", state
        groups: dict[str, dict[str, Any]] = {}
        for name, value in state.items():
            first, dot, rest = name.partition(".")
            if dot and isinstance(value, Tensor):
                groups.setdefault(f"{first}.", {})[rest] = value
        if len(groups) > 1:
            yield from ((keys, prefix, part) for prefix, part in groups.items())


def separate(loaded: Any, chosen: Chosen, texts: dict[str, str]) -> Content:
    """Divide the content of a file into the model, small plain values, and entries that no output gets.

    Args:
        loaded: The content.
        chosen: The model in it.
        texts: The metadata outside the content.
    """
    keys, start, entries = chosen
    check_path(keys)
    named = stored_classes(texts) | stored_classes(loaded)
    counters = counters_of(entries)
    state = {k: v for k, v in entries.items() if isinstance(v, Tensor) and k not in counters}
    prefix = common_prefix(list(state))
    parts = Parts(plain_names(state), {}, keys, start + prefix, counters, classes=named)
    if keys:
        parts.rest, parts.dropped = without_data(loaded, keys)
        parts.dropped |= drop_above_total(parts.rest, keys, sum(t.numel() for t in state.values()))
        given = parts.rest.pop(METADATA_ENTRY, None)
        given = given if isinstance(given, Mapping) else loaded.get(METADATA_ENTRY)
        if isinstance(given, Mapping):
            parts.dropped.pop(METADATA_ENTRY, None)
            texts = {k: v for k, v in given.items() if isinstance(k, str) and isinstance(v, str)}
            odd = {
                f"{METADATA_ENTRY}.{k}": data_text(k, v) for k, v in given.items() if not isinstance(v, str)
            }
            parts.dropped |= {k: text for k, text in odd.items() if text}
    parts.metadata, dropped = short_texts(texts)
    container = _inside(loaded, keys)
    parts.versions = sound_versions(container)
    own = {*(start + k for k in state), *counters}
    others = {k: v for k, v in container.items() if k not in own}
    if start:
        parts.dropped |= _grouped(keys, others)
        others = {}
    plain = [k for k, v in others.items() if not data_text(k, v)]
    parts.dropped |= {dotted((*keys, k)): data_text(k, v) for k, v in others.items() if k not in plain}
    parts.dropped = {name[:LONGEST_NAME]: text for name, text in (parts.dropped | dropped).items()}
    parts.other_states = other_states(loaded, chosen)
    return Content(parts, [str(k)[:LONGEST_NAME] for k in plain if k != "_metadata"])


def _inside(loaded: Any, keys: Keys) -> Mapping[str, Any]:
    for key in keys:
        loaded = loaded[key]
    return loaded


def _grouped(keys: Keys, others: Mapping[str, Any]) -> dict[str, str]:
    """What stands beside a part of a state dict, by the first part of the names."""
    groups: dict[str, list[Any]] = {}
    for name, value in others.items():
        groups.setdefault(str(name).partition(".")[0], []).append(value)
    texts = {dotted((*keys, first)): data_text("", values) for first, values in groups.items()}
    return {name: text for name, text in texts.items() if text}
