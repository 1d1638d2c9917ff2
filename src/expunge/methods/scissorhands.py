"""Scissorhands: draw the weights anew that connect most to the forget set, then repair without steps that teach it again.

    saliency = |theta * gradient of the forget loss|;    the share `reinit` of largest saliency is drawn anew
    loss = CE(retain) - ascent * CE(forget),    gradient g <- g + v * g_o if <g, g_o> < 0

g_o is the gradient of -CE(forget) at the start of the epoch, and v >= margin minimises |g + v * g_o|. So without a margin the
projected gradient is orthogonal to g_o.

Source: Wu, Harandi, "Scissorhands: Scrub Data Influence via Connection Sensitivity in Networks", ECCV 2024, arXiv:2401.06187. The
full text could not be read: rule and settings are from the authors' code (JingWu321/Scissorhands, commit 73ae065).

Published:
- New weights are Kaiming uniform with a = sqrt(5); new biases are 0.
- 10 epochs. CIFAR-10: 10 % of the samples, `reinit` 0.03, ascent 0.05, learning rate 5e-3; 50 %, 0.03, 0.01 and 1e-3. CIFAR-100:
  0.01, 1 and 5e-3. SVHN: 0.1, 0.01 and 1e-3, ascent 0.1 for a class.
- Each forget batch has a retain batch beside it. The retain batches that are left over take plain steps.
- The code requires v >= 1/2, so the smallest conflict adds half of g_o (`paper=True`).

Differences from the released code:
- It ranks all weights, but draws only those anew whose names contain "layer3", "layer4" or "fc", and projects only these. Here both
  mean all convolutions and linear layers, and the share is exact.
- One forget batch decides its saliency. Here the whole forget set does.

Under a mask, only weights inside it are drawn anew, and gradients are projected after masking.

Cost: One gradient of the forget set at the start of each epoch, then one pass over the retain set for each
epoch, with as many forget samples beside it.

When not to use it: Weights must not be drawn anew, or few retain samples are left for the repair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError
from ..masks.mask import top_mask
from ..masks.per_sample_gradients import NamedTensors, mean_gradient, random_samples
from ..torch_utils.module_state import evaluating
from ..training.loop import choose_mask
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.schedule import Pair, pairs, steps_per_epoch
from ._gradients import free_gradients, inner_product, with_gradients

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def projection(product: Tensor, square: Tensor, margin: float) -> Tensor:
    """Return v, the factor on g_o: 0 where the gradients do not conflict.

    Args:
        product: Inner product of g and g_o.
        square: Squared length of g_o.
        margin: Least v of a conflict.
    """
    v = (-product / square.clamp_min(1e-30)).clamp_min(margin)
    return torch.where(product < 0, v, torch.zeros_like(v))


@dataclass(frozen=True, kw_only=True)
class Scissorhands(GradientMethod):
    """Draw the weights of largest connection sensitivity anew, then repair with projected gradients (Scissorhands).

    Args:
        lr: Learning rate.
        reinit: Share of the weights of convolutions and linear layers that is drawn anew, above 0 and at most 1.
        ascent: Weight of the ascent on the forget set, at least 0.
        margin: Least share of g_o that a conflict adds to the gradient, at least 0.
    """

    lr: float = 5e-3
    reinit: float = 0.03
    ascent: float = 0.05
    margin: float = 0.0

    published: ClassVar = {"margin": 0.5, "max_drop": 100.0}
    search: ClassVar = {
        "lr": (1e-3, 5e-3, 1e-2, 3e-2, 1e-1),
        "reinit": (0.01, 0.03, 0.1, 0.3),
        "ascent": (0.01, 0.05, 0.1, 0.3, 1.0),
    }
    schedule: ClassVar = "retain+forget"

    def prepare(self, run: Run) -> None:
        """Draw the most salient weights anew.

        Raises:
            ModelError: The model has no trainable weight in a convolution or linear layer.
        """
        # chosen before the weights change, since weights outside the mask must stay bit-identical
        run.mask = choose_mask(run, self)
        gradients = mean_gradient(run.model, run.task, run.split.forget)
        parameters = dict(run.model.named_parameters())
        eligible = self._eligible(run, parameters)
        scores = {n: (parameters[n].detach() * gradients[n].to(parameters[n].dtype)).abs() for n in eligible}
        chosen, draw = top_mask(scores, self.reinit), run.generator("weights")
        with torch.no_grad():
            for name, selected in chosen.items():
                parameter, fresh = parameters[name], torch.zeros(parameters[name].shape)
                if parameter.ndim > 1:
                    nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=draw)
                free = selected if run.mask is None else selected & run.mask[name].to(selected.device)
                parameter.copy_(torch.where(free.to(parameter.device), fresh.to(parameter), parameter))
        run.memo["redrawn"] = {n: int(m.sum()) for n, m in chosen.items()}

    def _eligible(self, run: Run, parameters: dict[str, nn.Parameter]) -> list[str]:
        names = [
            f"{prefix}.{part}" if prefix else part
            for prefix, module in run.model.named_modules()
            if isinstance(module, LAYERS)
            for part in ("weight", "bias")
        ]
        eligible = [n for n in names if n in parameters and parameters[n].requires_grad]
        if not eligible:
            raise ModelError(
                "scissorhands draws weights of convolutions and linear layers anew, and the model has none that may move; use "
                "neg_grad_plus."
            )
        return eligible

    def pairs(self, run: Run) -> Iterator[Pair]:
        run.memo["memory"] = self._memory(run)
        together = steps_per_epoch(run, "forget", self.batch_size)
        for number, (forget, retain) in enumerate(pairs(run, self.schedule, self.batch_size)):
            yield forget if number < together else None, retain

    def _memory(self, run: Run) -> NamedTensors:
        """Return g_o on one forget batch of the model as it is, in eval mode."""
        few = random_samples(run.split.forget, self.batch_size, run.generator("memory"))
        with evaluating(run.model):
            (batch,) = few.batches(max(1, len(few)), device=run.device)
            return free_gradients(run, -run.task.loss(run.model, batch).mean())

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the retain loss, with a forget batch minus its weighted loss, with the projected gradient."""
        assert retain is not None
        loss = run.task.loss(run.model, retain).mean()
        if forget is None:
            return loss
        loss = loss - self.ascent * run.task.loss(run.model, forget).mean()
        g, g_o = free_gradients(run, loss), run.memo["memory"]
        v = projection(inner_product(g, g_o), inner_product(g_o, g_o), self.margin)
        return with_gradients(run, loss, {n: g[n] + v.to(g[n].dtype) * g_o[n] for n in g})

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of weights of each tensor that were drawn anew."""
        return {"scissorhands": {"redrawn": run.memo["redrawn"]}}

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 < self.reinit <= 1:
            problems.append(f"reinit is {self.reinit}; it is a share of weights, above 0 and at most 1.")
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("ascent", "margin")
            if getattr(self, name) < 0
        ]
        return problems
