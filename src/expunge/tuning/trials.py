"""Choose a method's settings by a few trials on validation data, without a retrained model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from ..audit.evaluation import Evaluation
from ..data.past_requests import requests_of
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..masks.mask_file import Mask
from ..own_code import code_identity
from ..records.atomic_files import write_json
from ..records.hashing import mask_hash, state_hash
from ..records.record import plain
from ..tasks.task import Task, require
from ..training.execute import execute
from ..training.method import Method
from ..training.processes import ProcessGroup, is_first_process
from ..training.run import Compute, Run
from .estimate import distance_to_expected, distance_to_retrained
from .search import By, Trial, next_settings, search_space


@dataclass(frozen=True, eq=False)
class Tuned:
    """Hold the result of `tune`.

    Args:
        trials: All trials, the best first.
        method: The method with the settings of the best trial.
        untouched: Distance of the original, in percentage points.
        run: Run of the best trial. None if an interrupted call made it, or if trials ran on a part of the forget set.
    """

    trials: list[Trial]
    method: Method
    untouched: float
    run: Run | None


def tune(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    *,
    count: int = 4,
    fixed: Collection[str] = (),
    by: By = "validation",
    retrained: Evaluation | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    on_trial: Callable[[list[Trial]], None] | None = None,
    trials_file: Path | str | None = None,
    state_file: Path | str | None = None,
    **options: Any,
) -> Tuned:
    """Try several settings of a method and choose those whose model is closest to Retrain.

    Papers choose settings by the gap to Retrain itself. A user who must unlearn has no retrained model, so the default
    estimates the gap from validation samples.

    Args:
        model: The original. It stays unchanged.
        split: The split. `by="validation"` needs validation samples in it.
        method: The method; the first trial uses its settings.
        task: The task of the model.
        count: Number of trials, at least 1.
        fixed: Names of fields that trials do not change.
        by: "validation" uses the estimated gap. "gap" uses the gap to `retrained`, an oracle.
        retrained: Evaluation of the retrained model on this split, for `by="gap"`.
        seed: Seed of every trial's run.
        compute: How the arithmetic is done, as for `execute`.
        on_trial: Called after each trial with all trials so far.
        trials_file: File that keeps finished trials, so that an interrupted call continues. The caller removes it.
        state_file: File for the state of the running trial, as for `execute`.
        options: Further keyword arguments of `execute`.

    Returns:
        The trials, the method with the best settings, and the run of the best trial.

    Raises:
        ExpungeError: The method has nothing to try, the chosen distance lacks validation samples or `retrained`, or
            `trials_file` belongs to another call.
        ModelError: The task does not offer "scores".

    Example:
        >>> tuned = tune(model, split, SalUn(), task, count=4)
        >>> tuned.method, tuned.trials[0].distance
    """
    how = compute or Compute()
    require(task, ["scores"], "tuning")
    raise_all(_problems(split, method, count, fixed, by, retrained))
    state_path, trials_path = (None if f is None else Path(f) for f in (state_file, trials_file))
    split = split.after(requests_of(model))
    # trials leave out what the original never saw: on these samples they are compared with it
    trial_split = split if by == "gap" else split.without_held_out
    if by == "gap" and retrained is not None:
        distance_of = distance_to_retrained(retrained, task)
    else:
        distance_of = distance_to_expected(model, trial_split, task)
    untouched = distance_of(model)
    identity = _identity(model, split, method, seed, how, options.get("mask"), count, fixed, by)
    trials = _finished_trials(trials_path, identity)
    best_run: Run | None = None
    group = ProcessGroup(how.processes)
    while len(trials) < count and (settings := next_settings(method, trials, count, fixed)) is not None:
        chosen = replace(method, **settings)
        run = execute(
            model, trial_split, chosen, task, seed=seed, compute=how, state_file=state_path, **options
        )
        # the mean makes all processes choose alike, and none continues while another still writes this trial's state
        distance = (
            group.mean([torch.tensor([distance_of(run.model)], dtype=torch.float64)], run.device) or 0.0
        )
        if state_path is not None:
            state_path.unlink(missing_ok=True)
        if all(distance < t.distance for t in trials):
            best_run = run
        trials.append(Trial(settings, distance, run.status, run.seconds))
        if trials_path is not None and is_first_process():
            write_json(trials_path, plain({"identity": identity, "trials": [asdict(t) for t in trials]}))
        if on_trial is not None:
            on_trial(trials)
    trials = sorted(trials, key=lambda t: t.distance)
    _warn_of_no_better(trials, method, untouched)
    if len(trial_split.forget) < len(split.forget):
        # the best settings then run on all that was requested
        best_run = None
    return Tuned(trials, replace(method, **trials[0].settings), untouched, best_run)


def _warn_of_no_better(trials: Sequence[Trial], method: Method, untouched: float) -> None:
    """Warn if the best trial is no better than the original. The warning points at the caller of `tune`."""
    if trials[0].distance >= untouched:
        warnings.warn(
            f"None of the {len(trials)} trials of {method.name()} improved on the original model (estimated gap "
            f"{untouched:.2f} points; best trial {trials[0].distance:.2f}). Use more epochs, other settings or another method.",
            RuntimeWarning,
            stacklevel=3,
        )


def _identity(
    model: nn.Module,
    split: Split,
    method: Method,
    seed: int,
    how: Compute,
    mask: Mask | None,
    count: int,
    fixed: Collection[str],
    by: By,
) -> str:
    """Return a text that is equal for two calls only if their trials are the same."""
    given_mask = None if mask is None else mask_hash(mask)
    return repr((code_identity(type(method)), plain(asdict(method)), split.hash, split.preparation, seed, asdict(how), given_mask,
                 state_hash(model.state_dict()), count, sorted(fixed), by))  # fmt: skip


def trial_problems(method: Method, count: int, fixed: Collection[str] = ()) -> list[str]:
    """Return what is wrong with the number of trials or the fixed settings, one sentence each. It needs no data."""
    problems = []
    names = {f.name for f in fields(method)}
    if type(count) is not int or count < 1:
        problems.append(f"the number of trials is {count}; it must be a whole number of at least 1.")
    if unknown := [n for n in fixed if n not in names]:
        problems.append(f"{method.name()} has no settings {unknown} to keep fixed; it has {sorted(names)}.")
    if not type(method).search:
        problems.append(f"{method.name()} has no settings to try; leave the trials out.")
    elif not search_space(method, fixed):
        problems.append(
            f"every setting of {method.name()} that trials can choose ({', '.join(type(method).search)}) is fixed; leave out the "
            "trials, or one of the settings."
        )
    return problems


def _problems(
    split: Split, method: Method, count: int, fixed: Collection[str], by: By, retrained: Evaluation | None
) -> list[str]:
    problems = trial_problems(method, count, fixed)
    if by not in get_args(By):
        problems.append(f"trials cannot be chosen by {by!r}; choose by {' or '.join(get_args(By))}.")
    if by == "gap" and retrained is None:
        problems.append("by='gap' needs a retrained model; pass `retrained`, or use by='validation'.")
    if retrained is not None and retrained.split.hash != split.hash:
        problems.append("the retrained model was evaluated on another split; evaluate it on this one.")
    if by == "validation" and not len(split.unseen):
        problems.append(
            "the split has no validation samples, on which trials are chosen; draw it with a validation share, for example 0.1."
        )
    return problems


def _finished_trials(path: Path | None, identity: str) -> list[Trial]:
    """Return the trials of an interrupted call. Raise `ExpungeError` if they belong to another call."""
    if path is None or not path.exists():
        return []
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        saved_identity, trials = saved["identity"], [Trial(**t) for t in saved["trials"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExpungeError(
            f"{path} cannot be read as trials ({type(error).__name__}); remove it to start again."
        ) from error
    if saved_identity != identity:
        raise ExpungeError(
            f"{path} holds the trials of another run (model, method, settings, split, seed or number of trials differ); remove "
            "it to start again, or use the settings of that run."
        )
    return trials
