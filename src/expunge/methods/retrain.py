"""Retrain: train fresh weights on the retain set alone. The reference that every gap is measured from.

Defaults: the recipe of SalUn's released code (Fan et al., ICLR 2024, arXiv:2310.12508): SGD 0.1, momentum 0.9, weight
decay 5e-4, batch 256, 182 epochs, the rate divided by ten at half and three quarters. Use the original's own recipe.
The same loop, given forget and retain set together, trains the original (`expunge.train`). Frozen
weights stay as they are, here as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data import Batch
from ..errors import ModelError
from ..method import GradientMethod
from ..run import Run


@dataclass(frozen=True, kw_only=True)
class Retrain(GradientMethod):
    """Train a model with fresh weights on the retain set (exact; the reference)."""

    epochs: int = 182
    lr: float = 0.1
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "multistep"

    tasks: ClassVar[tuple[str, ...]] = ("classification", "diffusion")
    data: ClassVar = ("retain",)
    exact: ClassVar = True
    schedule: ClassVar = "retain"

    def prepare(self, run: Run) -> None:
        fresh = run.factory() if run.factory is not None else reset_trained(run.model)
        run.model.load_state_dict(fresh.state_dict())

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        return run.task.loss(run.model, retain).mean()


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


def reset(model: nn.Module) -> nn.Module:
    """Fresh weights in place, by every module's own `reset_parameters`, from torch's global random state.

    Raises `ModelError` naming the parameters that no module resets: give `factory=` then.
    """
    reached: set[int] = set()
    for module in model.modules():
        if callable(again := getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))):
            with torch.no_grad():
                again()
            reached.update(id(t) for t in module.parameters())
    if missed := [n for n, p in model.named_parameters() if id(p) not in reached]:
        raise ModelError(
            f"{len(missed)} parameters belong to modules without reset_parameters (first: {missed[:5]}); "
            "pass factory=, a function that makes the model with fresh weights."
        )
    return model
