"""Whether the parameters outside a mask are bit-identical before and after a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ExpungeError
from .canonical import sha256

if TYPE_CHECKING:
    from torch import Tensor

# Metadata of a mask: names of parameters in the checkpoint, where they differ from those in the model.
NAMES = "names_in_checkpoint"


def names_hash(mask: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (64 hex digits) of the names that the metadata of a mask gives for a model file. A receipt states it.

    Raises:
        ExpungeError: The names are damaged.
    """
    return sha256(_stated_names(mask))


def moved_outside(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    mask: Mapping[str, Tensor],
    stated: str | None = None,
) -> int:
    """Count the elements outside a mask that have changed. Tensors that the mask does not name are not compared.

    A tensor with the name of a parameter is that parameter. A checkpoint may name its tensors otherwise than the model: with
    a prefix, or as an older release of a library does. A mask that a run saved has these names in its metadata.

    Args:
        before: The state before the run.
        after: The state after the run.
        mask: {name in the model: bool tensor}.
        stated: `names_hash` of the mask of the run, as its receipt states it. None for receipts that do not state it.

    Raises:
        ExpungeError: The tensors of the mask are not in the states, or have other shapes; the names in the mask are not those of
            the run, or two parameters have one tensor.
    """
    old, new, moved = _places(mask, before, stated), _places(mask, after, stated), 0
    for name, may_move in mask.items():
        first, second = before[old[name]], after[new[name]]
        if not first.shape == second.shape == may_move.shape:
            raise ExpungeError(
                f"{name} has the shapes {tuple(first.shape)} before, {tuple(second.shape)} after and {tuple(may_move.shape)} in the "
                "mask; give the files of one run."
            )
        changed = (_bits(first) != _bits(second)).any(1)
        moved += int(changed[~may_move.bool().cpu().reshape(-1)].sum())
    return moved


def trusts_names(mask: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether only the metadata of the mask says which tensor of a state belongs to a parameter."""
    return any(name not in state for name in mask)


def _stated_names(mask: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {name in the model: name in the file} of the metadata, for parameters of the mask whose names differ."""
    try:
        names = json.loads(getattr(mask, "metadata", {}).get(NAMES, "{}"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, dict) or not all(isinstance(place, str) for place in names.values()):
        raise ExpungeError("the mask has a damaged list of names in its metadata; use an intact copy.")
    return {name: names[name] for name in mask if names.get(name, name) != name}


def _places(mask: Mapping[str, Tensor], state: Mapping[str, Tensor], stated: str | None) -> dict[str, str]:
    """Return {name in the mask: name in the state}, no name in the state twice."""
    if not trusts_names(mask, state):
        return {name: name for name in mask}
    names = _stated_names(mask)
    if names and stated is not None and sha256(names) != stated:
        raise ExpungeError(
            "the mask gives other names for the model file than the receipt states; use the file that this run wrote with --save-mask."
        )
    wanted = {name: names.get(name, name) for name in mask}
    missing = list(mask)
    for head in _heads(next(iter(wanted.values()), "")):
        # the metadata cannot say that a tensor with the name of one parameter is another one
        places = {name: name if name in state else place.removeprefix(head) for name, place in wanted.items()}
        lost = [name for name, place in places.items() if place not in state]
        if not lost:
            return _distinct(places)
        missing = min(missing, lost, key=len)
    raise ExpungeError(
        f"the model file has no tensor for {len(missing)} of the {len(mask)} parameters of the mask (first: {missing[0]}); give "
        "the mask that this run wrote with --save-mask. Models whose tensors transformers joins or divides cannot be compared."
    )


def _distinct(places: dict[str, str]) -> dict[str, str]:
    first: dict[str, str] = {}
    for name, place in places.items():
        if (other := first.setdefault(place, name)) != name:
            raise ExpungeError(
                f"the mask has one tensor of the model file, {place}, for two parameters, {other} and {name}; use the file that "
                "this run wrote with --save-mask."
            )
    return places


def _heads(name: str) -> list[str]:
    """The beginnings of a name up to a dot: reading a file removes one that all its names have."""
    parts = name.split(".")
    return [".".join(parts[:at]) + "." * (at > 0) for at in range(len(parts))]


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of each number, shape (numel, bytes). NaN equals itself; -0.0 does not equal 0.0."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8)
