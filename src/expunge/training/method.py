"""What a method is: a frozen dataclass whose fields are its settings and the command line's flags. Its docstring is its help.

It has a file of its own, under `methods/` or in the user's code, in one of three forms:
1. an objective: subclass `GradientMethod` and write `loss`; the loop, masks, schedules and guards work with it;
2. an objective and a last edit: also write `finish`;
3. an edit of the parameters without a loop: subclass `Method` and write `apply`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer

from ..data.batch import Batch
from ..own_code import PACKAGE, module_name, remember_source
from ..tasks.task import Capability
from ..torch_utils.module_state import freeze_batch_norm
from .method_class import attribute_problems
from .run import Row, Run
from .schedule import Pair, pairs, steps_per_epoch

# Least number of steps of a run whose settings adapt to the request. Fewer change little at any usual learning rate.
LEAST_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Method:
    """An unlearning method. Its fields are its settings; subclasses write `apply`.

    Args:
        paper: Use the published settings: fields that have their default take the published value, and where the released code
            differs, the method follows it. `trials="auto"` then changes nothing.

    Attributes:
        needs: Capabilities that the method needs from a task (see `expunge.tasks.task`). Compatibility follows from them.
        scenarios: Ways of drawing a forget set that the method serves ("class", "random", ...); empty for all.
        data: Sets that the method needs: "forget", "retain".
        exact: Whether the resulting model never saw the forget set.
        search: Values that tuning may try, {field: values}.
        needs_unseen: What the method does with unseen samples, if it refuses a split without them; empty where it does not.
        python_only, hides_only: Why the command line and projects refuse the method, and why projects alone do; else empty.
        published: Published settings that differ from the defaults; empty if none does. None if none were found.
    """

    paper: bool = False

    needs: ClassVar[tuple[Capability, ...]] = ()
    scenarios: ClassVar[tuple[str, ...]] = ()
    data: ClassVar[tuple[str, ...]] = ("forget", "retain")
    exact: ClassVar[bool] = False
    search: ClassVar[dict[str, tuple[Any, ...]]] = {}
    needs_unseen: ClassVar[str] = ""
    python_only: ClassVar[str] = ""
    hides_only: ClassVar[str] = ""
    published: ClassVar[dict[str, Any] | None] = None

    def __post_init__(self) -> None:
        """With `paper`, give fields that have their default the published value."""
        for field in fields(self) if self.paper else ():
            published = self.published or {}
            if field.name in published and getattr(self, field.name) == field.default:
                object.__setattr__(self, field.name, published[field.name])

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        remember_source(cls)
        if problems := attribute_problems(cls):
            raise TypeError(" ".join(problems))

    def apply(self, run: Run) -> None:
        """Change `run.model` in place."""
        raise NotImplementedError

    def requires(self) -> tuple[Capability, ...]:
        """Return the capabilities needed with these settings: `needs`, and more where a setting asks for more."""
        return self.needs

    def details(self, run: Run) -> dict[str, Any]:
        """Return what the method itself reports of the finished run, for the record. Not timed."""
        return {}

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, a sentence each.

        Types are checked before: floats are finite numbers and ints are whole numbers.
        """
        return []

    def unseen_rules(self) -> str:
        """Return the rules that unseen samples set, such as "the stop rule". A run notes if such samples are few or missing."""
        return ""

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return settings that fit the request of a run better than these, as {field: value}, for `trials="auto"`.

        Nothing has run yet: `run.model` is the original.
        """
        return {}

    @classmethod
    def name(cls) -> str:
        """Return the name by which `find` knows the method: its file's name, or `package.module:Class` outside the package."""
        if cls.__module__.startswith(f"{PACKAGE}."):
            return cls.__module__.rpartition(".")[-1]
        return f"{cls.module_name()}:{cls.__qualname__}"

    @classmethod
    def module_name(cls) -> str:
        """Return the importable name of the module that defines the class.

        A script that runs as `__main__` is named by its specification (`python -m package.script`) or by its file.
        """
        return module_name(cls)


@dataclass(frozen=True, kw_only=True)
class GradientMethod(Method):
    """A method that takes gradient steps on a loss. Subclasses write `loss`; all settings work with all of them.

    Args:
        epochs: Number of passes of the method's schedule.
        lr: Learning rate.
        batch_size: Number of samples of one set in a step.
        optimizer: The optimizer that takes the steps.
        momentum: Momentum of sgd.
        weight_decay: Weight decay of the optimizer.
        lr_schedule: Course of the learning rate: constant, linear to 0, cosine, one cycle (up, then down to 0), or
            multistep (a tenth at one half and at three quarters of the steps).
        clip: Largest norm of a step's gradient; None for no limit.
        batch_norm: Whether batch norm's running statistics are updated or frozen during the steps.
        density: Share of the parameters that may move. Below 1 a mask chooses them.
        mask: How the mask chooses: the most salient parameters, random ones, or the least salient ones.
        max_drop: Maximum drop in retain accuracy, in percentage points. If exceeded, the run rolls back to the last good
            state: at once, or at the end of the run where the method trains on retained samples.
        probe_every: Number of steps between evaluations of the curves; 0 for once an epoch. Short epochs of a task without
            accuracies share an evaluation.
    """

    epochs: int = 10
    lr: float = 0.01
    batch_size: int = 256
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "constant"
    clip: float | None = None
    batch_norm: Literal["update", "freeze"] = "update"
    density: float = 1.0
    mask: Literal["saliency", "random", "inverted"] = "saliency"
    max_drop: float = 50.0
    probe_every: int = 0

    schedule: ClassVar[str] = "retain"
    """Which batches a step sees: "forget" or "retain" (one pass over it), "forget+retain" (a pass over forget, a random
    retain batch of equal size beside each), "retain+forget" (a pass over retain, forget cycling beside), "sequential"
    (forget, then retain), "mixed" (their shuffled union, each batch cut into its two parts)."""

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the objective of one step, a scalar to descend on. Batches are as the schedule says."""
        raise NotImplementedError

    def prepare(self, run: Run) -> None:
        """Do what comes before the loop, for example fresh parameters. Timed."""

    def plan(self) -> str:
        """Return the schedule with these settings. Override it where a setting decides the schedule."""
        return self.schedule

    def pairs(self, run: Run) -> Iterator[Pair]:
        """Yield the batches of one epoch."""
        return pairs(run, self.plan(), self.batch_size)

    def steps(self, run: Run) -> int:
        """Return the number of steps of the whole run."""
        return self.epochs * steps_per_epoch(run, self.plan(), self.batch_size)

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return more epochs where a run has less than `LEAST_STEPS` steps: a small request has few per epoch."""
        steps = self.steps(run)
        if self.exact or not 0 < steps < LEAST_STEPS:
            return {}
        return {"epochs": math.ceil(self.epochs * LEAST_STEPS / steps)}

    def frozen(self, run: Run) -> set[str]:
        """Return the names of parameters that may not move, whatever the mask."""
        return set()

    def saliency_options(self) -> dict[str, Any]:
        """Return arguments of `saliency_scores` for the mask of this method."""
        return {}

    def train_mode(self, run: Run) -> None:
        """Put the model into the mode of a step."""
        run.model.train()
        if self.batch_norm == "freeze":
            freeze_batch_norm(run.model)

    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        """Do what follows each optimizer step, for example a proximal step."""

    def guards_by_retain(self) -> bool:
        """Return whether `max_drop` is measured on retained training samples, else on validation samples if there are any."""
        return "retain" in self.data

    def as_result(self, run: Run) -> AbstractContextManager[Any]:
        """Return the context in which retained accuracy is measured, for a method whose `finish` changes it."""
        return nullcontext()

    def stop(self, run: Run, row: Row) -> str | None:
        """Return a reason to stop after an evaluation (`row`: step, loss, forget, retain in percent), or None."""
        return None

    def finish(self, run: Run) -> None:
        """Do what follows the loop, for example an edit of the head. Timed."""

    def apply(self, run: Run) -> None:
        """Run the loop between `prepare` and `finish`."""
        self.prepare(run)
        run.descend(self)
        self.finish(run)

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, a sentence each."""
        limits = {
            "epochs": 1,
            "batch_size": 1,
            "lr": 0,
            "momentum": 0,
            "weight_decay": 0,
            "probe_every": 0,
            "max_drop": 0,
        }
        problems = [
            f"{name} is {getattr(self, name)}; it must be a finite number of at least {low}."
            for name, low in limits.items()
            if not low <= getattr(self, name) < math.inf
        ]
        if not 0 <= self.density <= 1:
            problems.append(
                f"density is {self.density}; it is the share of weights that may move, from 0 to 1."
            )
        if self.clip is not None and not self.clip > 0:
            problems.append(f"clip is {self.clip}; it must be above 0, or None for no limit.")
        return problems
