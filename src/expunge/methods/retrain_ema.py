"""Retrain for diffusion models: train as Retrain does and keep the running average of the weights.

    average <- d * average + (1 - d) * theta    after each step,    d = min(ema, (1 + step) / (10 + step))

It also trains originals (`expunge.train`).

Source: Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, arXiv:2006.11239.

Published: Adam with learning rate 2e-4, batch size 128, gradient norm of at most 1 and running average 0.9999. The
paper trains for 800,000 steps on CIFAR-10.

Ours: the average warms up, as the formula of d says, so short runs do not keep their first weights.

Difference from SalUn's released code: it unlearns from the raw weights, but evaluates the averaged ones, which draw better
images. Here the averaged weights are the model.

Cost: A full training on the retain set, and a second copy of the parameters for the average.

When not to use it: The model is a classifier: use retrain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.optim import Optimizer

from ..torch_utils.module_state import snapshot
from ..training.run import Run
from .retrain import Retrain


@dataclass(frozen=True, kw_only=True)
class RetrainEMA(Retrain):
    """Train with fresh weights on the retain set and keep the average of the weights (exact; the reference).

    Args:
        epochs: Number of passes over the retain set.
        lr: Learning rate.
        lr_schedule: How the learning rate changes: "constant", "linear" (to 0), "cosine" (to 0), "one_cycle" (up, then to
            0) or "multistep" (to a tenth at half and at three quarters of the steps).
        optimizer: Optimizer that takes the steps.
        batch_size: Samples per step.
        weight_decay: Weight decay of the optimizer.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        ema: Weight of the past in the running average, at least 0 and below 1.
    """

    epochs: int = 2048
    lr: float = 2e-4
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "constant"
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    batch_size: int = 128
    weight_decay: float = 0.0
    clip: float | None = 1.0
    ema: float = 0.9999

    published: ClassVar = {}
    needs: ClassVar = ("noise",)

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Update the running average."""
        average = run.memo.get("ema")
        if average is None:
            average = run.memo["ema"] = snapshot(run.model)
        share = 1 - min(self.ema, (1 + run.step) / (10 + run.step))
        state = run.model.state_dict()
        floats = [n for n, value in state.items() if value.is_floating_point()]
        # one call for all tensors: hundreds of small kernels per step would leave a GPU idle
        torch._foreach_lerp_([average[n] for n in floats], [state[n] for n in floats], share)
        for name in state.keys() - floats:
            average[name].copy_(state[name])

    def finish(self, run: Run) -> None:
        """Load the running average into the model."""
        if run.ended == "finished" and "ema" in run.memo:
            run.model.load_state_dict(run.memo.pop("ema"))

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 <= self.ema < 1:
            problems.append(f"ema is {self.ema}; it must be at least 0 and below 1.")
        return problems
