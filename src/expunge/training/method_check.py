"""Check that a method of your own keeps the promises that every method of Expunge keeps."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..masks.mask import random_mask
from ..tasks.task import Task
from ..torch_utils.module_state import snapshot
from .execute import execute
from .method import GradientMethod, Method
from .registry import MethodLike, make
from .run import Run

# share of the parameters that the mask of the check frees
DENSITY = 0.5


def check_method(method: MethodLike, model: nn.Module, split: Split, task: Task, *, seed: int = 0) -> None:
    """Run a method several times and check the promises that every method keeps.

    - The class is a dataclass, so its fields are settings.
    - A run changes a parameter of the returned model, and nothing of `model`.
    - The same seed gives the same model.
    - A frozen parameter (`requires_grad` is False) keeps its values, unless the method is `exact`.
    - Parameters outside a mask keep their values, if the method takes gradient steps and writes no `finish`.
    - A run that was interrupted in its second epoch resumes to the same model, if the method takes gradient steps.

    A check takes up to seven runs. Use a small model, little data and few epochs.

    Args:
        method: A method, its class, its name, or `package.module:Class`. Its settings must change a parameter of the model.
        model: A model of the task. It is not changed, and it may be untrained.
        split: A split that the method serves.
        task: The task of the model.
        seed: Seed of all runs.

    Raises:
        ExpungeError: The method breaks a promise, or cannot run. Each broken promise is one problem.

    Example:
        >>> check_method(MyMethod(epochs=2), model, split, Classification(10))  # doctest: +SKIP
    """
    method = make(method)
    check = _Check(method, model, split, task, seed)
    with warnings.catch_warnings():
        # the check reports unchanged and diverged runs itself
        warnings.simplefilter("ignore", RuntimeWarning)
        raise_all(check.problems())


class _Interrupted(Exception):
    """Stands for the end of a process in the middle of a run."""


class _Check:
    """The runs of one check, and what they show."""

    def __init__(self, method: Method, model: nn.Module, split: Split, task: Task, seed: int):
        self.method, self.model, self.split, self.task, self.seed = method, model, split, task, seed
        self.name = type(method).__name__

    def problems(self) -> list[str]:
        """Return the broken promises, one sentence each."""
        before = snapshot(self.model)
        first, second = self._run(), self._run()
        problems = self._result_problems(first)
        if not _same(before, snapshot(self.model)):
            problems.append(
                f"{self.name} changes the model that is passed in; change run.model only, and copy run.original first."
            )
            # later runs would start from another model
            return problems
        if not _same(snapshot(first.model), snapshot(second.model)):
            problems.append(
                f"two runs of {self.name} with seed {self.seed} give different models; draw from run.generator(name), and keep "
                "state in run.memo."
            )
            return problems
        problems += self._frozen_problems()
        if isinstance(self.method, GradientMethod):
            problems += [*self._mask_problems(self.method), *self._resume_problems(self.method)]
        return problems

    def _run(self, method: Method | None = None, model: nn.Module | None = None, **options: Any) -> Run:
        return execute(
            model or self.model, self.split, method or self.method, self.task, seed=self.seed, **options
        )

    def _result_problems(self, run: Run) -> list[str]:
        if run.ended in ("unchanged", "diverged"):
            return [f"a run of {self.name} has no result: {run.status}"]
        return []

    def _frozen_problems(self) -> list[str]:
        """Freeze the first parameter. A method that refuses the model then keeps the promise too."""
        if self.method.exact:
            return []
        model = copy.deepcopy(self.model)
        name, parameter = next(iter(model.named_parameters()))
        before = parameter.requires_grad_(False).detach().clone()
        try:
            after = self._run(model=model).model.get_parameter(name)
        except ExpungeError:
            return []
        if torch.equal(after, before):
            return []
        return [
            f"{self.name} changes {name}, which is frozen; leave parameters alone whose requires_grad is False."
        ]

    def _mask_problems(self, method: GradientMethod) -> list[str]:
        # the edit of `finish` may lie outside the mask
        if method.exact or type(method).finish is not GradientMethod.finish:
            return []
        mask = random_mask(self.model, DENSITY, self.seed)
        original = dict(self.model.named_parameters())
        changed = [
            name
            for name, parameter in self._run(mask=mask).model.named_parameters()
            if not torch.equal(parameter[~mask[name]], original[name][~mask[name]])
        ]
        if not changed:
            return []
        return [
            f"{self.name} changes parameters outside the mask ({', '.join(changed[:3])}); let the optimizer change them, or "
            "respect run.mask in after_step."
        ]

    def _resume_problems(self, method: GradientMethod) -> list[str]:
        longer = replace(method, epochs=max(2, method.epochs))
        interrupted = copy.copy(longer)

        def loss(run: Run, *batches: Any) -> Tensor:
            if run.epoch >= 1:
                raise _Interrupted
            return longer.loss(run, *batches)

        # on the instance alone: class and settings, which identify the run, stay the same
        object.__setattr__(interrupted, "loss", loss)
        whole = self._run(longer)
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "run.state"
            with contextlib.suppress(_Interrupted):
                self._run(interrupted, state_file=state)
            resumed = self._run(longer, state_file=state)
        if _same(snapshot(whole.model), snapshot(resumed.model)):
            return []
        return [
            f"a run of {self.name} that resumes gives another model than one in one piece; keep the state of the method in "
            "run.memo, not in the method or its module."
        ]


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether two states are bit-identical."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
