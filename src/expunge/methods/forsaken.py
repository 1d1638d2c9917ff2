"""Forsaken: mask few weights so that the outputs on the forget set look like outputs on samples that the model never saw.

    loss = KL(P || p(forget)) + penalty * |theta - theta_0|_1

P is the mean output of the original on unseen samples.

Source: Liu, Ma, Liu, Liu, Jiang, Ma, Yu, Ren, "Learn to Forget: Machine Unlearning via Neuron Masking", IEEE TDSC 2022,
doi:10.1109/TDSC.2022.3194884, arXiv:2003.10933. Only the abstract and third-party descriptions could be read.

Published: a generator is trained to produce mask gradients that move the outputs on the forget set toward those on
non-members; an l1 penalty keeps them few. The forgetting rate is the paper's measure (`--measure forgetting_rate`).

Ours, everything else:
- There is no generator. The change of each weight is learned itself, and the penalty is a proximal step, so most weights stay
  exactly as they were.
- P is taken for each class, over validation samples with the label of the forget sample. If the class itself is forgotten, P is
  the mean over the validation samples of all other classes. This mean is mainly the class distribution, so without validation
  samples up to 2,048 retained training samples stand for them.
- The settings, and frozen statistics of batch norm.

Cost: One forward pass of the original over the unseen samples, then one pass over the forget set for each
epoch.

When not to use it: There is no validation set for the outputs on unseen samples, or the published generator is
wanted: ours has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch, to_device
from ..errors import ExpungeError, raise_all
from ..masks.per_sample_gradients import random_samples, to_full_precision
from ..training.method import GradientMethod
from ..training.run import Run
from ..training.unseen_check import unseen_problems

# retained samples that stand for missing validation samples
MOST_SAMPLES = 2048


def unseen_outputs(probabilities: Tensor, labels: Tensor, forgotten: tuple[int, ...]) -> Tensor:
    """Return the mean output (K, K) that samples of each class should have.

    A class without samples, or one that is forgotten, gets the mean over the samples of all classes that are not forgotten.

    Args:
        probabilities: Outputs of the original on unseen samples (N, K).
        labels: Their labels (N,).
        forgotten: The forgotten classes.
    """
    gone = torch.isin(labels, torch.tensor(forgotten, dtype=labels.dtype))
    rows = []
    for k in range(probabilities.shape[1]):
        chosen = (labels == k) & ~gone
        rows.append(probabilities[chosen if chosen.any() else ~gone].mean(0))
    return torch.stack(rows)


@dataclass(frozen=True, kw_only=True)
class Forsaken(GradientMethod):
    """Mask few weights until forget samples look like unseen samples (Forsaken, neuron masking).

    Args:
        epochs: Number of passes over the forget set.
        lr: Learning rate.
        weight_decay: Weight decay of the optimizer.
        batch_norm: Whether batch norm's running statistics are updated or frozen during the steps.
        penalty: Weight of the l1 norm of the change. Larger values change fewer weights.
    """

    epochs: int = 20
    lr: float = 1e-2
    weight_decay: float = 0.0
    batch_norm: Literal["update", "freeze"] = "freeze"
    penalty: float = 1e-4

    needs: ClassVar = ("logits",)
    needs_unseen: ClassVar = "imitates outputs on unseen samples"
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "penalty": (1e-5, 1e-4, 1e-3)}
    schedule: ClassVar = "forget"

    def prepare(self, run: Run) -> None:
        """Take the outputs of the original on the validation set, or on retained samples where it has no other classes.

        Raises:
            ExpungeError: No class is forgotten, and the split has no validation samples.
        """
        raise_all(unseen_problems(self, run.split), ExpungeError)
        task: Any = run.task
        unseen, gone = run.split.validation, run.split.forget_classes
        if not bool((~torch.isin(unseen.labels, torch.tensor(gone, dtype=torch.int64))).any()):
            unseen = random_samples(run.split.retain, MOST_SAMPLES, run.generator("unseen"))
            run.note(
                f"forsaken imitates the mean output on {len(unseen):,} retained training samples, because the split has no "
                "validation samples.",
                warn=False,
            )
        outputs = task.predict(run.original, unseen, batch_size=run.compute.eval_batch)
        run.memo["targets"] = unseen_outputs(outputs.logits.softmax(1), outputs.labels, gone)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean divergence from the outputs on unseen samples."""
        assert forget is not None
        logits = to_full_precision(run.task.logits(run.model, forget.x))
        targets = to_device(run.memo["targets"], logits.device).to(logits.dtype)[forget.y]
        return F.kl_div(F.log_softmax(logits, 1), targets, reduction="batchmean")

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Take the proximal step of the penalty: shrink each change, small ones to exactly 0."""
        limit = optimizer.param_groups[0]["lr"] * self.penalty
        original = dict(run.original.named_parameters())
        for name, parameter in run.model.named_parameters():
            if parameter.requires_grad:
                change = F.softshrink(parameter - original[name], limit)
                # a sum with 0 would turn a weight of -0.0 into 0.0
                parameter.copy_(torch.where(change == 0, original[name], original[name] + change))

    def details(self, run: Run) -> dict[str, Any]:
        """Return the share of the weights that changed."""
        original = dict(run.original.named_parameters())
        changed = [(p.detach() != original[n]).float().sum() for n, p in run.model.named_parameters()]
        total = sum(p.numel() for p in original.values())
        return {"forsaken": {"changed": float(sum(changed)) / total}}

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.penalty < 0:
            problems.append(f"penalty is {self.penalty}; it must be at least 0.")
        return problems
