"""Whether the parameters outside a mask are bit-identical before and after a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ExpungeError

if TYPE_CHECKING:
    from torch import Tensor

# Metadata of a mask: names of parameters in the checkpoint, where they differ from those in the model.
NAMES = "names_in_checkpoint"


def moved_outside(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], mask: Mapping[str, Tensor]
) -> int:
    """Count the elements outside a mask that have changed. Tensors that the mask does not name are not compared.

    A checkpoint may name its tensors otherwise than the model: with a prefix, or as an older release of a library does. A
    mask that a run saved has these names in its metadata.

    Args:
        before: The state before the run.
        after: The state after the run.
        mask: {name in the model: bool tensor}.

    Raises:
        ExpungeError: The tensors of the mask are not in the states, or have other shapes.
    """
    old, new, moved = _places(mask, before), _places(mask, after), 0
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


def _places(mask: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {name in the mask: name in the state}."""
    metadata = getattr(mask, "metadata", {})
    try:
        names = json.loads(metadata.get(NAMES, "{}"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, dict) or not all(isinstance(place, str) for place in names.values()):
        raise ExpungeError("the mask has a damaged list of names in its metadata; use an intact copy.")
    wanted = {name: names.get(name, name) for name in mask}
    missing = list(mask)
    for head in _heads(next(iter(wanted.values()), "")):
        places = {name: place.removeprefix(head) for name, place in wanted.items()}
        lost = [name for name, place in places.items() if place not in state]
        if not lost:
            return places
        missing = min(missing, lost, key=len)
    raise ExpungeError(
        f"the model file has no tensor for {len(missing)} of the {len(mask)} parameters of the mask (first: {missing[0]}); give "
        "the mask that this run wrote with --save-mask. Models whose tensors transformers joins or divides cannot be compared."
    )


def _heads(name: str) -> list[str]:
    """The beginnings of a name up to a dot: reading a file removes one that all its names have."""
    parts = name.split(".")
    return [".".join(parts[:at]) + "." * (at > 0) for at in range(len(parts))]


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of each number, shape (numel, bytes). NaN equals itself; -0.0 does not equal 0.0."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8)
