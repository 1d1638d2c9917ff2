"""RL: train on the forget set with random labels and on the retain set with true labels.

    loss = CE(forget, random labels) + alpha * CE(retain)

New random labels are drawn in every epoch. The same optimizer takes the forget and the retain steps.

Source: Golatkar et al., CVPR 2020. The form follows SalUn's released code (Fan et al., ICLR 2024, arXiv:2310.12508),
which trains for 10 epochs.

Published:
- `order="sequential"` passes over the forget set, then over the retain set (their CIFAR-10 branch).
- `order="mixed"` passes over the shuffled union of both sets (their CIFAR-100 branch).
- `order="paired"` puts a retain batch beside every forget batch (their diffusion experiments). Each term is a mean, and
  `retain_weight` scales the retain term.

Difference from the released code: the paper excludes the true label, but the code draws over all classes. We follow the
paper by default; `paper=True` follows the code.

Ours: on a task whose loss and relabelled loss differ (diffusion), random labels exclude all forgotten classes if
there are several. A generator must not learn to draw one forgotten class in place of another.

Cost: One pass over both sets for each epoch. There is no mask, and no second model.

When not to use it: There is no retain set, or the model has only one class. For single samples with the goal
untrain, a wrong label teaches more than forgetting asks for; compare MIA with Retrain's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch, to_device
from ..errors import ExpungeError
from ..tasks.task import Capability
from ..training.method import GradientMethod
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class RandomLabel(GradientMethod):
    """Train with random labels on the forget set and true labels on the retain set (RL).

    Args:
        order: How an epoch combines the two sets. "sequential" is forget, then retain; "mixed" is their shuffled union;
            "paired" is one retain batch beside each forget batch.
        retain_weight: alpha, the weight of a retain sample relative to a forget sample.
        relabel: The new label. "random" draws another class; "next" takes the class after the true one.
        paper: Follow the released code, which may draw the true label.
    """

    order: Literal["sequential", "mixed", "paired"] = "sequential"
    retain_weight: float = 1.0
    relabel: Literal["random", "next"] = "random"
    paper: bool = False

    published: ClassVar = {}
    needs: ClassVar = ("relabel", "other_labels")
    search: ClassVar = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)}

    def requires(self) -> tuple[Capability, ...]:
        classes: tuple[Capability, ...] = ("classes",) if self.relabel == "next" or self.paper else ()
        return (*self.needs, *classes)

    def plan(self) -> str:
        return "forget+retain" if self.order == "paired" else self.order

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the loss under new labels on the forget batch plus the weighted loss on the retain batch."""
        task, model = run.task, run.model
        if forget is None:
            assert retain is not None
            return self.retain_weight * task.loss(model, retain).mean()
        other = self.other_labels(run, forget.y)
        if retain is None:
            return task.relabel_loss(model, forget, other).mean()
        if self.order == "paired" or not task.joint:
            return (
                task.relabel_loss(model, forget, other).mean()
                + self.retain_weight * task.loss(model, retain).mean()
            )
        losses = task.relabel_loss(model, Batch.join(forget, retain), torch.cat([other, retain.y]))
        sample_weights = torch.ones_like(losses)
        sample_weights[len(forget) :] = self.retain_weight
        return (sample_weights * losses).mean()

    def other_labels(self, run: Run, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a new label for each label in `y` (B,).

        The new label differs from the true one, except with `paper`, which draws over all classes. It also avoids every class that
        this request or an earlier one forgets: such a label would teach the class again. The labels are drawn from `generator`, by
        default that of the process.

        Raises:
            ExpungeError: There is no other label to give.
            ModelError: The same, for a diffusion model.
        """
        task, forgotten = run.task, run.split.forget_classes
        generator = generator or run.process_generator("labels")
        k = task.num_classes
        # a task without classes chooses its own wrong labels
        if not k:
            return task.other_labels(y, generator)
        gone = {*forgotten, *run.split.earlier_classes}
        # one class alone is avoided by any label that differs from the true one
        if (len(forgotten) > 1 or run.split.earlier_classes) and not self.paper:
            return self._kept_labels(y, sorted(set(range(k)) - gone), generator)
        if k < 2 or (self.relabel == "random" and not self.paper):
            return task.other_labels(y, generator)
        if self.relabel == "next":
            return (y + 1) % k
        draw = torch.randint(0, k, y.shape, generator=generator)
        return (y + to_device(draw, y.device)) % k

    def _kept_labels(self, y: Tensor, kept: list[int], generator: torch.Generator) -> Tensor:
        """Return labels (B,) from the classes in `kept` that differ from `y`: the next one after it, or a random one."""
        if not kept or (len(kept) == 1 and bool((y == kept[0]).any())):
            raise ExpungeError(
                "every other class is forgotten, so there is no label to give instead; keep at least one class."
            )
        classes = torch.tensor(kept)
        if self.relabel == "next":
            return classes[torch.searchsorted(classes, y.cpu(), right=True) % len(kept)].to(y.device)
        place = torch.searchsorted(classes, y.cpu()).clamp(max=len(kept) - 1)
        is_kept = classes[place] == y.cpu()
        if not is_kept.any():
            return to_device(classes[torch.randint(0, len(kept), y.shape, generator=generator)], y.device)
        # draw from one class fewer, and step over the true one
        count = len(kept) - is_kept.long()
        drawn = (torch.rand(y.shape, generator=generator, dtype=torch.float64) * count).long()
        drawn += (is_kept & (drawn >= place)).long()
        return to_device(classes[drawn], y.device)
