"""Run a method on a model: check everything first, then run it on a copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.split import Split
from ..errors import ExpungeError, MaskError, ModelError, raise_all
from ..masks.mask import check_mask
from ..masks.mask_file import Mask
from ..tasks.task import Task, missing_capabilities, missing_text
from ..torch_utils.gradients import dense_gradients, with_gradients
from ..torch_utils.module_state import (
    device_of,
    is_finite,
    same_parameters,
    seed_problems,
    seeded,
    stored_and_compiled,
)
from ..torch_utils.precision import precision_note
from ..torch_utils.prepared import of_plain_model, plain_model
from ..tracking.by_name import TrackerLike
from .arguments import check_arguments, unwritten
from .broken_samples import broken_samples
from .cost import measured
from .loop import descend
from .method import GradientMethod, Method
from .registry import MethodLike, make, unsuited_text
from .run import Compute, Row, Run
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
    trial: bool = False,
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
        trial: Whether other settings are tried too: the run ends if accuracy is at chance after its first epoch.

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
    model, mask = plain_model(model), of_plain_model(model, mask)
    check_arguments(model=model, split=split, task=task, mask=mask, seed=seed, compute=compute, factory=factory,
                    state_file=state_file, on_row=on_row)  # fmt: skip
    method, compute, seed = make(method), compute or Compute(), int(seed)
    split = split.after(requests_of(model))
    check_run(method, split, task, seed=seed, compute=compute, model=model)
    mask = _checked_mask(model, method, mask)
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
        trial=bool(trial),
    )
    check_step(run, method)
    note, slow = precision_note(run.compute.amp, run.device)
    if note:
        run.note(note, warn=slow)
    with tracked(tracker, f"run {method.name()}", run_settings(method, split, seed)) as tracking:
        run.on_row = tracking.rows(on_row)
        _apply(run, method, model)
        # scores are those of the request, without what was rehearsed
        run.split = split
        _check_result(run, model, method)
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
    earlier = [e.past for e in split.earlier]
    if not split.answers_request:
        return earlier
    return [*earlier, split.as_request(method.name(), with_contents=True)]


def _with_head(task: Task, model: nn.Module, split: Split, method: Method) -> Task:
    """Return the task with the head of `model`. A method without a head takes any model."""
    try:
        return task.with_head(model, split.forget)
    except ModelError:
        if {"head", "features"} & set(method.requires()):
            raise
        return task


def _checked_mask(model: nn.Module, method: Method, mask: Mapping[str, Tensor] | None) -> Mask | None:
    if method.exact and (mask is not None or getattr(method, "density", 1.0) < 1):
        raise MaskError(
            f"{type(method).__name__} starts from fresh weights, so there is nothing a mask could hold; leave the mask out and "
            "density at 1."
        )
    if mask is None:
        return None
    if not isinstance(method, GradientMethod):
        raise MaskError(
            f"{type(method).__name__} edits weights without gradient steps and takes no mask; leave the mask out."
        )
    check_mask(model, mask)
    return mask if isinstance(mask, Mask) else Mask(mask)


def _check_result(run: Run, model: nn.Module, method: Method) -> None:
    """Take back a result with NaN, restore the modes of the modules, and warn of a run without a result."""
    # methods with a loop have a guard that checks this itself
    if run.ended == "finished" and not is_finite(run.model):
        run.model, run.ended, run.taken_back = copy.deepcopy(model), "diverged", True
        run.status = (
            "diverged: a weight became NaN or infinite; the model is as it came. Choose weaker settings."
        )
    elif run.ended in ("finished", "stopped") and same_parameters(run.model, model):
        reason = "" if run.status == "finished" else f" ({run.status})"
        run.ended, run.status = (
            "unchanged",
            (
                f"unchanged: every parameter is identical to the original's after {run.step} steps{reason}. Nothing was "
                "unlearned. Check lr, epochs, the mask and frozen parameters."
            ),
        )
    if run.ended in ("diverged", "unchanged") and not isinstance(method, GradientMethod):
        broken = broken_samples(run, [run.split.forget, run.split.retain])
        run.status += f" Cause: {broken}" if broken else ""
    modes = {part: module.training for part, module in model.named_modules()}
    # a method may return another model, such as an ensemble
    for part, module in run.model.named_modules():
        module.training = modes.get(part, model.training)
    if run.taken_back or run.ended == "unchanged":
        warnings.warn(f"{type(method).__name__} {run.status}", RuntimeWarning, stacklevel=4)
