"""RL: train on the forget set with random labels and on the retain set with true ones.

Golatkar et al. (CVPR 2020); the form of SalUn's released code (Fan et al., ICLR 2024, arXiv:2310.12508): labels are
drawn anew in each epoch, forget and retain pass through the same optimizer, 10 epochs.

Published: two passes an epoch, forget first (`order="sequential"`, their CIFAR-10 branch), or the shuffled union
(`order="mixed"`, their CIFAR-100 branch). The paper excludes the true label; the code draws over all classes, the true
one included. Ours: the paper's rule is the default, `paper_exact=True` is the code's. `order="paired"` (a retain batch
beside every forget batch, each a mean, retain weighted by `retain_weight`) is what the diffusion experiments do.
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
    """RL: random labels on the forget set, true labels on the retain set."""

    order: Literal["sequential", "mixed", "paired"] = "sequential"  # how the two sets share an epoch
    retain_weight: float = 1.0  # alpha: weight of a retain sample beside a forget sample
    relabel: Literal["random", "next"] = "random"  # the other label: random, or the class after the true one
    paper_exact: bool = False  # as the released code: the true label may be drawn

    needs: ClassVar = ("relabel", "other_labels")
    search: ClassVar = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)}

    def requires(self) -> tuple[Capability, ...]:
        classes: tuple[Capability, ...] = ("classes",) if self.relabel == "next" or self.paper_exact else ()
        return (*self.needs, *classes)

    def plan(self) -> str:
        return "forget+retain" if self.order == "paired" else self.order

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
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
        weight = torch.ones_like(losses)
        weight[len(forget) :] = self.retain_weight
        return (weight * losses).mean()

    def other_labels(self, run: Run, y: Tensor) -> Tensor:
        """Labels (B,) other than `y`; over all classes in the published code's form. For a generator, kept ones: a condition
        may not learn to draw what another is made to forget."""
        task, forgotten = run.task, run.split.forget_classes
        k = task.num_classes
        if not k:  # a task without classes chooses its own wrong labels
            return task.other_labels(y, run.own_generator("labels"))
        if not task.joint and len(forgotten) > 1 and not self.paper_exact:
            return self._kept_labels(run, y, sorted(set(range(k)) - set(forgotten)))
        if k < 2 or (self.relabel == "random" and not self.paper_exact):
            return task.other_labels(y, run.own_generator("labels"))
        if self.relabel == "next":
            return (y + 1) % k
        draw = torch.randint(0, k, y.shape, generator=run.own_generator("labels"))
        return (y + to_device(draw, y.device)) % k

    def _kept_labels(self, run: Run, y: Tensor, kept: list[int]) -> Tensor:
        """Labels (B,) among `kept`: the next one after `y`, or any."""
        if not kept:
            raise ExpungeError(
                "every class is to be forgotten, so there is no label to give instead; keep at least one."
            )
        classes = torch.tensor(kept)
        if self.relabel == "next":
            return classes[torch.searchsorted(classes, y.cpu(), right=True) % len(kept)].to(y.device)
        drawn = torch.randint(0, len(kept), y.shape, generator=run.own_generator("labels"))
        return to_device(classes[drawn], y.device)
