"""The log of single training steps, from which amnesiac unlearning subtracts those that saw a forget sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.batch import Batch
from ..data.samples import Data, Samples
from ..errors import ExpungeError
from ..records.atomic_files import atomic
from ..training.run import Run
from .retrain import Retrain

RECORD_AGAIN = (
    "train the original again with an AmnesiacRecorder, or leave log out to train with random labels."
)


class AmnesiacRecorder:
    """Log how single training steps change the parameters, for samples that may have to be forgotten later.

    Each logged step is one file of the size of the model, with the ids of its samples. Only its owner may read it (0600).

    Args:
        folder: Folder of the log.
        wanted: Samples, or their positions in the data, whose steps are logged. None logs every step.
        data: The training data, for `step` and if `wanted` are no `Samples`. The loop of this package uses that of its split.

    Example:
        >>> recorder = AmnesiacRecorder("steps", wanted=split.forget)
        >>> with recorder.step(model, batch.index):  # in a training loop of your own
        ...     optimizer.step()
        >>> train(model, split, recorder.recipe(recipe), task)  # in the loop of this package
    """

    def __init__(self, folder: Path | str, wanted: Samples | Tensor | None = None, data: Data | None = None):
        self.folder = Path(folder)
        self.wanted = wanted.index if isinstance(wanted, Samples) else wanted
        self.data = wanted.data if isinstance(wanted, Samples) else data
        self._named_by: str | None = None
        if isinstance(wanted, Samples) and data is not None:
            self.use(data)
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

        Raises:
            ExpungeError: The recorder does not know the data.
        """
        self.before(model, positions, len(list(self.folder.glob("*.safetensors"))))
        yield
        self.after(model)

    def use(self, data: Data) -> None:
        """Let `data` be the training data, and find the wanted samples in it.

        Raises:
            ExpungeError: The wanted samples are named by position, and this is other data.
        """
        if self.data is not None and self.data is not data:
            if self.data.ids is not None and data.ids is not None:
                if self.wanted is not None:
                    names = set(Samples(self.data, self.wanted).ids)
                    found = [position for position, name in enumerate(data.ids.tolist()) if name in names]
                    self.wanted = torch.tensor(found, dtype=torch.int64)
            elif self.data.fingerprint() != data.fingerprint():
                raise ExpungeError(
                    "the recorder's samples are named by position in other data than that of the training; give it samples of this data, "
                    "or give every sample an id of its own."
                )
        self.data, self._named_by = data, None

    def before(self, model: nn.Module, positions: Tensor, number: int) -> None:
        """Remember the parameters before step `number`. Call it again within a step to add samples to it."""
        if self.data is None:
            raise ExpungeError(
                "the recorder does not know the data of the positions; pass data= to AmnesiacRecorder, such as split.train.data."
            )
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
            with atomic(self.folder / f"{self._number:08d}.safetensors", private=True) as path:
                save_file(change, path, self._names())
        self._number, self._before = None, None

    def _names(self) -> dict[str, str]:
        """Return the ids of the step's samples, and the fingerprint of the data if these are positions."""
        assert self.data is not None
        if self._named_by is None:
            self._named_by = _fingerprint(self.data)
        return {"ids": json.dumps(Samples(self.data, self._positions).ids), "data": self._named_by}

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
        self.recorder.use(run.split.retain.data)
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


def _fingerprint(data: Data) -> str:
    """Return what must stay the same for the ids of the samples to name them: nothing, unless the ids are positions."""
    return data.fingerprint() if data.ids is None else ""


def logged_change(folder: Path, forget: Samples) -> tuple[dict[str, Tensor], int]:
    """Return the summed changes of all logged steps that saw a forget sample, and the number of these steps.

    Raises:
        ExpungeError: The folder has no log, its samples cannot be found in today's data, or no step saw a forget sample.
    """
    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise ExpungeError(f"{folder} has no log of training steps; {RECORD_AGAIN}")
    total: dict[str, Tensor] = {}
    steps, names, today = 0, set(forget.ids), _fingerprint(forget.data)
    for path in paths:
        with safe_open(path, "pt") as log:
            if names.isdisjoint(_ids_in(path, log.metadata() or {}, today)):
                continue
            steps += 1
            for name in log.keys():  # noqa: SIM118 - not a mapping
                change = log.get_tensor(name).double()
                total[name] = total[name] + change if name in total else change
    if not steps:
        raise ExpungeError(
            f"none of the {len(paths)} steps logged in {folder} saw a forget sample; check that the log belongs to this model "
            "and that its recorder wanted these samples."
        )
    return total, steps


def _ids_in(path: Path, metadata: dict[str, str], today: str) -> list[str]:
    """Return the ids of the samples of a logged step, which must name samples of today's data."""
    if "ids" not in metadata:
        raise ExpungeError(
            f"{path} was written by an earlier version, which did not keep whose positions it logged, so the wrong steps might be "
            f"subtracted; {RECORD_AGAIN}"
        )
    if metadata["data"] != today:
        named = (
            "by position, and the training data has changed since"
            if metadata["data"]
            else "by id, and the training data has no ids now"
        )
        raise ExpungeError(
            f"{path} names its samples {named}; give the data as it was in the training, or {RECORD_AGAIN}"
        )
    ids: list[str] = json.loads(metadata["ids"])
    return ids
