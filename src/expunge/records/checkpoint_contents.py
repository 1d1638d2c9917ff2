"""What a torch file holds besides the model: further states, tensors, and long plain values.

The content of an entry decides, never its name alone: an average of the parameters may be called anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Keys = tuple[str | int, ...]

# what one entry may hold and still count as a small plain value
MOST_NUMBERS = 1_000
MOST_CHARACTERS = 20_000
LONGEST_TEXT = 10_000
MOST_BYTES = 1_000
# prefixes of names that DataParallel, DistributedDataParallel and torch.compile add
PREFIXES = ("module.", "_orig_mod.")
# tensors that AveragedModel keeps beside the model: a number of updates, no parameter
COUNTERS = ("n_averaged",)
# text for the entry of an optimizer that holds no tensor
OPTIMIZER = "settings of an optimizer"


def is_extra(name: str) -> bool:
    """Whether an entry of a state dict comes from `get_extra_state` of a module."""
    return name.rpartition(".")[2] == "_extra_state"


def is_state_dict(value: Any) -> bool:
    """Whether `value` is a dict of names and tensors. Entries that are no tensors are allowed, dicts are not."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(k, str) for k in value)
        and any(isinstance(v, torch.Tensor) for v in value.values())
        and not any(isinstance(v, Mapping) for k, v in value.items() if k != "_metadata" and not is_extra(k))
    )


@dataclass
class Held:
    """Count what a value would bring into a file.

    Args:
        tensors: Tensors, storages and arrays.
        numbers: Numbers and truth values.
        characters: Characters of all texts.
        longest: Characters of the longest text.
        size: Number of bytes in byte strings.
    """

    tensors: int = 0
    numbers: int = 0
    characters: int = 0
    longest: int = 0
    size: int = 0

    def text(self) -> str:
        """Return what there is too much of, for example "11 tensors"; empty for a small plain value."""
        counts = (
            (self.tensors, 0, "tensor"),
            (self.numbers, MOST_NUMBERS, "number"),
            (self.size, MOST_BYTES, "byte"),
            (self.longest, LONGEST_TEXT, "character"),
            (self.characters, MOST_CHARACTERS, "character"),
        )
        for count, limit, name in counts:
            if count > limit:
                return f"{count:,} {name}{'s' if count > 1 else ''}"
        return ""


def measure(value: Any) -> Held:
    """Count everything that pickling `value` would write, at any depth: also attributes and unknown objects."""
    held, stack = Held(), [value]
    # keeps the objects alive, so that no id is used twice
    seen: dict[int, Any] = {}
    while stack:
        item = stack.pop()
        if _is_array(item):
            held.tensors += 1
        elif isinstance(item, int):
            # one huge integer can hold as much as many numbers
            held.numbers += 1 + item.bit_length() // 64
        elif isinstance(item, float | complex):
            held.numbers += 1
        elif isinstance(item, str):
            held.characters += len(item)
            held.longest = max(held.longest, len(item))
        elif isinstance(item, bytes | bytearray):
            held.size += len(item)
        elif item is not None and id(item) not in seen:
            seen[id(item)] = item
            stack += _parts(item)
    return held


def _is_array(item: Any) -> bool:
    if isinstance(item, Tensor | torch.UntypedStorage | torch.TypedStorage):
        return True
    return hasattr(type(item), "__array_interface__") and getattr(item, "shape", ()) != ()


def _parts(item: Any) -> list[Any]:
    """The values inside a container or an object, as pickle would write them."""
    if isinstance(item, dict):
        return [*item, *item.values(), getattr(item, "__dict__", None)]
    if isinstance(item, list | tuple | set | frozenset):
        return [*item, getattr(item, "__dict__", None)]
    try:
        reduced = item.__reduce_ex__(2)
    # classes and functions: a file holds their name alone
    except Exception:
        return []
    if not isinstance(reduced, tuple):
        return []
    return [list(part) if isinstance(part, Iterator) else part for part in reduced[1:5]]


def data_text(key: Any, value: Any) -> str:
    """Return why an entry must not be in an output, for example "11 tensors"; empty if it may stay."""
    if text := measure([key, value]).text():
        return text
    # without its tensors, the state of an optimizer cannot be loaded
    is_optimizer = str(key).lower().startswith("optim") and isinstance(value, Mapping | list | tuple)
    return OPTIMIZER if is_optimizer else ""


def without_data(value: Mapping[Any, Any], keys: Keys) -> tuple[dict[Any, Any], dict[str, str]]:
    """Separate the small plain values of a dict from everything that holds data.

    Args:
        value: The dict.
        keys: Where the state of the model is inside it. The state belongs to neither result.

    Returns:
        The plain values, and {path: what is there} of all other entries.
    """
    kept: dict[Any, Any] = {}
    dropped: dict[str, str] = {}
    for key, item in value.items():
        if not keys or key != keys[0]:
            if text := data_text(key, item):
                dropped[str(key)[:LONGEST_TEXT]] = text
            else:
                kept[key] = item
        elif len(keys) > 1:
            is_dict = isinstance(item, Mapping)
            inside, lost = without_data(item if is_dict else dict(enumerate(item)), keys[1:])
            if is_dict:
                kept[key] = inside
            dropped |= {f"{key}.{path}": text for path, text in lost.items()}
    return kept, dropped


def find_states(value: Any) -> dict[Keys, Mapping[str, Any]]:
    """Return {path: state dict} of all dicts of tensors inside a value, in the order of the file."""
    states: dict[Keys, Mapping[str, Any]] = {}
    seen: dict[int, Any] = {}
    stack: list[tuple[Keys, Any]] = [((), value)]
    while stack:
        keys, item = stack.pop()
        is_dict = isinstance(item, Mapping)
        if id(item) in seen or not (is_dict or isinstance(item, list | tuple)):
            continue
        seen[id(item)] = item
        if is_state_dict(item):
            states[keys] = item
        inside = item.items() if is_dict else enumerate(item)
        stack += reversed([((*keys, k), v) for k, v in inside if isinstance(k, str | int)])
    return states


def state_at(value: Any, key: str) -> tuple[Keys, str, dict[str, Any]] | None:
    """Find the state dict that a dotted path names.

    Args:
        value: What the file holds.
        key: The path. Its last part may be a beginning of tensor names: "ema.ema_model" finds `ema_model.0.weight` in `ema`.

    Returns:
        Where the dict is, the beginning of names to remove, and the tensors without it. None if there is no such state.
    """
    entries = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    if not isinstance(entries, Mapping):
        return None
    typed = {str(k): k for k in entries if isinstance(k, str | int)}
    if key in typed:
        inside = find_states(entries[typed[key]])
        if len(inside) == 1:
            keys, state = next(iter(inside.items()))
            return (typed[key], *keys), "", dict(state)
    for at in (k for k, character in enumerate(key) if character == "."):
        if key[:at] in typed and (inner := state_at(entries[typed[key[:at]]], key[at + 1 :])):
            return (typed[key[:at]], *inner[0]), *inner[1:]
    part = {
        k.removeprefix(f"{key}."): v
        for k, v in entries.items()
        if isinstance(k, str) and k.startswith(f"{key}.") and isinstance(v, Tensor)
    }
    return ((), f"{key}.", part) if part else None


def dotted(keys: Keys) -> str:
    """Return a path as the user types it."""
    return ".".join(map(str, keys))


def counters_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the counters that AveragedModel keeps in a state beside the names with `module.`."""
    counters = {k: state[k] for k in COUNTERS if isinstance(state.get(k), Tensor) and state[k].numel() == 1}
    others = [k for k in state if k not in counters]
    return counters if others and all(k.startswith("module.") for k in others) else {}


def common_prefix(names: list[str]) -> str:
    """Return what DataParallel, torch.compile and the like put before every name."""
    prefix = ""
    while names and (more := next((p for p in PREFIXES if all(k.startswith(prefix + p) for k in names)), "")):
        prefix += more
    return prefix


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under their names without common prefixes."""
    prefix = common_prefix(list(tensors))
    return {k.removeprefix(prefix): v for k, v in tensors.items()}


def shapes(state: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Return {name without prefixes: shape} of the tensors of a state dict, without counters."""
    counters = counters_of(state)
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor) and k not in counters}
    # a nested tensor has no shape
    return {k: torch.Size() if v.is_nested else v.shape for k, v in plain_names(tensors).items()}
