"""What a method is: a frozen dataclass whose fields are the hyperparameters (and the command line's flags) and whose
docstring is the help and the citation. Each is a file of its own under `methods/`, in one of three shapes:

1. an objective: subclass `GradientMethod` and write `loss`; the loop, masks, schedules and guards are there;
2. an objective and a last touch: also write `finish`;
3. an edit of the weights without a loop: subclass `Method` and write `apply`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch
from ..torch_utils.module_state import freeze_batch_norm
from .loop import descend
from .run import Row, Run
from .schedule import Pair, pairs, steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class Method:
    """An unlearning method: its fields are its hyperparameters. Subclasses write `apply`."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)  # kinds of models it serves
    scenarios: ClassVar[tuple[str, ...]] = ()  # kinds of forget sets it serves; () means all
    data: ClassVar[tuple[str, ...]] = ("forget", "retain")  # which samples it needs
    exact: ClassVar[bool] = False  # whether the result never saw the forget set
    search: ClassVar[dict[str, tuple[Any, ...]]] = {}  # what tuning may vary: field -> values to try

    def apply(self, run: Run) -> None:
        """Change `run.model` in place."""
        raise NotImplementedError

    def details(self, run: Run) -> dict[str, Any]:
        """What the method itself can tell of the finished run, for the record; not timed."""
        return {}

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each. Their types were looked at before: floats are finite numbers,
        and ints whole ones."""
        return []

    @classmethod
    def name(cls) -> str:
        """The name on the command line: that of the file."""
        return cls.__module__.rsplit(".", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class GradientMethod(Method):
    """A method that takes gradient steps on a loss. Subclasses write `loss`; all fields work with all of them."""

    epochs: int = 10  # passes of the method's schedule
    lr: float = 0.01  # learning rate
    batch_size: int = 256  # samples of one set in a step
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # what takes the steps
    momentum: float = 0.9  # of sgd
    weight_decay: float = 5e-4  # pull of the weights towards 0
    # how the learning rate falls: not at all, to 0 straight, along a cosine or after a rise, or at half and three quarters
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "constant"
    clip: float | None = None  # largest norm of a step's gradient; None for no limit
    batch_norm: Literal["update", "freeze"] = "update"  # running statistics during the steps
    density: float = 1.0  # share of the weights that may move; below 1 a mask chooses them
    # which weights: most salient, random or least salient
    mask: Literal["saliency", "random", "inverted"] = "saliency"
    # points of accuracy on retained samples that may be lost; after a larger fall the last good state is what remains, at
    # once, or for what trains on retained samples (and may repair itself) at the end of the run
    max_drop: float = 50.0
    # steps between looks at the accuracies; 0 for once an epoch (of a generator, short epochs share a look)
    probe_every: int = 0

    schedule: ClassVar[str] = "retain"
    """Which batches a step sees: "forget" or "retain" (one pass over it), "forget+retain" (a pass over forget, a random
    retain batch of equal size beside each), "retain+forget" (a pass over retain, forget cycling beside), "sequential"
    (forget, then retain), "mixed" (their shuffled union, each batch cut into its two parts)."""

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """The objective of one step, a scalar to descend on. Batches are as the schedule says."""
        raise NotImplementedError

    def prepare(self, run: Run) -> None:
        """Before the loop: for example fresh weights. Timed."""

    def plan(self) -> str:
        """The schedule with these settings; overridden where a setting decides it."""
        return self.schedule

    def pairs(self, run: Run) -> Iterator[Pair]:
        """The batches of one epoch."""
        return pairs(run, self.plan(), self.batch_size)

    def steps(self, run: Run) -> int:
        """How many steps the whole run has."""
        return self.epochs * steps_per_epoch(run, self.plan(), self.batch_size)

    def frozen(self, run: Run) -> set[str]:
        """Names of parameters that may not move, whatever the mask."""
        return set()

    def saliency_options(self) -> dict[str, Any]:
        """How the saliency of the weights is taken: arguments of `saliency_scores`."""
        return {}

    def train_mode(self, run: Run) -> None:
        """Put the model into the mode of a step."""
        run.model.train()
        if self.batch_norm == "freeze":
            freeze_batch_norm(run.model)

    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """After each optimizer step: for example a proximal step."""

    def stop(self, run: Run, row: Row) -> str | None:
        """The reason to stop, after a look at the accuracies (`row`: step, loss, forget, retain in percent), or None."""
        return None

    def finish(self, run: Run) -> None:
        """After the loop: for example an edit of the head. Timed."""

    def apply(self, run: Run) -> None:
        self.prepare(run)
        descend(run, self)
        self.finish(run)

    def problems(self) -> list[str]:
        """What is wrong with the settings, a sentence each."""
        found = [
            f"{name} is {getattr(self, name)}; it must be a finite number of at least {low}."
            for name, low in (
                ("epochs", 1),
                ("batch_size", 1),
                ("lr", 0),
                ("momentum", 0),
                ("weight_decay", 0),
                ("probe_every", 0),
                ("max_drop", 0),
            )
            if not low <= getattr(self, name) < math.inf
        ]
        if not 0 <= self.density <= 1:
            found.append(f"density is {self.density}; it is the share of weights that may move, from 0 to 1.")
        if self.clip is not None and not self.clip > 0:
            found.append(f"clip is {self.clip}; it must be above 0, or None for no limit.")
        return found
