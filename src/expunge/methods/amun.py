"""AMUN: fine-tune with the nearest adversarial example of each forget sample, labelled as the original predicts it.

    x' = an input near x with another prediction y' of the original,    loss = CE on forget (x, y), adversarial (x', y') and retain

Two labels at almost the same point lower the confidence at x.

Source: Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, "Not All Wrong Is Bad: Using Adversarial Examples for Unlearning", ICML
2025, arXiv:2503.00917. The full text could not be read: rule and settings are from the authors' code (Ali-E/AMUN, commit 9e341a9).

Published:
- The attack: steps of length eps / 10 along the gradient, within a ball of radius eps and pixels in [0, 1]. After 50 steps without
  success eps doubles. It starts at 0.04 and is run once, on the original.
- 10 epochs of SGD, momentum 0.9, weight decay 5e-4, batch size 128, on all three sets (`use_retain=False`: without the retain
  set; `use_forget=False`: without the forget set, "advonly"). The code searches rates from 1e-5 to 0.1.
- A sample that the original misclassifies is its own adversarial example.
- Adversarial examples are not augmented.

Ours:
- The code's radius has no limit, so its loop may never end. Here a sample that withstands `max_radius` gets the most probable other
  class at the last point, with a warning.
- The attack follows the gradient of the margin. It has the direction of the published loss and does not vanish on memorised samples.
- The attack takes at most 20 steps at one radius, because 10 cross it (`attack_steps`).
- An adversarial example comes in the same batch as its forget sample.
- The rate falls by a cosine. The code divides it by 10 after every 1, 5 or 10 epochs.
- The method was published for random samples. `trials="auto"` leaves out true labels if a class is forgotten: they would keep it.
- Inputs must be images in [0, 1] before the normalisation of the data.

Cost: Up to `attack_steps` forward and backward passes of each forget sample for each radius, then one pass over
both sets and the adversarial examples for each epoch.

When not to use it: Inputs are not images in [0, 1], or the model is large: the attack costs more than the
training. A whole class must go: the published use is single samples.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import Batch, to_device
from ..data.samples import Data
from ..training.method import GradientMethod
from ..training.run import Run
from ._pixels import normalized, pixels_of

# steps that cross the radius
STEPS_PER_RADIUS = 10


@dataclass(frozen=True, kw_only=True)
class AMUN(GradientMethod):
    """Fine-tune with adversarial examples of the forget samples under their wrong labels (AMUN).

    Args:
        batch_size: Samples of the two sets per step, without the adversarial examples.
        lr_schedule: Course of the learning rate.
        radius: First radius of the attack (L2, pixels from 0 to 1). It doubles until the prediction changes.
        max_radius: Largest radius of the attack.
        attack_steps: Steps of the attack at one radius.
        use_forget: Whether to train on the forget samples with their true labels.
        use_retain: Whether to train on the retain set.
    """

    batch_size: int = 128
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "cosine"
    radius: float = 0.04
    max_radius: float = 100.0
    attack_steps: int = 20
    use_forget: bool = True
    use_retain: bool = True

    published: ClassVar = {"attack_steps": 50, "max_drop": 100.0}
    needs: ClassVar = ("relabel", "logits")
    search: ClassVar = {"lr": (1e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1), "use_forget": (True, False)}

    def plan(self) -> str:
        return "mixed" if self.use_retain else "forget"

    def prepare(self, run: Run) -> None:
        """Find an adversarial example of each forget sample.

        Raises:
            ExpungeError: The inputs are not images in [0, 1].
        """
        forget = run.split.forget
        found: list[Tensor] = []
        labels = torch.empty(len(forget), dtype=torch.int64)
        robust = done = 0
        for batch in forget.batches(run.compute.eval_batch, device=run.device):
            pixels = pixels_of(forget.data, batch, "amun", "delete or random_label")
            adversarial, wrong, failed = self.attack(run, forget.data, pixels.detach(), batch.y)
            found.append(adversarial.cpu())
            labels[done : done + len(batch)] = wrong.cpu()
            done, robust = done + len(batch), robust + failed
        # an entry for each position of the data, as batches name their samples
        run.memo["row"] = torch.full((len(forget.data),), -1)
        run.memo["row"][forget.index] = torch.arange(len(forget))
        run.memo |= {"pixels": torch.cat(found), "labels": labels, "robust": robust}
        if robust:
            warnings.warn(
                f"{robust} of {len(forget)} forget samples keep their prediction within max_radius = {self.max_radius:g}; they get the "
                "most probable other class instead.",
                RuntimeWarning,
                stacklevel=2,
            )

    def attack(self, run: Run, data: Data, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return adversarial pixels (B, ...), their labels (B,), and the number of samples that withstood the attack.

        Args:
            run: The run, whose original is attacked.
            data: The data, for its normalisation.
            x: Pixels (B, ...) in [0, 1].
            y: Labels (B,).
        """
        adversarial, radius = x.clone(), self.radius
        rows = torch.arange(len(x), device=x.device)
        while len(rows) and radius <= self.max_radius:
            for _ in range(self.attack_steps):
                stepped, kept = self._step(run, data, x[rows], adversarial[rows], y[rows], radius)
                # what is predicted as another class stays where it is
                rows = rows[kept]
                adversarial[rows] = stepped[kept]
                if not len(rows):
                    break
            radius *= 2
        logits = run.task.logits(run.original, normalized(data, adversarial)).detach()
        robust = int((logits.argmax(1) == y).sum())
        return adversarial, logits.scatter(1, y[:, None], -torch.inf).argmax(1), robust

    def _step(
        self, run: Run, data: Data, x: Tensor, at: Tensor, y: Tensor, radius: float
    ) -> tuple[Tensor, Tensor]:
        """Return the points one step from `at`, within the radius around `x`, and which of `at` have the prediction y."""
        at = at.detach().requires_grad_(True)
        # float32, since half precision loses small gradients and no scaler helps here
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            logits = run.task.logits(run.original, normalized(data, at))
            is_true = F.one_hot(y, logits.shape[1]).bool()
            margin = logits.masked_fill(is_true, -torch.inf).logsumexp(1) - logits[is_true]
            (gradient,) = torch.autograd.grad(margin.sum(), at)
        shape = (-1, *[1] * (x.ndim - 1))
        length = gradient.flatten(1).norm(dim=1).view(shape)
        offset = at.detach() + radius / STEPS_PER_RADIUS * gradient / (length + 1e-10) - x
        distance = offset.flatten(1).norm(dim=1).view(shape)
        stepped = (x + offset * (radius / distance.clamp_min(1e-12)).clamp(max=1)).clamp(0, 1)
        return stepped, logits.argmax(1) == y

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean cross-entropy on the samples of both sets and the adversarial examples."""
        batches, labels = [], []
        if forget is not None:
            if self.use_forget:
                batches.append(forget)
                labels.append(forget.y)
            rows = run.memo["row"][forget.index]
            pixels = to_device(run.memo["pixels"][rows], forget.y.device)
            labels.append(to_device(run.memo["labels"][rows], forget.y.device))
            batches.append(Batch(normalized(run.split.forget.data, pixels), forget.y, forget.index))
        if retain is not None:
            batches.append(retain)
            labels.append(retain.y)
        return run.task.relabel_loss(run.model, Batch.join(*batches), torch.cat(labels)).mean()

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return more epochs for a small request, and for a class the form without its true labels, which would keep it."""
        without = {"use_forget": False} if run.split.forget_classes and self.use_forget else {}
        return {**super().adapted(run), **without}

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of samples that withstood the attack."""
        return {"amun": {"robust": run.memo["robust"]}}

    def problems(self) -> list[str]:
        problems = super().problems()
        if not 0 < self.radius <= self.max_radius:
            problems.append(
                f"radius is {self.radius}; it must be above 0 and at most max_radius, {self.max_radius:g}."
            )
        if self.attack_steps < 1:
            problems.append(f"attack_steps is {self.attack_steps}; it must be at least 1.")
        return problems
