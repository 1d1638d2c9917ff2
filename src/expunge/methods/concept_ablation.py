"""Concept ablation: the forgotten condition comes to mean an anchor, a kept condition that is drawn in its place.

Kumari, Zhang, Wang, Shechtman, Zhang, Zhu, "Ablating Concepts in Text-to-Image Diffusion Models", ICCV 2023,
arXiv:2303.13516.

Published (model-based form): images of the *anchor* are noised; the prediction under the forgotten condition is moved to
the model's own prediction under the anchor, without gradient; a prior term, the ordinary loss on anchor images, may be
added; cross-attention, the token embedding or all weights are trained. So it is SalUn's loss (`Task.relabel_loss`) with
anchor images in place of forgotten ones, and without mask.

Ours: the prior term is taken on all retained samples (`retain_weight`, off as published); the anchor of a class is the
next class that is kept, unless `anchor` names one; `anchor=-1` is the null condition, on all retained images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.samples import Samples
from ..errors import ExpungeError
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair


@dataclass(frozen=True, kw_only=True)
class ConceptAblation(GradientMethod):
    """Concept ablation: the forgotten condition is moved to an anchor condition, on the anchor's images."""

    epochs: int = 10
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 64
    clip: float | None = 1.0
    anchor: int | None = (
        None  # condition to draw instead; -1 for the null condition, None for the next kept one
    )
    retain_weight: float = 0.0  # weight of the ordinary loss on retained samples

    needs: ClassVar = ("relabel", "classes", "noise")
    search: ClassVar = {"lr": (1e-5, 5e-5, 1e-4, 3e-4, 1e-3), "retain_weight": (0.0, 1.0)}

    def anchor_of(self, run: Run) -> int:
        """The anchor's condition. Raises `ExpungeError` if it is a forgotten one, or has no retained image."""
        key = f"anchor/{self.anchor}"
        if key not in run.memo:  # labels of all samples are read once a run, not at every step
            run.memo[key] = self._find_anchor(run)
        return run.memo[key]

    def _find_anchor(self, run: Run) -> int:
        kept = run.split.retain.labels.unique().tolist()
        if self.anchor is None:
            last = int(run.split.forget.labels.max())
            return next((k for k in kept if k > last), kept[0])
        if self.anchor != -1 and self.anchor not in kept:
            raise ExpungeError(
                f"anchor is {self.anchor}; it must be a condition with retained images, one of {kept}, or -1 for null."
            )
        return run.task.null if self.anchor == -1 else self.anchor  # type: ignore[attr-defined]

    def images(self, run: Run) -> Samples:
        """The retained images of the anchor."""
        kept, anchor = run.split.retain, self.anchor_of(run)
        return kept if self.anchor == -1 else kept.take(kept.labels == anchor)

    def steps(self, run: Run) -> int:
        return self.epochs * -(-len(self.images(run)) // self.batch_size)

    def pairs(self, run: Run) -> Iterator[Pair]:
        """Anchor images under the forgotten conditions, and as many retained samples beside them."""
        draw, forget, retain = run.generator("anchor"), run.split.forget.labels, run.split.retain
        for batch in self.images(run).batches(self.batch_size, device=run.device, shuffle=draw, augment=draw):
            asked = forget[torch.randint(0, len(forget), (len(batch),), generator=draw)].to(batch.y.device)
            beside = None
            if self.retain_weight:
                some = retain.take(torch.randint(0, len(retain), (len(batch),), generator=draw))
                beside = next(some.batches(len(batch), device=run.device, augment=draw))
            yield Batch(batch.x, asked, batch.index), beside

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        loss = run.task.relabel_loss(run.model, forget, torch.full_like(forget.y, self.anchor_of(run))).mean()
        return loss if retain is None else loss + self.retain_weight * run.task.loss(run.model, retain).mean()
