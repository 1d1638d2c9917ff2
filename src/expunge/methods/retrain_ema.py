"""Retrain for diffusion models: the same loop, and at the end the running average of the weights instead of the last ones.

Ho et al., DDPM, arXiv:2006.11239: Adam 2e-4, batch 128, gradient norm at most 1, running average 0.9999, 800,000 steps on
CIFAR-10. It also trains originals (`expunge.train`). SalUn's released code unlearns from the raw weights, which
draw worse images than the averaged ones that everything is judged by; here the averaged weights are the model.

Ours: the average warms up, min(ema, (1 + step) / (10 + step)), so that short runs do not keep the first weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.optim import Optimizer

from ..training.run import Run, snapshot
from .retrain import Retrain


@dataclass(frozen=True, kw_only=True)
class RetrainEMA(Retrain):
    """Train with fresh weights on the retain set, and keep the running average of the weights (exact; the reference)."""

    epochs: int = 2048
    lr: float = 2e-4
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "constant"
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    batch_size: int = 128
    weight_decay: float = 0.0
    clip: float | None = 1.0
    ema: float = 0.9999  # weight of the past in the running average

    needs: ClassVar = ("noise",)

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        average = run.memo.get("ema")
        if average is None:
            average = run.memo["ema"] = snapshot(run.model)
        share = 1 - min(self.ema, (1 + run.step) / (10 + run.step))
        now = run.model.state_dict()
        moving = [n for n, value in now.items() if value.is_floating_point()]
        # all at once: hundreds of small kernels a step would hold a GPU up
        torch._foreach_lerp_([average[n] for n in moving], [now[n] for n in moving], share)
        for name in now.keys() - moving:
            average[name].copy_(now[name])

    def finish(self, run: Run) -> None:
        if run.ended == "finished" and "ema" in run.memo:
            run.model.load_state_dict(run.memo.pop("ema"))

    def problems(self) -> list[str]:
        found = super().problems()
        if not 0 <= self.ema < 1:
            found.append(
                f"ema is {self.ema}; it is the weight of the past in the running average, at least 0 and below 1."
            )
        return found
