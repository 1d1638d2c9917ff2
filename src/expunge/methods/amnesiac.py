"""Amnesiac unlearning: train with wrong labels on the forget set, or subtract the training steps that saw it.

    loss = CE(forget, random labels) + CE(retain),    or with `log`    theta <- theta - sum of the logged steps, then CE(retain)

Source: Graves, Nagisetty, Ganesh, "Amnesiac Machine Learning", AAAI 2021, arXiv:2010.10981.

Published, in two forms:
- Unlearning: each forget sample gets one random label other than its own. Training then continues for a few passes over
  all samples.
- Amnesiac unlearning: training logs the change of the parameters in every step whose batch holds a sample that may have
  to go. Unlearning subtracts the sum of these changes, then repairs the model on the retain set for a short time.

The second form is exact only for a single step, because later steps started from parameters that the removed steps had
changed. Set `log` to the folder of an `AmnesiacRecorder` to select it.

Ours:
- The default of 3 epochs, and the learning rates.
- The log holds parameters only; the repair corrects the running statistics of batch norm.
- The log names samples by id. For data without ids it names them by position, and other data is refused.
- Under a mask, only the weights inside it are changed back.

Cost: One pass over both sets for each epoch. With `log`, one file as large as the parameters for each logged
training step. The files have the ids of samples, and are private (0600).

When not to use it: There is no retain set. With `log`, many steps saw the forget samples: their sum is far from
the parameters of training without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..data.batch import Batch, to_device
from ..errors import ExpungeError
from ..training.loop import choose_mask
from ..training.method import GradientMethod
from ..training.run import Run
from ._amnesiac_log import AmnesiacRecorder, logged_change
from .random_label import RandomLabel

__all__ = ["Amnesiac", "AmnesiacRecorder"]


@dataclass(frozen=True, kw_only=True)
class Amnesiac(GradientMethod):
    """Train with random labels drawn once, or subtract logged training steps (amnesiac unlearning).

    Args:
        epochs: Number of passes: over all samples with random labels, or over the retain set for the repair.
        log: Folder of an `AmnesiacRecorder`. If set, subtract its steps on forget samples, then repair on the retain set.
    """

    epochs: int = 3
    log: Path | None = None

    needs: ClassVar = ("relabel", "other_labels")
    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2), "epochs": (1, 3, 5)}

    def plan(self) -> str:
        return "mixed" if self.log is None else "retain"

    def prepare(self, run: Run) -> None:
        """Draw the random labels, or subtract the logged steps."""
        if self.log is None:
            forget = run.split.forget
            labels = forget.data.labels.clone()
            labels[forget.index] = RandomLabel().other_labels(
                run, labels[forget.index], run.generator("labels")
            )
            run.memo["labels"] = labels
            return
        change, run.memo["steps_removed"] = logged_change(self.log, run.split.forget)
        parameters = dict(run.model.named_parameters())
        if change.keys() != parameters.keys():
            differing = sorted(change.keys() ^ parameters.keys())[:5]
            raise ExpungeError(
                f"the log in {self.log} is of another model: parameter names differ (first: {differing}); give the log of "
                "this model."
            )
        # chosen before the parameters change, since weights outside the mask must stay bit-identical
        run.mask = choose_mask(run, self)
        with torch.no_grad():
            for name, parameter in parameters.items():
                reverted = (parameter.double() - change[name].to(parameter.device)).to(parameter.dtype)
                if run.mask is not None:
                    reverted = torch.where(run.mask[name].to(parameter.device), reverted, parameter)
                if parameter.requires_grad:
                    parameter.copy_(reverted)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean loss with the drawn labels, or with true labels if a log is used."""
        batches = [b for b in (forget, retain) if b is not None]
        batch = Batch.join(*batches)
        if self.log is not None:
            return run.task.loss(run.model, batch).mean()
        labels = to_device(run.memo["labels"][batch.index], batch.y.device)
        return run.task.relabel_loss(run.model, batch, labels).mean()

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of subtracted steps if a log is used."""
        return {"amnesiac": {"steps_removed": run.memo["steps_removed"]}} if self.log is not None else {}
