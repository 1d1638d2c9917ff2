"""MUNBa: descend in the direction that Nash bargaining finds between the retain set and the forget set.

    step along a_r * g_r + a_f * g_f,    a_i = 1 / (|g_i| * sqrt(1 + cos(angle between g_r and g_f)))

g_r is the gradient of the loss on a retain batch, g_f that of the loss on a forget batch with random labels. Both are
descended on. The direction is the bisector of the two, of length sqrt(2), whatever the size of the gradients.

Source: Wu, Harandi, "MUNBa: Machine Unlearning via Nash Bargaining", ICCV 2025, arXiv:2411.15537. The full text could not be
read: rule and settings are from the authors' code (JingWu321/MUNBa, commit 7038772) and from summaries of the paper.

Published:
- Each forget batch has a retain batch beside it. The retain batches that are left over take plain steps.
- 10 epochs of SGD, learning rate 0.01, momentum 0.9, weight decay 5e-4, batch size 256, gradient norm of at most 1. These are
  the defaults of the code; the settings of the paper's classifiers are not in it.

Differences from the released code (`as_released=True` follows it):
- The code solves for a_f after a_r and adds 1e-8 to denominators, so small gradients give wrong and even negative values. It
  then uses the retain loss plus a tenth of the forget loss. The formula above is the same solution and has no such limit.
- The code draws random labels over all classes, so some are the true ones. Here none is.
- The code drops the mask. Here the bargain is over the weights that may move.

Ours: the learning rate falls by a cosine, because the length of a step does not fall with the loss.

Cost: One pass over the retain set for each epoch. Steps with a forget batch take two backward passes.

When not to use it: There is no retain set, or the model has only one class: the forget loss uses random labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs, steps_per_epoch
from ._gradients import free_gradients, inner_product, with_gradients
from .random_label import RandomLabel

# gradients that point in opposite directions have no bargain; below this value of 1 + cos they almost cancel
OPPOSITE = 1e-6
# what the released code adds to denominators, and what it takes in place of a negative solution
RELEASED_EPSILON, RELEASED_FALLBACK = 1e-8, (1.0, 0.1)


def bargain(retain_square: Tensor, forget_square: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Return a_r and a_f of the Nash bargain between two gradients.

    Args:
        retain_square: Squared norm of the retain gradient.
        forget_square: Squared norm of the forget gradient.
        product: Inner product of the two gradients.
    """
    # float64, where the squares of tiny norms neither vanish nor lose the angle
    norms = retain_square.double().sqrt(), forget_square.double().sqrt()
    if 0 in norms:
        # a player without a gradient does not bargain, and the other takes a step of length 1
        return tuple(torch.zeros_like(n) if n == 0 else 1 / n for n in norms)  # type: ignore[return-value]
    cosine = (product.double() / (norms[0] * norms[1])).clamp(-1, 1)
    share = (1 + cosine).clamp_min(OPPOSITE).rsqrt()
    return share / norms[0], share / norms[1]


def released_bargain(retain_square: Tensor, forget_square: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Return a_r and a_f as the released code computes them. Arguments are those of `bargain`."""
    r, f, p = retain_square, forget_square, product
    a_r = ((r * f - p * (r * f).sqrt()) / (r * r * f - r * p * p + RELEASED_EPSILON)).sqrt()
    a_f = (1 - r * a_r * a_r) / (p * a_r + RELEASED_EPSILON)
    if a_r > 0 and a_f > 0:
        return a_r, a_f
    return r.new_tensor(RELEASED_FALLBACK[0]), r.new_tensor(RELEASED_FALLBACK[1])


@dataclass(frozen=True, kw_only=True)
class MUNBa(GradientMethod):
    """Descend where the retain set and the relabelled forget set both gain (MUNBa, Nash bargaining).

    Args:
        lr_schedule: Course of the learning rate.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        as_released: Follow the numerics and the random labels of the released code.
    """

    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "cosine"
    clip: float | None = 1.0
    as_released: bool = False

    published: ClassVar = {"as_released": True, "lr_schedule": "constant", "max_drop": 100.0}
    needs: ClassVar = ("relabel", "other_labels")
    search: ClassVar = {"lr": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}
    schedule: ClassVar = "retain+forget"

    def pairs(self, run: Run) -> Iterator[Pair]:
        together = steps_per_epoch(run, "forget", self.batch_size)
        for number, (forget, retain) in enumerate(pairs(run, self.schedule, self.batch_size)):
            yield forget if number < together else None, retain

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the retain loss, or with a forget batch the sum of both losses with the gradient of the bargain."""
        assert retain is not None
        retain_loss = run.task.loss(run.model, retain).mean()
        if forget is None:
            return retain_loss
        labels = RandomLabel(paper=self.as_released).other_labels(run, forget.y)
        forget_loss = run.task.relabel_loss(run.model, forget, labels).mean()
        g_r, g_f = free_gradients(run, retain_loss), free_gradients(run, forget_loss)
        squares = inner_product(g_r, g_r), inner_product(g_f, g_f)
        solve = released_bargain if self.as_released else bargain
        a_r, a_f = solve(*squares, inner_product(g_r, g_f))
        direction = {n: (a_r * g_r[n] + a_f * g_f[n]).to(g_r[n].dtype) for n in g_r}
        return with_gradients(run, retain_loss + forget_loss, direction)
