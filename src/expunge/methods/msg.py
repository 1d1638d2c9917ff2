"""MSG: draw the weights anew whose gradients differ least between the two sets, then fine-tune on the retain set.

    g = gradient of the loss on R - gradient of the loss on the forget set,    R a random part of the retain set, |R| = |forget|

In every convolution, the share `reinit` of the weights with the smallest |g| is drawn anew (Kaiming normal). Fine-tuning then
moves them at the full rate, and the other weights of convolutions at a tenth of it.

Source: an entry of the NeurIPS 2023 unlearning challenge (masked small gradients, second place), arXiv:2406.09073; evaluated in
Cadet, Borovykh, Malekzadeh, Ahmadi-Abhari, Haddadi, "Deep Unlearn", arXiv:2410.01276. The rule and the settings are from
the code of the latter (xcadet/deepunlearn, commit 6830ff6).

Published:
- `reinit` 0.3, 5 epochs of SGD, learning rate 1e-3, momentum 0.9, weight decay 5e-4, batch size 64.
- The rate rises to the middle epoch and falls again. Weight decay is not scaled.

Differences from the released code:
- The code sums gradients of batch means in train mode. Here every sample has the same influence, and batch norm stays.
- The code draws new biases for convolutions that have one. Here biases stay.
- The returned model of the code still scales its gradients in later training. Here only the run does.

Ours:
- The rate rises and falls by the step (`lr_schedule="one_cycle"`).
- A model without convolutions is edited in its linear layers, except the head if there is another.
- Under a mask, only weights inside it are drawn anew.

Cost: One gradient of the forget set and of as many retain samples, then one pass over the retain set for each
epoch.

When not to use it: Weights must not be drawn anew, for example because few epochs or few retain samples are
left for the repair.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError
from ..masks.per_sample_gradients import mean_gradient, random_samples
from ..training.loop import choose_mask
from ..training.method import GradientMethod
from ..training.run import Run
from ._gradients import free_gradients, with_gradients

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def smallest(values: Tensor, share: float) -> Tensor:
    """Return a bool tensor that selects exactly round(share * n) entries of smallest magnitude. Ties go by position."""
    chosen = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    chosen[values.abs().flatten().argsort(stable=True)[: round(share * values.numel())]] = True
    return chosen.view_as(values)


def edited_weights(run: Run) -> dict[str, Tensor]:
    """Return the weights of all convolutions by parameter name. Without any, those of the linear layers.

    The head is left out if there is another linear layer.

    Raises:
        ModelError: The model has neither.
    """
    modules = dict(run.model.named_modules())
    parameters = dict(run.model.named_parameters(remove_duplicate=False))

    def of_kind(kinds: Any) -> dict[str, Tensor]:
        names = {n: f"{n}.weight" if n else "weight" for n, m in modules.items() if isinstance(m, kinds)}
        return {key: parameters[key] for key in names.values() if key in parameters}

    if convolutions := of_kind(CONVOLUTIONS):
        return convolutions
    linear = of_kind(nn.Linear)
    if not linear:
        raise ModelError(
            "msg draws weights of convolutions or linear layers anew, and the model has neither; use finetune or salun."
        )
    # a model whose head is not known may still be edited
    with suppress(ModelError):
        head = f"{run.task.head(run.model)[0]}.weight" if "head" in run.task.offers else ""
        linear = {n: w for n, w in linear.items() if n != head} or linear
    return linear


@dataclass(frozen=True, kw_only=True)
class MSG(GradientMethod):
    """Draw weights with small gradient differences anew, then fine-tune (masked small gradients, MSG).

    Args:
        epochs: Number of passes over the retain set.
        lr: Learning rate.
        batch_size: Samples per step.
        lr_schedule: Course of the learning rate.
        reinit: Share of the weights of each convolution that is drawn anew, from 0 to 1.
        other_rate: Factor on the gradient of the other weights of convolutions, at least 0.
    """

    epochs: int = 5
    lr: float = 1e-3
    batch_size: int = 64
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "one_cycle"
    reinit: float = 0.3
    other_rate: float = 0.1

    published: ClassVar = {"max_drop": 100.0}
    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "reinit": (0.1, 0.3, 0.5, 0.7)}
    schedule: ClassVar = "retain"

    def prepare(self, run: Run) -> None:
        """Select weights by their gradients and draw them anew."""
        # chosen before the weights change, since weights outside the mask must stay bit-identical
        run.mask = choose_mask(run, self)
        weights = edited_weights(run)
        part = random_samples(run.split.retain, len(run.split.forget), run.generator("part"))
        retain, forget = (mean_gradient(run.model, run.task, s) for s in (part, run.split.forget))
        draw, selected = run.generator("weights"), {}
        with torch.no_grad():
            for name, weight in weights.items():
                if not weight.requires_grad:
                    continue
                selected[name] = smallest(retain[name] - forget[name], self.reinit)
                fresh = torch.empty(weight.shape)
                nn.init.kaiming_normal_(fresh, mode="fan_out", nonlinearity="relu", generator=draw)
                free = (
                    selected[name] if run.mask is None else selected[name] & run.mask[name].to(weight.device)
                )
                weight.copy_(torch.where(free, fresh.to(weight), weight))
        run.memo["selected"] = selected

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the retain loss, with a smaller gradient for weights of convolutions that were not drawn anew."""
        assert retain is not None
        loss = run.task.loss(run.model, retain).mean()
        selected = run.memo["selected"]
        scaled = {
            n: torch.where(selected[n], g, self.other_rate * g) if n in selected else g
            for n, g in free_gradients(run, loss).items()
        }
        return with_gradients(run, loss, scaled)

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of selected weights of each layer."""
        return {"msg": {"selected": {n: int(m.sum()) for n, m in run.memo["selected"].items()}}}

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 <= self.reinit <= 1:
            problems.append(
                f"reinit is {self.reinit}; it is the share of weights that is drawn anew, from 0 to 1."
            )
        if self.other_rate < 0:
            problems.append(f"other_rate is {self.other_rate}; it must be at least 0.")
        return problems
