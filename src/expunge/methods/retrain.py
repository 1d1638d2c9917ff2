"""Retrain: train a model with fresh weights on the retain set alone. It is the reference for every gap.

    loss = CE(retain)

Use the recipe that trained the original. The same loop trains the original when it gets the forget and the retain set
together (`expunge.train`). Frozen parameters keep their values in both cases.

Defaults: the recipe of SalUn's released code (Fan et al., ICLR 2024, arXiv:2310.12508). It runs 182 epochs of SGD with
learning rate 0.1, momentum 0.9, weight decay 5e-4 and batch size 256. The learning rate falls to a tenth at half and at
three quarters of the run.

Cost: A full training on the retain set: what all other methods avoid.

When not to use it: The training data or the recipe is gone, or a training costs too much for each request. Then
the audit has no reference, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError
from ..torch_utils.module_state import freeze_batch_norm, seeded
from ..training.method import GradientMethod
from ..training.run import Run
from ._fresh import from_factory

PASS_A_FACTORY = "pass factory=, a function that returns the model with fresh weights."


@dataclass(frozen=True, kw_only=True)
class Retrain(GradientMethod):
    """Train a model with fresh weights on the retain set (exact; the reference).

    Args:
        epochs: Number of passes over the retain set.
        lr: Learning rate.
        lr_schedule: How the learning rate changes: "constant", "linear" (to 0), "cosine" (to 0), "one_cycle" (up, then to
            0) or "multistep" (to a tenth at half and at three quarters of the steps).
    """

    epochs: int = 182
    lr: float = 0.1
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "multistep"

    published: ClassVar = {}
    data: ClassVar = ("retain",)
    exact: ClassVar = True
    schedule: ClassVar = "retain"

    def prepare(self, run: Run) -> None:
        fresh_weights(run)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean loss on the retain batch."""
        assert retain is not None
        return run.task.loss(run.model, retain).mean()


def fresh_weights(run: Run) -> nn.Module:
    """Give the run's model fresh weights in place, from `run.factory` or by `reset_trained`, and return it.

    Raises:
        ModelError: The factory returns no model with fresh parameters. Or there is no factory, and a module resets neither its
            parameters nor the buffers that training changes. Such buffers would keep information on samples that the model
            must never have seen.
    """
    if run.factory is not None:
        run.model.load_state_dict(from_factory(run).state_dict())
        return run.model
    reset_trained(run.model)
    if buffers := _buffers_that_keep_data(run):
        raise ModelError(
            f"{len(buffers)} buffers change in training and belong to modules without reset_parameters (first: "
            f"{buffers[:5]}), so they would keep information on forgotten samples; {PASS_A_FACTORY}"
        )
    return run.model


def reset_trained(model: nn.Module) -> nn.Module:
    """Reset in place what training changes, and return the model.

    Frozen parameters and the buffers of fully frozen modules keep their values: they come from before the training, for
    example from a pretrained trunk.
    """
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    for prefix, module in model.named_modules():
        parameters = list(module.parameters(recurse=False))
        if parameters and not any(p.requires_grad for p in parameters):
            buffers = module.named_buffers(prefix, recurse=False)
            kept.update({n: b.detach().clone() for n, b in buffers})
    reset(model).load_state_dict(kept, strict=False)
    return model


@torch.no_grad()
def reset(model: nn.Module) -> nn.Module:
    """Reset all parameters in place with the `reset_parameters` of every module, and return the model.

    A module is reset after its children, in the order of constructors. Random numbers come from torch's global state.

    Raises:
        ModelError: No module resets some of the parameters. The message names them.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            # a parameter that is still NaN at the end was reset by no module, whatever its name
            parameter.fill_(torch.nan)
    for module in _children_first(model, set()):
        if reset_module := _reset_function(module):
            reset_module()
    if missed := [n for n, p in model.named_parameters() if bool(p.isnan().any())]:
        raise ModelError(
            f"{len(missed)} parameters are not reset by the reset_parameters of any module (first: {missed[:5]}; parameters "
            f"under weight_norm and spectral_norm cannot be reset); {PASS_A_FACTORY}"
        )
    return model


def _reset_function(module: nn.Module) -> Callable[[], None] | None:
    function = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    return function if callable(function) else None


def _children_first(module: nn.Module, visited: set[nn.Module]) -> Iterator[nn.Module]:
    visited.add(module)
    for child in module.children():
        if child not in visited:
            yield from _children_first(child, visited)
    yield module


def _buffers_that_keep_data(run: Run) -> list[str]:
    """Return the names of buffers that a forward pass changes and that no `reset_parameters` sets."""
    modules = [(n, m) for n, m in run.model.named_modules() if _reset_function(m) is None]
    before = {n: b.clone() for prefix, m in modules for n, b in m.named_buffers(prefix, recurse=False)}
    if not before:
        return []
    few = run.split.retain.take(torch.arange(min(8, len(run.split.retain))))
    saved = {n: b.clone() for n, b in run.model.named_buffers()}
    run.model.train()
    # batch norm has a reset, and does not accept a batch of one sample in train mode
    freeze_batch_norm(run.model)
    with seeded(run.seed, run.device), torch.no_grad():
        run.task.loss(run.model, next(few.batches(len(few), device=run.device)))
        buffers = dict(run.model.named_buffers())
        changed = [n for n, b in before.items() if not torch.equal(buffers[n], b)]
        for name, buffer in saved.items():
            buffers[name].copy_(buffer)
    return changed
