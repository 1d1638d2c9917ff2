"""UGradSL: ascend on the forget set with negatively smoothed labels and descend on the retain set.

    loss = p * CE(retain) - (1 - p) * CE_alpha(forget)
    CE_alpha uses the label (1 - alpha) * e_y + (alpha / K) * 1 with alpha < 0

Source: Di, Zhu, Jia, Liu, Takhirov, Jiang, Yao, Liu, Liu, "Label Smoothing Improves Machine Unlearning",
arXiv:2406.07698 (ICLR 2026), equation 8. The generalized smoothed label (GLS) is from Wei et al., ICML 2022.

Published:
- UGradSL: an epoch is a pass over the forget set, with a random retain batch of equal size beside each batch.
- UGradSL+ (`ugradsl_plus`): an epoch is a pass over the retain set, and the forget set repeats as needed.
- The self-adaptive rate alpha_j = c_j / |B_f|. c_j is the number of retain samples in the batch nearer than beta.

Not published, or not found: learning rates, p, alpha, epochs, the distance and its space.

Ours:
- Sums become means over the two batches, and both batches share one forward pass.
- The distance is 1 - cosine of penultimate features, halved where features can be negative. beta is the median distance of
  the first batch.
- The adaptive rate has the sign that negative smoothing needs. `rate="adaptive"` gives samples in a dense retain
  neighbourhood a smaller rate, as the paper argues. `rate="literal"` gives them a larger one, as its formula says.
- Four safeguards, because the ascent has no lower bound. The gate stops the ascent on a sample that is at or below the
  confidence of unseen samples. The gradient norm is clipped. The stop rule ends the run once forget accuracy reaches that
  of unseen samples, at the next evaluation (`probe_every`). Retained accuracy may drop by at most 5 percentage points.

`paper=True` turns all four safeguards off. The guard of the training loop against NaN stays on.

Special cases with `early_stop=False` and `clip=None`: `ugradsl_plus` with p = 1 is FT. p = 0 with smoothing 0 and the gate
off is GA. Both are equal step for step.

Cost: One pass over the forget set for each epoch, with as many retain samples beside it: two samples for each
forget sample. Before the run, one evaluation of unseen samples.

When not to use it: There is no retain set or no validation set: without unseen samples nothing stops the ascent
except `max_drop` and the gradient limit. In the benchmarks it was far from Retrain on random forget sets of
CIFAR-10, where the guard stopped it early; ugradsl_plus was nearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch
from ..data.likeness import removes_classes_only
from ..tasks.task import Capability
from ..training.method import GradientMethod
from ..training.run import Row, Run
from ._unseen import measure_unseen, stop_reason, target_details


def smoothed_loss(logits: Tensor, y: Tensor, alpha: Tensor | float) -> Tensor:
    """Return the cross-entropy (B,) with generalized label smoothing.

    It is (1 - alpha) * nll + alpha * (mean of the nll of all classes). Its gradient is softmax - label.

    Args:
        logits: Logits (B, K).
        y: Labels (B,).
        alpha: One rate, or one rate per sample (B,). Negative rates make the label sharper than one-hot.
    """
    logp = F.log_softmax(logits, 1)
    nll = -logp.gather(1, y[:, None])[:, 0]
    return (1 - alpha) * nll - alpha * logp.mean(1)


def distances(retain: Tensor, forget: Tensor) -> Tensor:
    """Return cosine distances (R, F) in [0, 1] of features (R, D) and (F, D), halved if any feature is negative."""
    cosine = F.normalize(retain.float(), dim=1) @ F.normalize(forget.float(), dim=1).T
    any_negative = torch.minimum(retain.min(), forget.min()) < 0
    return torch.where(any_negative, (1 - cosine) / 2, 1 - cosine).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class UGradSL(GradientMethod):
    """Ascend with negative label smoothing and descend on the retain set, in passes over the forget set (UGradSL).

    Args:
        epochs: Number of passes over the set that the method iterates over.
        lr: Learning rate.
        p: Weight of the retain loss, from 0 to 1. The ascent has weight 1 - p.
        smoothing: alpha, the fixed smoothing rate, at most 0. 0 is plain ascent.
        rate: The smoothing rate: "fixed" for all samples, or one per sample from its neighbours ("adaptive" as the paper
            argues, "literal" as its formula says).
        max_rate: Largest |alpha| of an adaptive rate.
        beta: Distance below which a retain sample is a neighbour. None takes the median of the first batch.
        gate: Stop the ascent on samples at or below the gate's confidence.
        gate_at: Confidence of the gate. None takes 1/K for a class-wise split, otherwise the mean confidence on comparable
            validation samples.
        clip: Maximum L2 norm of a step's gradient. None disables clipping.
        early_stop: End the run once forget accuracy reaches that of unseen samples.
        max_drop: Maximum drop in retain accuracy, in percentage points. If exceeded, the run rolls back to the last good
            state.
        probe_every: Steps between two evaluations of the accuracies. 0 evaluates once per epoch.
        allow_positive: Accept a smoothing above 0, which pushes every class down.
        paper: Turn off the gate, clipping, the stop rule and the limit on the drop.
    """

    epochs: int = 5
    lr: float = 3e-3
    p: float = 0.9
    smoothing: float = -0.2
    rate: Literal["fixed", "adaptive", "literal"] = "fixed"
    max_rate: float = 1.0
    beta: float | None = None
    gate: bool = True
    gate_at: float | None = None
    clip: float | None = 1.0
    early_stop: bool = True
    max_drop: float = 5.0
    probe_every: int = 10
    allow_positive: bool = False
    paper: bool = False

    published: ClassVar = {"gate": False, "clip": None, "early_stop": False, "max_drop": 100.0}
    needs: ClassVar = ("logits", "classes", "scores")
    search: ClassVar = {
        "lr": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        "p": (0.5, 0.7, 0.9, 0.95, 0.98),
        "smoothing": (0.0, -0.2, -0.5, -1.0, -2.0, -4.0),
    }

    def requires(self) -> tuple[Capability, ...]:
        features: tuple[Capability, ...] = () if self.rate == "fixed" else ("features", "head")
        return (*self.needs, *features)

    def plan(self) -> str:
        return "forget" if self.p == 0 else "forget+retain"

    def unseen_rules(self) -> str:
        rules = ["the gate"] if self.gate and self.gate_at is None else []
        return " and ".join([*rules, *(["the stop rule"] if self.early_stop else [])])

    def prepare(self, run: Run) -> None:
        """Estimate on validation samples the gate's confidence and the stop rule's accuracy (percent)."""
        limit, gone = 1 / run.task.num_classes, tuple[int, ...]()
        if self.gate or self.early_stop:
            confidence = measure_unseen(run, self.unseen_rules())
            if confidence is not None:
                limit, gone = confidence, run.split.forget_classes
            elif not removes_classes_only(run.split):
                limit = -1.0
        if self.gate_at is not None:
            limit, gone = self.gate_at, ()
        run.memo.update(gate=limit, gone=gone)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return p * retain loss - (1 - p) * smoothed forget loss."""
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
        retain_loss = F.cross_entropy(logits[: len(retain)], retain.y)
        return self.p * retain_loss - (1 - self.p) * self._ascent(run, logits[len(retain) :], forget.y, alpha)

    def _forward(self, run: Run, *batches: Batch) -> tuple[Tensor, Tensor]:
        """Return the features (B, D), empty for a fixed rate, and the logits (B, K) of all batches.

        Batches of one shape share a forward pass. Texts padded batch by batch have several shapes.
        """
        task: Any = run.task
        passes = [Batch.join(*batches)] if len({b.shape for b in batches}) == 1 else batches
        outputs = [
            (torch.empty(0), task.logits(run.model, b.x))
            if self.rate == "fixed"
            else task.with_features(run.model, b.x)
            for b in passes
        ]
        return torch.cat([f for f, _ in outputs]), torch.cat([logits for _, logits in outputs])

    def _ascent(self, run: Run, logits: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        """Return the mean smoothed loss of the forget samples; the gate stops the gradient of some."""
        losses = smoothed_loss(logits, y, alpha)
        if self.gate:
            confidence = logits.detach().softmax(1).gather(1, y[:, None])[:, 0]
            losses = torch.where(confidence > self._limits(run, y), losses, losses.detach())
        return losses.mean()

    def _limits(self, run: Run, y: Tensor) -> Tensor:
        """Return the confidence (B,) at which the gate closes. Beside other samples, that of a removed class is chance."""
        limits = torch.full(y.shape, float(run.memo["gate"]), device=y.device)
        gone = torch.tensor(run.memo["gone"], device=y.device, dtype=torch.int64)
        return torch.where(torch.isin(y, gone), 1 / run.task.num_classes, limits)

    def rates(self, run: Run, retain: Tensor, forget: Tensor) -> Tensor:
        """Return the self-adaptive rate of each forget sample (F,).

        Args:
            run: The run, which remembers beta of the first batch.
            retain: Features of the step's retain samples (R, D).
            forget: Features of the step's forget samples (F, D).
        """
        distance = distances(retain, forget)
        if "beta" not in run.memo:
            run.memo["beta"] = float(distance.median()) if self.beta is None else self.beta
        near_share = (distance < run.memo["beta"]).float().mean(0)
        return -self.max_rate * (near_share if self.rate == "literal" else 1 - near_share)

    def stop(self, run: Run, row: Row) -> str | None:
        return stop_reason(run, row) if self.early_stop else None

    def details(self, run: Run) -> dict[str, Any]:
        return target_details(run) if self.early_stop else {}

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 <= self.p <= 1:
            problems.append(f"p is {self.p}; it must be from 0 to 1, the weight of the retain loss.")
        if self.smoothing > 0 and not self.allow_positive:
            problems.append(
                f"smoothing is {self.smoothing}; it must be at most 0, since a positive rate pushes every class down. Set "
                "allow_positive to try it."
            )
        if self.max_rate < 0:
            problems.append(f"max_rate is {self.max_rate}; it must be at least 0.")
        return problems
