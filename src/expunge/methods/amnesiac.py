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
- Under a mask, only the weights inside it are changed back.

Cost: One pass over both sets for each epoch. With `log`, one file as large as the parameters for each logged
training step.

When not to use it: There is no retain set. With `log`, many steps saw the forget samples: their sum is far from
the parameters of training without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.batch import Batch, to_device
from ..data.samples import Samples
from ..errors import ExpungeError
from ..records.atomic_files import atomic
from ..training.loop import choose_mask
from ..training.method import GradientMethod
from ..training.run import Run
from .retrain import Retrain

# entry of a log file with the positions of its samples
BATCH = "batch/positions"


class AmnesiacRecorder:
    """Log how single training steps change the parameters, for samples that may have to be forgotten later.

    Each logged step is one file of the size of the model.

    Args:
        folder: Folder of the log.
        wanted: Samples, or their positions in the data, whose steps are logged. None logs every step.

    Example:
        >>> recorder = AmnesiacRecorder("steps", wanted=split.forget)
        >>> with recorder.step(model, batch.index):  # in a training loop of your own
        ...     optimizer.step()
        >>> train(model, split, recorder.recipe(recipe), task)  # in the loop of this package
    """

    def __init__(self, folder: Path | str, wanted: Samples | Tensor | None = None):
        self.folder = Path(folder)
        self.wanted = wanted.index if isinstance(wanted, Samples) else wanted
        self._before: dict[str, Tensor] | None = None
        self._positions: Tensor = torch.empty(0, dtype=torch.int64)
        self._number: int | None = None

    def __repr__(self) -> str:
        return f"AmnesiacRecorder({str(self.folder)!r})"

    @contextmanager
    def step(self, model: nn.Module, positions: Tensor) -> Iterator[None]:
        """Log the optimizer step inside the block if its batch holds a wanted sample.

        Args:
            model: The model that the step changes.
            positions: Positions of the batch's samples in their data (B,).
        """
        self.before(model, positions, len(list(self.folder.glob("*.safetensors"))))
        yield
        self.after(model)

    def before(self, model: nn.Module, positions: Tensor, number: int) -> None:
        """Remember the parameters before step `number`. Call it again within a step to add samples to it."""
        if self._number != number:
            self._number, self._before, self._positions = number, None, self._positions[:0]
        self._positions = torch.cat([self._positions, positions.cpu()])
        wanted = self.wanted is None or bool(torch.isin(positions.cpu(), self.wanted).any())
        if wanted and self._before is None:
            self._before = {n: p.detach().clone() for n, p in model.named_parameters()}

    def after(self, model: nn.Module) -> None:
        """Write the change since `before` if the step held a wanted sample."""
        if self._before is not None:
            change = {
                n: (p.detach() - self._before[n]).cpu().contiguous() for n, p in model.named_parameters()
            }
            with atomic(self.folder / f"{self._number:08d}.safetensors") as path:
                save_file({BATCH: self._positions, **change}, path)
        self._number, self._before = None, None

    def recipe(self, recipe: Retrain) -> Retrain:
        """Return a recipe with the same settings whose training this recorder logs."""
        return _Recorded(**{f.name: getattr(recipe, f.name) for f in fields(Retrain)}, recorder=self)


@dataclass(frozen=True, kw_only=True)
class _Recorded(Retrain):
    recorder: Any = field(default=None, compare=False)

    def prepare(self, run: Run) -> None:
        resumes = run.state_file is not None and run.state_file.exists()
        if not resumes and any(self.recorder.folder.glob("*.safetensors")):
            raise ExpungeError(
                f"{self.recorder.folder} holds the log of another training, and the two logs would mix; give an empty folder, "
                "or remove the log."
            )
        super().prepare(run)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        if run.process_group.size > 1:
            raise ExpungeError(
                "an AmnesiacRecorder cannot log a training that several processes share; train in one process, without torchrun."
            )
        self.recorder.before(run.model, retain.index, run.step)
        return super().loss(run, forget, retain)

    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        self.recorder.after(run.model)

    @classmethod
    def name(cls) -> str:
        return Retrain.name()


def logged_change(folder: Path, forget: Samples) -> tuple[dict[str, Tensor], int]:
    """Return the summed changes of all logged steps that saw a forget sample, and the number of these steps.

    Raises:
        ExpungeError: The folder has no log, or none of its steps saw a forget sample.
    """
    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise ExpungeError(
            f"{folder} has no log of training steps; train the original with an AmnesiacRecorder, or leave log out to train "
            "with random labels."
        )
    total: dict[str, Tensor] = {}
    steps = 0
    for path in paths:
        with safe_open(path, "pt") as log:
            if not torch.isin(log.get_tensor(BATCH), forget.index).any():
                continue
            steps += 1
            for name in log.keys():  # noqa: SIM118 - not a mapping
                if name != BATCH:
                    change = log.get_tensor(name).double()
                    total[name] = total[name] + change if name in total else change
    if not steps:
        raise ExpungeError(
            f"none of the {len(paths)} steps logged in {folder} saw a forget sample; check that the log belongs to this model "
            "and that its recorder wanted these samples."
        )
    return total, steps


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
            labels[forget.index] = run.task.other_labels(labels[forget.index], run.generator("labels"))
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
