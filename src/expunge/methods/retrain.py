"""Retrain: train fresh weights on the retain set alone. The reference that every gap is measured from.

Defaults: the recipe of SalUn's released code (Fan et al., ICLR 2024, arXiv:2310.12508): SGD 0.1, momentum 0.9, weight
decay 5e-4, batch 256, 182 epochs, the rate divided by ten at half and three quarters. Use the original's own recipe.
The same loop, given forget and retain set together, trains the original (`expunge.train`). Frozen
weights stay as they are, here as there.
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

FACTORY = "pass factory=, a function that makes the model with fresh weights."


@dataclass(frozen=True, kw_only=True)
class Retrain(GradientMethod):
    """Train a model with fresh weights on the retain set (exact; the reference)."""

    epochs: int = 182
    lr: float = 0.1
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "multistep"

    data: ClassVar = ("retain",)
    exact: ClassVar = True
    schedule: ClassVar = "retain"

    def prepare(self, run: Run) -> None:
        fresh_weights(run)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        return run.task.loss(run.model, retain).mean()


def fresh_weights(run: Run) -> nn.Module:
    """The run's model with fresh weights in place: its `factory`'s, or by `reset_trained`.

    Raises `ModelError` where neither would be: of what no module resets, and of buffers that training gathers in modules
    that cannot start anew, for they would tell of samples that the model may never have seen.
    """
    if run.factory is not None:
        run.model.load_state_dict(run.factory().state_dict())
        return run.model
    reset_trained(run.model)
    if gathered := _gathered(run):
        raise ModelError(
            f"{len(gathered)} buffers are changed by training and belong to modules without reset_parameters (first: "
            f"{gathered[:5]}), so what they hold of forgotten samples would stay; {FACTORY}"
        )
    return run.model


def reset_trained(model: nn.Module) -> nn.Module:
    """Fresh weights in place by `reset`, but for what is not trained: frozen weights, and the buffers of modules that are
    all frozen. They were there before any sample was seen (a pretrained trunk, say), here as in the original."""
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    for prefix, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            buffers = module.named_buffers(prefix, recurse=False)
            kept.update({n: b.detach().clone() for n, b in buffers})
    reset(model).load_state_dict(kept, strict=False)
    return model


@torch.no_grad()
def reset(model: nn.Module) -> nn.Module:
    """Fresh weights in place, by every module's own `reset_parameters`, from torch's global random state; a module after
    its parts, as constructors do it.

    Raises `ModelError` naming the parameters that no module resets: give `factory=` then.
    """
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.fill_(
                torch.nan
            )  # what is still NaN afterwards no module has reset, whatever it calls its own
    for module in _parts_first(model, set()):
        if again := _own_reset(module):
            again()
    if missed := [n for n, p in model.named_parameters() if bool(p.isnan().any())]:
        raise ModelError(
            f"{len(missed)} parameters are not reset by any module's reset_parameters (first: {missed[:5]}; those under "
            f"weight_norm and spectral_norm cannot be); {FACTORY}"
        )
    return model


def _own_reset(module: nn.Module) -> Callable[[], None] | None:
    found = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    return found if callable(found) else None


def _parts_first(module: nn.Module, seen: set[nn.Module]) -> Iterator[nn.Module]:
    seen.add(module)
    for part in module.children():
        if part not in seen:
            yield from _parts_first(part, seen)
    yield module


def _gathered(run: Run) -> list[str]:
    """Names of the buffers that a step's forward pass changes and that no `reset_parameters` of their module set anew."""
    owners = [(n, m) for n, m in run.model.named_modules() if _own_reset(m) is None]
    before = {n: b.clone() for prefix, m in owners for n, b in m.named_buffers(prefix, recurse=False)}
    if not before:
        return []
    few = run.split.retain.take(torch.arange(min(8, len(run.split.retain))))
    kept = {n: b.clone() for n, b in run.model.named_buffers()}
    run.model.train()
    freeze_batch_norm(run.model)  # it has a reset, and takes no batch of one
    with seeded(run.seed, run.device), torch.no_grad():
        run.task.loss(run.model, next(few.batches(len(few), device=run.device)))
        now = dict(run.model.named_buffers())
        found = [n for n, b in before.items() if not torch.equal(now[n], b)]
        for name, buffer in kept.items():
            now[name].copy_(buffer)
    return found
