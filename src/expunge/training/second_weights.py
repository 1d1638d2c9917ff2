"""Find a second set of weights inside a model: copies of trained parameters that the forward pass never uses.

A target network or an average that lives in the module is part of its state. A run does not change it, so that it would still
hold the model before the run. The frozen base of an adapter of peft is no such set: the saved form of the model does not contain it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# least correlation of a copy with its parameter; averages of the last epochs are above it
LEAST_CORRELATION = 0.99
# tensors with fewer values resemble each other by chance
LEAST_VALUES = 8
# names that a message shows
SHOWN = 3


def second_weights(
    model: nn.Module, trained: Mapping[str, Tensor], losses: Callable[[], Tensor]
) -> list[str]:
    """Return one sentence if a model holds copies of its trained parameters that its loss does not depend on.

    Args:
        model: The model in the mode of an evaluation. Its tensors are as before afterwards.
        trained: {name: parameter} of those that have a gradient.
        losses: Evaluates the model on some samples.
    """
    memory = {p.data_ptr() for p in trained.values()}
    unsaved = _bases_of_adapters(model)
    others = {
        name: t
        for name, t in (*model.named_parameters(), *model.named_buffers())
        if _is_comparable(t) and t.data_ptr() not in memory and id(t) not in unsaved
    }
    copies = [name for name, t in others.items() if _resembles(t, trained) and _is_unused(t, losses)]
    if not copies:
        return []
    parts = sorted({name.partition(".")[0] for name in copies})
    return [
        f"the model holds a second set of weights in {', '.join(map(repr, parts[:SHOWN]))}: {len(copies)} tensors (first: "
        f"{copies[:SHOWN]}) are copies of trained parameters, and the forward pass in eval mode does not use them. No run would change "
        "them, so the result would still hold the model before it. Delete them from the module before the run; if they are the model "
        "that you mean, store them as an entry of their own in the checkpoint and choose it with --ema KEY."
    ]


def _bases_of_adapters(model: nn.Module) -> set[int]:
    """The ids of the frozen tensors that a saved adapter of peft does not contain, such as the head that the base came with."""
    library: Any = sys.modules.get("peft")
    unsaved: set[int] = set()
    for module in model.modules() if library is not None else ():
        if isinstance(module, library.PeftModel):
            tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            saved = library.get_peft_model_state_dict(module, dict(tensors), save_embedding_layers=False)
            kept = {id(t) for t in saved.values()}
            unsaved |= {id(t) for t in tensors.values() if not t.requires_grad and id(t) not in kept}
    return unsaved


def _is_comparable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout == torch.strided and tensor.numel() >= LEAST_VALUES


def _resembles(tensor: Tensor, trained: Mapping[str, Tensor]) -> bool:
    """Whether the values are those of a trained parameter, or of all of them one after the other."""
    alike = [p for p in trained.values() if p.numel() == tensor.numel()]
    if any(_correlation(tensor, p) > LEAST_CORRELATION for p in alike):
        return True
    if len(trained) < 2 or tensor.numel() != sum(p.numel() for p in trained.values()):
        return False
    return (
        _correlation(tensor, torch.cat([p.detach().flatten() for p in trained.values()])) > LEAST_CORRELATION
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    """The correlation of the values of two tensors, in any shape. Scales of norm layers, which are all near 1, have none."""
    one, two = (t.detach().flatten().float() for t in (a, b))
    one, two = one - one.mean(), two - two.mean()
    norms = float(one.norm() * two.norm())
    return float(one @ two) / norms if norms else 0.0


def _is_unused(tensor: Tensor, losses: Callable[[], Tensor]) -> bool:
    """Whether the losses stay finite with NaN in place of the values."""
    values = tensor.detach().clone()
    with torch.no_grad():
        try:
            tensor.fill_(torch.nan)
            return bool(losses().isfinite().all())
        # a model or loss of the user's may refuse NaN in its own way
        except Exception:
            return False
        finally:
            tensor.copy_(values)
