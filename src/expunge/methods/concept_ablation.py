"""Concept ablation: teach the forgotten condition to mean an anchor, a kept condition that is drawn in its place.

    loss = |eps(x_t, c_f) - stopgrad(eps(x_t, c_anchor))|^2 + retain_weight * loss(retain)

x_t are noised images of the anchor. This is SalUn's loss (`Task.relabel_loss`) on images of the anchor, without a mask.

Source: Kumari, Zhang, Wang, Shechtman, Zhang, Zhu, "Ablating Concepts in Text-to-Image Diffusion Models", ICCV 2023,
arXiv:2303.13516.

Published, in the model-based form: the first term, with the model's own prediction as its target. The paper may add a
prior term, the ordinary loss on images of the anchor. It trains cross-attention, the token embedding or all parameters.

Ours:
- The prior term uses all retain samples. It is off by default, as published.
- The anchor of a class is the next kept class, unless `anchor` names another.
- `anchor=-1` is the null condition, on all retain images.

Cost: One pass over the retain images (those of the anchor, if `retain_weight` is 0) for each epoch, with two
predictions for each image.

When not to use it: There is no kept condition that may be drawn in place of the forgotten one, or its images
are missing.
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
    """Move the forgotten condition to an anchor condition, on images of the anchor (concept ablation).

    Args:
        epochs: Number of passes over the images of the anchor.
        lr: Learning rate.
        optimizer: Optimizer that takes the steps.
        weight_decay: Weight decay of the optimizer.
        batch_size: Images per step.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        anchor: Condition that replaces the forgotten one. None takes the next kept condition; -1 is the null condition.
        retain_weight: Weight of the ordinary loss on retain samples. 0 leaves it out.
    """

    epochs: int = 10
    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 64
    clip: float | None = 1.0
    anchor: int | None = None
    retain_weight: float = 0.0

    needs: ClassVar = ("relabel", "classes", "noise")
    search: ClassVar = {"lr": (1e-5, 5e-5, 1e-4, 3e-4, 1e-3), "retain_weight": (0.0, 1.0)}

    def anchor_of(self, run: Run) -> int:
        """Return the number of the anchor condition.

        Raises:
            ExpungeError: The anchor has no retain image, for example because it is forgotten.
        """
        key = f"anchor/{self.anchor}"
        # found once per run, since it reads the labels of all samples
        if key not in run.memo:
            run.memo[key] = self._find_anchor(run)
        return run.memo[key]

    def _find_anchor(self, run: Run) -> int:
        kept = run.split.retain.labels.unique().tolist()
        if self.anchor is None:
            last = int(run.split.forget.labels.max())
            return next((k for k in kept if k > last), kept[0])
        if self.anchor != -1 and self.anchor not in kept:
            raise ExpungeError(
                f"anchor is {self.anchor}; it must be a condition with retain images, one of {kept}, or -1 for the null condition."
            )
        return run.task.null if self.anchor == -1 else self.anchor  # type: ignore[attr-defined]

    def images(self, run: Run) -> Samples:
        """Return the retain images of the anchor."""
        kept, anchor = run.split.retain, self.anchor_of(run)
        return kept if self.anchor == -1 else kept.take(kept.labels == anchor)

    def steps(self, run: Run) -> int:
        return self.epochs * -(-len(self.images(run)) // self.batch_size)

    def pairs(self, run: Run) -> Iterator[Pair]:
        """Yield images of the anchor labelled with forgotten conditions, and as many retain samples."""
        draw, forget, retain = run.generator("anchor"), run.split.forget.labels, run.split.retain
        for batch in self.images(run).batches(self.batch_size, device=run.device, shuffle=draw, augment=draw):
            drawn = torch.randint(0, len(forget), (len(batch),), generator=draw)
            conditions = forget[drawn].to(batch.y.device)
            retain_batch = None
            if self.retain_weight:
                part = retain.take(torch.randint(0, len(retain), (len(batch),), generator=draw))
                retain_batch = next(part.batches(len(batch), device=run.device, augment=draw))
            yield Batch(batch.x, conditions, batch.index), retain_batch

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the distance to the prediction under the anchor, plus the weighted retain loss."""
        assert forget is not None
        loss = run.task.relabel_loss(run.model, forget, torch.full_like(forget.y, self.anchor_of(run))).mean()
        return loss if retain is None else loss + self.retain_weight * run.task.loss(run.model, retain).mean()
