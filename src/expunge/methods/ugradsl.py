"""UGradSL: gradient ascent on the forget set with negatively smoothed labels, mixed with descent on the retain set.

Di, Zhu, Jia, Liu, Takhirov, Jiang, Yao, Liu, Liu, "Label Smoothing Improves Machine Unlearning", arXiv:2406.07698
(ICLR 2026).

Published: the generalized smoothed label (1 - alpha) e_y + (alpha / K) 1 with alpha < 0 (GLS, Wei et al., ICML 2022); the
objective p * CE(retain) - (1 - p) * CE_alpha(forget) (equation 8); one epoch is a pass over the forget set with a random
retain batch of equal size beside each batch (UGradSL), or a pass over the retain set with the forget set cycling
(UGradSL+, `ugradsl_plus`); the self-adaptive rate alpha_j = c_j / |B_f|, c_j the number of retain samples of the batch
nearer than beta. Not published, or not found: learning rates, p, alpha, epochs, the distance and its space.

Ours: sums become means over the two batches; one forward pass for both; distance 1 - cosine of penultimate features
(halved where features can be negative), beta the median distance of the first batch; the adaptive rate keeps the sign
that negative smoothing needs, `rate="adaptive"` gives samples in a dense retain neighbourhood less effort, as the paper
argues, `rate="literal"` more, as its formula says. The ascent is unbounded below (its label is no distribution), hence,
all on by default and all off under `paper_exact=True`: the gate (a sample at or under the confidence of unseen ones
exerts no force), the norm clip, the stop rule (a look every `probe_every` steps: it overshoots by what those do) and the
5-point limit on retained accuracy. The loop's NaN guard stays.
With early_stop off and clip None, p = 1 is FT (in `ugradsl_plus`, whose epochs are FT's), and p = 0 with smoothing 0 and the
gate off is GA, step for step.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..data.likeness import importance_weights, weighted_mean
from ..tasks.task import Capability
from ..torch_utils.module_state import evaluating
from ..training.method import GradientMethod
from ..training.run import Row, Run


def smoothed_loss(logits: Tensor, y: Tensor, alpha: Tensor | float) -> Tensor:
    """Generalized-label-smoothing cross-entropy (B,) of logits (B, K): (1 - alpha) * nll + alpha * mean over all classes.

    `alpha` is one rate or one a sample (B,); negative rates sharpen beyond one-hot. The gradient is softmax - label.
    """
    logp = F.log_softmax(logits, 1)
    nll = -logp.gather(1, y[:, None])[:, 0]
    return (1 - alpha) * nll - alpha * logp.mean(1)


def distances(retain: Tensor, forget: Tensor) -> Tensor:
    """Cosine distances (R, F) in [0, 1] of features (R, D) and (F, D); halved where a feature is negative."""
    cosine = F.normalize(retain.float(), dim=1) @ F.normalize(forget.float(), dim=1).T
    signed = torch.minimum(retain.min(), forget.min()) < 0
    return torch.where(signed, (1 - cosine) / 2, 1 - cosine).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class UGradSL(GradientMethod):
    """UGradSL: ascent with negative label smoothing beside descent, over the forget set."""

    epochs: int = 5
    lr: float = 3e-3
    p: float = 0.9  # weight of the retain term; 1 - p is that of the ascent
    smoothing: float = -0.2  # alpha, the fixed rate; 0 is plain ascent
    rate: Literal["fixed", "adaptive", "literal"] = (
        "fixed"  # one rate, or one a sample from its neighbourhood
    )
    max_rate: float = 1.0  # the largest |alpha| that the adaptive rate gives
    beta: float | None = (
        None  # distance under which a retain sample is a neighbour; None: median of the first batch
    )
    gate: bool = True  # no force on samples at or under the gate's confidence
    gate_at: float | None = None  # None: 1/K class-wise, else the mean confidence on the validation set
    clip: float | None = 1.0
    early_stop: bool = True  # stop once forget accuracy is that of unseen samples
    max_drop: float = 5.0
    probe_every: int = 10
    allow_positive: bool = False  # let smoothing be above 0, which ascends every class
    paper_exact: bool = False  # gate, clip, stop rule and drop limit off

    needs: ClassVar = ("logits", "classes", "scores")
    search: ClassVar = {
        "lr": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        "p": (0.5, 0.7, 0.9, 0.95, 0.98),
        "smoothing": (0.0, -0.2, -0.5, -1.0, -2.0, -4.0),
    }

    def __post_init__(self) -> None:
        if self.paper_exact:
            for name, value in (("gate", False), ("clip", None), ("early_stop", False), ("max_drop", 100.0)):
                object.__setattr__(self, name, value)

    def requires(self) -> tuple[Capability, ...]:
        features: tuple[Capability, ...] = () if self.rate == "fixed" else ("features", "head")
        return (*self.needs, *features)

    def plan(self) -> str:
        return "forget" if self.p == 0 else "forget+retain"

    def prepare(self, run: Run) -> None:
        """What unseen samples like those of the forget set look like to the original: the gate's confidence and the stop
        rule's accuracy (percent)."""
        run.memo.update(gate=1 / run.task.num_classes, target=0.0)
        if not run.split.forget_classes and (self.gate or self.early_stop):
            if not len(run.split.validation):
                self._unguarded(run)
                return
            right, sure = [], []
            with evaluating(run.model), torch.inference_mode():
                for batch in run.split.validation.batches(run.compute.eval_batch, device=run.device):
                    loss = run.task.loss(run.model, batch)
                    sure.append((-loss).exp())
                    right.append(run.task.sample_scores(run.model, batch))
            alike = importance_weights(run.split)
            run.memo.update(
                gate=weighted_mean(torch.cat(sure), alike),
                target=100 * weighted_mean(torch.cat(right), alike),
            )
        if self.gate_at is not None:
            run.memo["gate"] = self.gate_at

    def _unguarded(self, run: Run) -> None:
        """Without validation samples nothing says what an unseen sample looks like: no gate, no stop rule."""
        run.memo.update(gate=-1.0 if self.gate_at is None else self.gate_at, target=-1.0)
        warnings.warn(
            "the split has no validation samples, so the gate and the stop rule are off; draw it with a validation share, "
            "or set gate_at and epochs.",
            RuntimeWarning,
            stacklevel=2,
        )

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        task, model = run.task, run.model
        if forget is None or self.p == 1:
            assert retain is not None
            return self.p * task.loss(model, retain).mean()
        if retain is None:
            logits = task.logits(model, forget.x)  # type: ignore[attr-defined]
            return -(1 - self.p) * self._ascent(
                run, logits, forget.y, torch.tensor(self.smoothing, device=logits.device)
            )
        features, logits = self._forward(run, retain, forget)
        alpha = torch.tensor(self.smoothing, device=logits.device)
        if self.rate != "fixed":
            alpha = self.rates(run, features[: len(retain)].detach(), features[len(retain) :].detach())
        keep = F.cross_entropy(logits[: len(retain)], retain.y)
        return self.p * keep - (1 - self.p) * self._ascent(run, logits[len(retain) :], forget.y, alpha)

    def _forward(self, run: Run, *batches: Batch) -> tuple[Tensor, Tensor]:
        """Features (B, D), none at a fixed rate, and logits (B, K) of all batches: in one pass where they have one shape
        (texts padded batch by batch have not)."""
        task: Any = run.task
        together = [Batch.join(*batches)] if len({b.shape for b in batches}) == 1 else batches
        outs = [
            (torch.empty(0), task.logits(run.model, b.x))
            if self.rate == "fixed"
            else task.with_features(run.model, b.x)
            for b in together
        ]
        return torch.cat([f for f, _ in outs]), torch.cat([logits for _, logits in outs])

    def _ascent(self, run: Run, logits: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        losses = smoothed_loss(logits, y, alpha)
        if self.gate:
            confidence = logits.detach().softmax(1).gather(1, y[:, None])[:, 0]
            losses = torch.where(confidence > run.memo["gate"], losses, losses.detach())
        return losses.mean()

    def rates(self, run: Run, retain: Tensor, forget: Tensor) -> Tensor:
        """The self-adaptive rate of each forget sample (F,), from features (R, D) and (F, D) of the same step."""
        distance = distances(retain, forget)
        if "beta" not in run.memo:
            run.memo["beta"] = float(distance.median()) if self.beta is None else self.beta
        share = (distance < run.memo["beta"]).float().mean(0)
        return -self.max_rate * (share if self.rate == "literal" else 1 - share)

    def stop(self, run: Run, row: Row) -> str | None:
        if self.early_stop and row["forget"] is not None and row["forget"] <= run.memo["target"]:
            return f"forget accuracy {row['forget']:.1f} reached that of unseen samples, {run.memo['target']:.1f}"
        return None

    def problems(self) -> list[str]:
        found = super().problems()
        if not 0 <= self.p <= 1:
            found.append(f"p is {self.p}; it weighs retain against forget, from 0 to 1.")
        if self.smoothing > 0 and not self.allow_positive:
            found.append(
                f"smoothing is {self.smoothing}; ascent needs a rate of at most 0 (positive rates push every class down); "
                "set allow_positive to try it."
            )
        if self.max_rate < 0:
            found.append(f"max_rate is {self.max_rate}; it must be at least 0.")
        return found
