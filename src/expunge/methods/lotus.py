"""LoTUS: imitate softened, noisy outputs of the original on the forget set, and sampled labels on the retain set.

    forget target = softmax((original's log-probabilities + Gumbel noise) / T),    retain target = a class drawn from the original
    T = exp(alpha * (accuracy on the forget set - accuracy of the original on unseen samples)),    loss = -sum(target * log p)

T is recomputed in each epoch. The run stops when the accuracy on the forget set is a point below that on unseen samples.

Source: Spartalis, Semertzidis, Gavves, Daras, "LoTUS: Large-Scale Machine Unlearning with a Taste of Uncertainty", CVPR 2025,
arXiv:2503.18314. The settings are from the authors' code (cspartalis/LoTUS, commit 35ae25e).

Published:
- An epoch is a shuffled pass over the forget set and 30 % of the retain set, drawn once.
- 10 epochs of AdamW, learning rate 1e-4, weight decay 5e-4, batch size 128, alpha 2 (8 for CIFAR-10).
- If a class is forgotten, the accuracy on unseen samples counts as 0.
- The code rounds both accuracies to whole points (`paper=True`).

Ours:
- The unseen samples are the validation set. Trials use the same samples; the test set stays untouched.
- `trials="auto"` starts with alpha 8 if a class is forgotten. With alpha 2, a confident original stays the most probable class.
- In the union of a request for a class with one for samples, only the samples of the class count as 0 (the mean over both).
- Accuracies are not rounded, except under `paper`.

A retain target is a sample and not the most probable class, so it differs from that class with probability 1 - max p.

Cost: One pass over the forget set and a part of the retain set for each epoch, with a forward pass of the
original for each sample, and one evaluation for each epoch.

When not to use it: There is no validation set: the temperature comes from unseen samples. The original is as
accurate on unseen samples as on the forget set: then there is nothing to move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch, to_device
from ..data.likeness import Target, of_removed_classes, removes_classes_only, standard_error
from ..data.samples import Samples
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..errors import ExpungeError, raise_all
from ..masks.per_sample_gradients import to_full_precision
from ..training.run import Row, Run
from ..training.schedule import Pair
from ..training.unseen_check import unseen_problems
from ._retain_part import RetainPartMethod
from ._unseen import KEY, keep_target, target_details

# difference of the accuracies (shares) at which a run stops
ENOUGH = -0.01


def gumbel_target(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Return the softmax (B, K) of (log-probabilities + noise) / temperature; its one-hot limit for temperature 0.

    Args:
        logits: Logits (B, K).
        noise: Gumbel noise (B, K).
        temperature: T, at least 0.
    """
    noisy = F.log_softmax(to_full_precision(logits), 1) + noise
    if temperature == 0:
        return F.one_hot(noisy.argmax(1), noisy.shape[1]).to(noisy)
    return (noisy / temperature).softmax(1)


@dataclass(frozen=True, kw_only=True)
class LoTUS(RetainPartMethod):
    """Imitate noisy outputs of the original, softer on forget samples, until they look unseen (LoTUS).

    Args:
        lr: Learning rate.
        optimizer: Optimizer that takes the steps.
        batch_size: Samples per step.
        alpha: Strength of the softening: larger values give softer targets on the forget set. At least 0.
    """

    lr: float = 1e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    batch_size: int = 128
    alpha: float = 2.0

    published: ClassVar = {}
    needs: ClassVar = ("logits",)
    needs_unseen: ClassVar = "compares the forget set with unseen samples"
    search: ClassVar = {"lr": (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3), "alpha": (2.0, 4.0, 8.0, 16.0)}

    def prepare(self, run: Run) -> None:
        """Draw the part of the retain set, and measure the original on the validation set.

        Raises:
            ExpungeError: The split has no validation samples of retained classes, and forgets samples of such classes.
        """
        raise_all(unseen_problems(self, run.split), ExpungeError)
        run.memo["part"] = self.draw_part(run).index
        split = run.split
        if removes_classes_only(split):
            run.memo["unseen"] = 0.0
            return
        gone = torch.tensor(split.forget_classes, dtype=torch.int64)
        unseen = split.validation.take(~torch.isin(split.validation.labels, gone))
        if not len(unseen):
            raise ExpungeError(f"{self.name()} {self.needs_unseen}, and {NO_UNSEEN}; {REMEDY}.")
        retained = 1 - of_removed_classes(split).double().mean().item()
        share = self._accuracy(run, run.original, unseen)
        run.memo["unseen"] = retained * share
        error = retained * standard_error(100 * share, len(unseen))
        keep_target(run, Target(100 * retained * share, error, len(unseen)))

    def _accuracy(self, run: Run, model: Any, samples: Samples) -> float:
        """Return the accuracy as a share from 0 to 1."""
        task: Any = run.task
        share = task.predict(model, samples, batch_size=run.compute.eval_batch).accuracy / 100
        return round(share, 2) if self.paper else share

    def difference(self, run: Run) -> float:
        """Return the accuracy on the forget set minus that of the original on unseen samples, as shares."""
        if run.memo.get("measured") != run.step:
            accuracy = self._accuracy(run, run.model, run.split.forget)
            run.memo |= {"measured": run.step, "difference": accuracy - run.memo["unseen"]}
        return float(run.memo["difference"])

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return more epochs for a small request, and alpha 8 for a class, whose targets are otherwise hardly softened."""
        softer = {"alpha": 8.0} if removes_classes_only(run.split) and self.alpha < 8 else {}
        return {**super().adapted(run), **softer}

    def part(self, run: Run) -> Samples:
        # the same in every epoch
        return Samples(run.split.retain.data, run.memo["part"])

    def pairs(self, run: Run) -> Iterator[Pair]:
        run.memo["temperature"] = math.exp(self.alpha * self.difference(run))
        yield from super().pairs(run)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean cross-entropy with the noisy targets."""
        batches = [b for b in (forget, retain) if b is not None]
        temperatures = [run.memo["temperature"] if b is forget else 0.0 for b in batches]
        with torch.no_grad():
            targets = [
                self._target(run, b, temperature)
                for b, temperature in zip(batches, temperatures, strict=True)
            ]
        student = run.task.logits(run.model, Batch.join(*batches).x)
        return F.cross_entropy(to_full_precision(student), torch.cat(targets))

    def _target(self, run: Run, batch: Batch, temperature: float) -> Tensor:
        logits = to_full_precision(run.task.logits(run.original, batch.x))
        exponential = torch.empty(logits.shape).exponential_(generator=run.process_generator("gumbel"))
        noise = to_device(-exponential.log(), logits.device).to(logits.dtype)
        return gumbel_target(logits, noise, temperature)

    def stop(self, run: Run, row: Row) -> str | None:
        """Return a reason once forget samples are classified worse than unseen ones."""
        # equal shares may differ by rounding
        if not run.step or self.difference(run) > ENOUGH + 1e-9:
            return None
        target = f", {Target(**run.memo[KEY])}" if KEY in run.memo else ""
        return f"the accuracy on the forget set is a point below that on unseen samples{target}"

    def details(self, run: Run) -> dict[str, Any]:
        return target_details(run)

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.alpha < 0:
            problems.append(f"alpha is {self.alpha}; it must be at least 0.")
        return problems
