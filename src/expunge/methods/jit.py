"""JIT: make the model smooth around the forget samples, without labels and without retain data.

    loss = mean over x of 1/N * sum over n of |f(x) - f(x + noise_n)| / |noise_n|,    noise_n ~ N(0, sigma^2)

f are the logits. Only f(x) carries a gradient. Noisy inputs are clipped to the range of their batch, and |noise_n| is the length
of what remains.

Source: Foster, Schoepf, Brintrup and others, "An Information Theoretic Approach to Machine Unlearning" (first "Zero-Shot Machine
Unlearning at Scale via Lipschitz Regularization"), arXiv:2402.01401. The full text could not be read: rule and settings are
from the authors' code (jwf40/Information-Theoretic-Unlearning, commit c967614).

Published: one pass of SGD over the forget set with N = 25. 100 random samples of CIFAR-10: sigma 0.01 and learning rate 3e-4
for VGG; a class: sigma 0.5 and 3e-4. For ViT sigma is 0.5 to 0.8 and the rate 0.1 to 1.5. These rates are for sums over
batches.

Differences from the released code (`as_released=True` follows it):
- The code sums over the batch. Here the mean makes the rate independent of the batch size.
- The code never resets gradients, so each step also takes those of all earlier batches. Here each step has its own.

Ours:
- The model stays in eval mode, so that batch norm and dropout make no difference between the two outputs.
- Momentum and weight decay are 0, as in the code. The default rate is 1e-3.
- The loss has no goal of its own. A run ends as soon as forget samples are classified no better than unseen samples, or at
  `max_drop`.

Cost: One pass over the forget set with N more forward passes for each sample.

When not to use it: Inputs have no small perturbations, such as token ids. There is no validation set that could
end the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch, to_device
from ..errors import ExpungeError
from ..training.method import GradientMethod
from ..training.run import Row, Run
from ._gradients import free_gradients, with_gradients
from ._unseen import measure_unseen, stop_reason, target_details


@dataclass(frozen=True, kw_only=True)
class JIT(GradientMethod):
    """Make the model smooth around forget samples, without labels or retain data (JIT, Lipschitz regularisation).

    The model stays in eval mode, so `batch_norm` has no effect.

    Args:
        epochs: Number of passes over the forget set.
        lr: Learning rate.
        batch_size: Samples per step.
        momentum: Momentum of sgd.
        weight_decay: Weight decay of the optimizer.
        noise: sigma, the standard deviation of the noise on the inputs, above 0.
        copies: N, the number of noisy copies of each sample.
        early_stop: End the run once forget accuracy reaches that of unseen samples.
        probe_every: Steps between two evaluations of the accuracies. 0 evaluates once per epoch.
        as_released: Follow the released code: sum over the batch, and add up the gradients of all batches.
    """

    epochs: int = 1
    lr: float = 1e-3
    batch_size: int = 64
    momentum: float = 0.0
    weight_decay: float = 0.0
    noise: float = 0.5
    copies: int = 25
    early_stop: bool = True
    probe_every: int = 1
    as_released: bool = False

    published: ClassVar = {
        "as_released": True,
        "lr": 3e-4,
        "early_stop": False,
        "probe_every": 0,
        "max_drop": 100.0,
    }
    needs: ClassVar = ("logits", "scores")
    data: ClassVar = ("forget",)
    search: ClassVar = {"lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "noise": (0.01, 0.1, 0.5)}
    schedule: ClassVar = "forget"

    def unseen_rules(self) -> str:
        return "the stop rule" if self.early_stop else ""

    def prepare(self, run: Run) -> None:
        """Measure the accuracy on unseen samples, at which the run stops. It is 0 for a forgotten class."""
        if self.early_stop:
            measure_unseen(run, self.unseen_rules())

    def stop(self, run: Run, row: Row) -> str | None:
        return stop_reason(run, row) if self.early_stop else None

    def details(self, run: Run) -> dict[str, Any]:
        return target_details(run) if self.early_stop else {}

    def train_mode(self, run: Run) -> None:
        # eval mode does not stop gradients
        run.model.eval()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean ratio of the change of the outputs to the change of the inputs.

        Raises:
            ExpungeError: The inputs are not one float tensor.
        """
        assert forget is not None
        if not (isinstance(forget.x, Tensor) and forget.x.is_floating_point()):
            raise ExpungeError(
                "jit adds noise to images and needs inputs as one float tensor; for other inputs use delete or random_label."
            )
        ratios = self.ratios(run, forget.x)
        if not self.as_released:
            return ratios.mean()
        loss = ratios.sum()
        earlier = run.memo.get("gradients", {})
        gradients = {n: g + earlier.get(n, 0) for n, g in free_gradients(run, loss).items()}
        run.memo["gradients"] = gradients
        return with_gradients(run, loss, gradients)

    def ratios(self, run: Run, x: Tensor) -> Tensor:
        """Return the mean ratio (B,) over the noisy copies of each input.

        Args:
            run: The run.
            x: Inputs (B, ...).
        """
        clean, low, high = run.task.logits(run.model, x), x.min(), x.max()
        total = torch.zeros(len(x), device=x.device, dtype=clean.dtype)
        for _ in range(self.copies):
            noise = torch.randn(x.shape, generator=run.process_generator("noise"))
            noisy = (x + self.noise * to_device(noise, x.device).to(x.dtype)).clamp(low, high)
            with torch.no_grad():
                other = run.task.logits(run.model, noisy)
            length = (noisy - x).flatten(1).norm(dim=1)
            # an input that the clipping leaves unchanged has no ratio
            change = torch.linalg.vector_norm(clean - other, dim=1)
            total = total + torch.where(length > 0, change / length.clamp_min(1e-12), 0)
        return total / self.copies

    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Copy the added gradients, which the resumable state holds, out of the graph."""
        if "gradients" in run.memo:
            run.memo["gradients"] = {n: g.detach().clone() for n, g in run.memo["gradients"].items()}

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return more epochs for a small request, and fewer copies, which cost a forward pass each."""
        more = super().adapted(run)
        return {**more, "copies": 5} if more and self.copies > 5 else more

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.noise <= 0:
            problems.append(f"noise is {self.noise}; it is a standard deviation and must be above 0.")
        if self.copies < 1:
            problems.append(f"copies is {self.copies}; it must be at least 1.")
        return problems
