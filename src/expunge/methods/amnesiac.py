"""Amnesiac unlearning: wrong labels for the forget set, or the forget set's own training steps taken back.

Graves, Nagisetty, Ganesh, "Amnesiac Machine Learning", AAAI 2021, arXiv:2010.10981.

Published: (a) "unlearning": each forget sample gets a random label other than its own, once, and the model is
trained on for a few passes over everything; (b) "amnesiac unlearning": while the model is trained, the change
of the weights in each step whose batch holds a sample that may have to go is kept; later theta - sum of those
changes, then a brief repair on the rest. (b) is exact only for one step: later steps were taken from where
the removed ones had led.

`log` names the folder that an `AmnesiacRecorder` wrote and chooses (b). Ours: 3 epochs and the rate; only
weights are logged, running statistics of batch norm are left to the repair; under a mask only the weights in
it are taken back.
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

BATCH = "batch/positions"  # the entry of a log file that names its samples


class AmnesiacRecorder:
    """Logs what single training steps do to the weights, for samples that may have to be forgotten later.

    In a loop of your own: `with recorder.step(model, positions): optimizer.step()`. In the toolkit's: train
    with `recorder.recipe(recipe)` instead of `recipe`. Each logged step is a file of the size of the weights.
    """

    def __init__(self, folder: Path | str, wanted: Samples | Tensor | None = None):
        self.folder = Path(folder)
        self.wanted = (
            wanted.index if isinstance(wanted, Samples) else wanted
        )  # positions; None for every sample
        self._before: dict[str, Tensor] | None = None
        self._positions: Tensor = torch.empty(0, dtype=torch.int64)
        self._number: int | None = None

    def __repr__(self) -> str:
        return f"AmnesiacRecorder({str(self.folder)!r})"

    @contextmanager
    def step(self, model: nn.Module, positions: Tensor) -> Iterator[None]:
        """Log the step taken in the block, on the samples at `positions` of their data, if one of them is
        wanted."""
        self.before(model, positions, len(list(self.folder.glob("*.safetensors"))))
        yield
        self.after(model)

    def before(self, model: nn.Module, positions: Tensor, number: int) -> None:
        """Note the weights before step `number`; called again within a step, more samples of it."""
        if self._number != number:
            self._number, self._before, self._positions = number, None, self._positions[:0]
        self._positions = torch.cat([self._positions, positions.cpu()])
        wanted = self.wanted is None or bool(torch.isin(positions.cpu(), self.wanted).any())
        if wanted and self._before is None:
            self._before = {n: p.detach().clone() for n, p in model.named_parameters()}

    def after(self, model: nn.Module) -> None:
        """Write the change since `before`, if that step is wanted."""
        if self._before is not None:
            change = {
                n: (p.detach() - self._before[n]).cpu().contiguous() for n, p in model.named_parameters()
            }
            with atomic(self.folder / f"{self._number:08d}.safetensors") as part:
                save_file({BATCH: self._positions, **change}, part)
        self._number, self._before = None, None

    def recipe(self, recipe: Retrain) -> Retrain:
        """The same recipe, recorded."""
        return _Recorded(**{f.name: getattr(recipe, f.name) for f in fields(Retrain)}, recorder=self)


@dataclass(frozen=True, kw_only=True)
class _Recorded(Retrain):
    recorder: Any = field(default=None, compare=False)

    def prepare(self, run: Run) -> None:
        goes_on = run.state_file is not None and run.state_file.exists()
        if not goes_on and any(self.recorder.folder.glob("*.safetensors")):
            raise ExpungeError(
                f"{self.recorder.folder} holds the log of another training, whose steps would be taken for this one's; give an "
                "empty folder, or remove the log."
            )
        super().prepare(run)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert retain is not None
        if run.team.size > 1:
            raise ExpungeError(
                "an AmnesiacRecorder logs whole steps and works in one process; train without torchrun."
            )
        self.recorder.before(run.model, retain.index, run.step)
        return super().loss(run, forget, retain)

    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        self.recorder.after(run.model)

    @classmethod
    def name(cls) -> str:
        return Retrain.name()


def logged_change(folder: Path, forget: Samples) -> tuple[dict[str, Tensor], int]:
    """The sum of the logged changes of all steps that saw a forget sample, and how many steps there are.

    Raises `ExpungeError` if the folder has no log, or no step of it saw one.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ExpungeError(
            f"{folder} has no log of training steps; train the original with AmnesiacRecorder, or leave "
            "log out for the method's other form."
        )
    total: dict[str, Tensor] = {}
    steps = 0
    for file in files:
        with safe_open(file, "pt") as log:
            if not torch.isin(log.get_tensor(BATCH), forget.index).any():
                continue
            steps += 1
            for name in log.keys():  # noqa: SIM118 - not a mapping
                if name != BATCH:
                    change = log.get_tensor(name).double()
                    total[name] = total[name] + change if name in total else change
    if not steps:
        raise ExpungeError(
            f"none of the {len(files)} steps logged in {folder} saw a forget sample; check that the log is "
            "this model's and that these samples were wanted when it was written."
        )
    return total, steps


@dataclass(frozen=True, kw_only=True)
class Amnesiac(GradientMethod):
    """Amnesiac: random labels drawn once, or the training steps on forget samples taken back from a log."""

    epochs: int = 3
    log: Path | None = (
        None  # folder of an AmnesiacRecorder: take those steps back, then repair on the retain set
    )

    needs: ClassVar = ("relabel", "other_labels")
    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2), "epochs": (1, 3, 5)}

    def plan(self) -> str:
        return "mixed" if self.log is None else "retain"

    def prepare(self, run: Run) -> None:
        if self.log is None:
            forget = run.split.forget
            labels = forget.data.labels.clone()
            labels[forget.index] = run.task.other_labels(labels[forget.index], run.generator("labels"))
            run.memo["labels"] = labels
            return
        change, run.memo["steps_removed"] = logged_change(self.log, run.split.forget)
        weights = dict(run.model.named_parameters())
        if change.keys() != weights.keys():
            odd = sorted(change.keys() ^ weights.keys())[:5]
            raise ExpungeError(f"the log in {self.log} is of another model: weights differ (first: {odd}).")
        run.mask = choose_mask(run, self)  # before the weights move: outside of it nothing may
        with torch.no_grad():
            for name, weight in weights.items():
                moved = (weight.double() - change[name].to(weight.device)).to(weight.dtype)
                if run.mask is not None:
                    moved = torch.where(run.mask[name].to(weight.device), moved, weight)
                if weight.requires_grad:
                    weight.copy_(moved)

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        batches = [b for b in (forget, retain) if b is not None]
        batch = Batch.join(*batches)
        if self.log is not None:
            return run.task.loss(run.model, batch).mean()
        labels = to_device(run.memo["labels"][batch.index], batch.y.device)
        return run.task.relabel_loss(run.model, batch, labels).mean()

    def details(self, run: Run) -> dict[str, Any]:
        return {"amnesiac": {"steps_removed": run.memo["steps_removed"]}} if self.log is not None else {}
