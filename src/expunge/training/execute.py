"""Run a method on a model: check everything first, then run it on a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.past_requests import PastRequest, answered_by, remember_requests, requests_of
from ..data.split import Split
from ..errors import ExpungeError, ModelError, raise_all
from ..tasks.task import Task, missing_capabilities, missing_text
from ..torch_utils.gradients import dense_gradients, with_gradients
from ..torch_utils.module_state import device_of, seed_problems, seeded, stored_and_compiled
from ..torch_utils.precision import precision_note
from ..torch_utils.prepared import of_plain_model, plain_model
from ..tracking.by_name import TrackerLike
from .arguments import check_arguments
from .cost import measured
from .loop import descend
from .method import Method
from .registry import MethodLike, make, unsuited_text
from .run import Compute, Row, Run
from .run_checks import check_result, checked_mask, unwritten
from .settings import settings_problems
from .step_checks import check_left, versions
from .tracked import run_settings, tracked
from .training_checks import check_step, copy_to_train


@with_gradients
def execute(
    model: nn.Module,
    split: Split,
    method: MethodLike,
    task: Task,
    *,
    mask: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    factory: Callable[[], nn.Module] | None = None,
    state_file: Path | str | None = None,
    on_row: Callable[[Row], None] | None = None,
    tracker: TrackerLike = None,
) -> Run:
    """Run a method on a copy of `model` and return the whole `Run`: model, history, seconds, peak memory, mask, status.

    Args:
        model: The trained model. It is left as it was.
        split: The forget set and the other sets.
        method: A method, its class, its name, or `package.module:Class`.
        task: The task of the model.
        mask: {parameter name: bool tensor}, true where the parameter may move. It replaces the method's own mask.
        seed: Seed of everything random in the run.
        compute: How the arithmetic is done; by default in full precision on the model's device.
        factory: Makes a model with fresh parameters, for Retrain, where resetting every module is not enough.
        state_file: File that keeps a resumable state after each epoch. If it exists, the run resumes from it.
        on_row: Called with each row of the curves.
        tracker: Watches the run: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several of them.

    The samples of requests that `model` has answered before leave the retain set: see `Split.after`. The new model knows
    them and this request: see `requests_of`. After a run that diverged or changed nothing, the model does not know this
    request, because the run did not answer it.

    Returns:
        The finished run. Its `model` has the modes (train or eval) of the one passed in.

    Raises:
        ExpungeError: Settings, task, scenario or mask do not fit. All problems are listed before anything is done.

    Example:
        >>> run = execute(model, split, SalUn(epochs=5), task)  # doctest: +SKIP
        >>> run.status, run.seconds  # doctest: +SKIP
    """
    return _execute(
        model, split, method, task, _Options(mask, seed, compute, factory, state_file, on_row, tracker)
    )


@with_gradients
def execute_trial(model: nn.Module, split: Split, method: MethodLike, task: Task, **options: Any) -> Run:
    """Run a method as `execute` does, as one of several settings that are tried.

    The run ends as diverged if the accuracy on retained samples is at chance after its first epoch. `options` are those of `execute`.
    """
    return _execute(model, split, method, task, _Options(**options, trial=True))


@dataclass(frozen=True)
class _Options:
    """Hold the options of a run: those of `execute`, and whether other settings are tried too."""

    mask: Mapping[str, Tensor] | None = None
    seed: int = 0
    compute: Compute | None = None
    factory: Callable[[], nn.Module] | None = None
    state_file: Path | str | None = None
    on_row: Callable[[Row], None] | None = None
    tracker: TrackerLike = None
    trial: bool = False


def _execute(model: nn.Module, split: Split, method: MethodLike, task: Task, options: _Options) -> Run:
    factory, state_file, on_row = options.factory, options.state_file, options.on_row
    model, mask = plain_model(model), of_plain_model(model, options.mask)
    check_arguments(model=model, split=split, task=task, mask=mask, seed=options.seed, compute=options.compute, factory=factory,
                    state_file=state_file, on_row=on_row)  # fmt: skip
    method, compute, seed = make(method), options.compute or Compute(), int(options.seed)
    split = split.after(requests_of(model))
    check_run(method, split, task, seed=seed, compute=compute, model=model)
    mask = checked_mask(model, method, mask)
    to_train = copy_to_train(task, model, split)
    task = _with_head(task, model, split, method)
    run = Run(
        to_train,
        split.for_method,
        task,
        seed,
        compute,
        mask,
        factory,
        source=model,
        state_file=None if state_file is None else Path(state_file),
        loop=descend,
        trial=options.trial,
    )
    check_step(run, method)
    note, slow = precision_note(run.compute.amp, run.device)
    if note:
        run.note(note, warn=slow)
    with tracked(options.tracker, f"run {method.name()}", run_settings(method, split, seed)) as tracking:
        run.on_row = tracking.rows(on_row)
        _apply(run, method, model)
        # scores are those of the request, without what was rehearsed
        run.split = split
        check_result(run, model, method)
        tracking.take(run.ended)
    # a method that runs others has taken the earlier requests off its model
    remember_requests(run.model, _answered(split, method) if run.has_result else requests_of(model))
    return run


def _apply(run: Run, method: Method, model: nn.Module) -> None:
    before = versions(model)
    with (
        seeded(run.seed, run.device),
        measured(run),
        stored_and_compiled(run.model, run.compute.channels_last, run.compute.compile),
        dense_gradients(run.model),
    ):
        method.apply(run)
        check_left(run, model, before, type(method).__name__)


def keep_original(
    model: nn.Module,
    split: Split,
    task: Task,
    reason: str,
    *,
    seed: int = 0,
    compute: Compute | None = None,
) -> Run:
    """Return an unchanged run with a copy of the original, for a method that cannot improve on it.

    The copy knows the requests of the original, and not this one: its parameters were trained on the forget set.

    Args:
        reason: Why the original is kept, for the status. The other arguments are those of `execute`.
    """
    run = Run(
        copy.deepcopy(model), split.after(requests_of(model)), task, seed, compute or Compute(), source=model
    )
    run.ended, run.status, run.kept_original = "unchanged", f"unchanged: {reason}", True
    return run


def check_run(
    method: Method,
    split: Split | None,
    task: Task,
    *,
    seed: int = 0,
    compute: Compute | None = None,
    model: nn.Module | None = None,
) -> None:
    """Raise `ExpungeError` with every reason why a method cannot run: seed, settings, compute, task, scenario.

    A command calls this before it loads data or model, without `split` and `model`.
    """
    name = type(method).__name__
    problems = seed_problems(seed) + settings_problems(method) + unwritten(method)
    problems += (compute or Compute()).problems(None if model is None else device_of(model))
    if method.paper and method.published is None:
        problems.append(f"no published settings of {name} were found; leave paper out.")
    if missing_capabilities(task, method.needs):
        problems.append(unsuited_text(type(method), task))
    elif missing := missing_capabilities(task, method.requires()):
        problems.append(missing_text(f"{name} with these settings", task.name, type(task).__name__, missing))
    if split is not None and method.scenarios and split.scenario not in method.scenarios:
        problems.append(
            f"{name} serves forget sets drawn by {' or '.join(method.scenarios)}, not '{split.scenario}'; see `expunge methods`."
        )
    raise_all(problems, ExpungeError)


def _answered(split: Split, method: Method) -> list[PastRequest]:
    """Return the requests that the model of a finished run has answered."""
    if not split.answers_request:
        return [e.past for e in split.earlier]
    return answered_by(split, method.name(), with_contents=True)


def _with_head(task: Task, model: nn.Module, split: Split, method: Method) -> Task:
    """Return the task with the head of `model`. A method without a head takes any model."""
    try:
        return task.with_head(model, split.forget)
    except ModelError:
        if {"head", "features"} & set(method.requires()):
            raise
        return task
