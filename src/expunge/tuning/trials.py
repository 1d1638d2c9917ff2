"""Choose a method's settings by a few trials on validation data, without a retrained model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..audit.evaluation import Evaluation
from ..data.past_requests import requests_of
from ..data.split import Split
from ..errors import raise_all
from ..tasks.task import Task, require
from ..training.execute import execute_trial, keep_original
from ..training.method import Method
from ..training.processes import ProcessGroup
from ..training.run import Compute, Run
from .auto import BY_RETAIN, adapt, all_fixed, can_search, proposals, why_no_search
from .caution import cautious_distance, gap_error
from .checks import tuning_problems
from .estimate import (
    LARGEST_DISTANCE,
    distance_to_expected,
    distance_to_retrained,
    expected_scores,
    likeness_of_others,
    predict_sets,
)
from .kept import finished_trials, identity_of, keep_trials
from .search import AUTO, By, Count, Objective, Trial, tries
from .tuned import Tuned, collapsed_notes, no_better_text


def tune(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    *,
    count: int | Literal["auto"] = 4,
    fixed: Collection[str] = (),
    by: By = "validation",
    retrained: Evaluation | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    on_trial: Callable[[list[Trial]], None] | None = None,
    trials_file: Path | str | None = None,
    state_file: Path | str | None = None,
    may_keep: bool = True,
    **options: Any,
) -> Tuned:
    """Try several settings of a method and choose those whose model is closest to Retrain.

    Papers choose settings by the gap to Retrain itself. A user who must unlearn has no retrained model, so the default
    estimates the gap from validation samples.

    Args:
        model: The original. It stays unchanged.
        split: The split. `by="validation"` needs validation samples in it, or forgotten classes.
        method: The method; the first trial uses its settings.
        task: The task of the model.
        count: Number of trials, at least 1. "auto" adapts the settings to the request first and ends when the gap cannot be
            told from none (see `expunge.tuning.auto`).
        fixed: Names of fields that trials do not change.
        by: "validation" uses the estimated gap. "gap" uses the gap to `retrained`, an oracle.
        retrained: Evaluation of the retrained model on this split, for `by="gap"`.
        seed: Seed of every trial's run.
        compute: How the arithmetic is done, as for `execute`.
        on_trial: Called after each trial with all trials so far.
        trials_file: File that keeps finished trials, so that an interrupted call continues. The caller removes it.
        state_file: File for the state of the running trial, as for `execute`.
        may_keep: Whether the caller keeps the original if no trial improves on it. If not, "auto" goes on until a trial is as
            close to the target as the original, even if chance explains a larger gap.
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
    raise_all(tuning_problems(split, method, count, fixed, by, retrained))
    state_path, trials_path = (None if f is None else Path(f) for f in (state_file, trials_file))
    split = split.after(requests_of(model))
    # trials leave out what the original never saw, by which they are compared; automatic ones run what is delivered
    trial_split = split if by == "gap" or count == AUTO else seen_samples(split)
    objective = objective_of(model, trial_split, task, retrained if by == "gap" else None, count)
    _warn_of_few(objective, method)
    distance_of, margin, untouched = objective.distance, objective.margin, objective.distance(model)
    identity = identity_of(model, split, method, seed, how, options.get("mask"), count, fixed, by)
    enough = margin if may_keep else min(margin, untouched)
    method, propose = proposals(model, trial_split, method, task, count, fixed, enough, not may_keep)
    trials, group = finished_trials(trials_path, identity), ProcessGroup(how.processes)
    best_run: Run | None = None
    while (settings := propose(trials)) is not None:
        chosen = replace(method, **settings)
        run = execute_trial(
            model, trial_split, chosen, task, seed=seed, compute=how, state_file=state_path, **options
        )
        # what a diverged run leaves is no result, also where it is closer: a masked head with unfinished weights, for example
        own = LARGEST_DISTANCE if run.ended == "diverged" else distance_of(run.model)
        # the mean makes all processes choose alike, and none continues while another still writes this trial's state
        distance = group.mean([torch.tensor([own], dtype=torch.float64)], run.device) or 0.0
        if state_path is not None:
            state_path.unlink(missing_ok=True)
        if all(distance < t.distance for t in trials):
            best_run = run
        trials.append(Trial(settings, distance, run.status, run.seconds, objective.error, objective.unseen))
        keep_trials(trials_path, identity, trials)
        if on_trial is not None:
            on_trial(trials)
    ranked = sorted(trials, key=lambda t: t.distance)
    if len(trial_split.forget) < len(split.forget):
        best_run = None  # the best settings of trials on a part run then on all that was requested
    best, notes = replace(method, **ranked[0].settings), [*objective.notes, *collapsed_notes(trials)]
    tuned = Tuned(ranked, best, untouched, best_run, margin, trials, notes)
    if not tuned.improved:
        warnings.warn(no_better_text(tuned, None if may_keep else _taken(tuned, count)), RuntimeWarning, 2)
    return tuned


def _warn_of_few(objective: Objective, method: Method) -> None:
    """Warn that few samples are comparable. A run whose stop rule or gate has the same target warns itself."""
    for note in objective.notes if not method.unseen_rules() else ():
        warnings.warn(note, RuntimeWarning, 3)


def _taken(tuned: Tuned, count: int | str) -> Trial:
    """Return the trial whose settings are used where none improves on the original and nobody keeps that."""
    return tuned.harmless if count == AUTO else tuned.trials[0]


def choose(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    *,
    count: Count,
    fixed: Collection[str] = (),
    may_keep: bool = True,
    **options: Any,
) -> tuple[Method, Run | None, dict[str, Any]]:
    """Return the method with the settings to use, its run if there is one already, and details for the record.

    Args:
        model: The original.
        split: The split of the request.
        method: The method with its own settings.
        task: The task of the model.
        count: Number of trials. None, 0 and 1 keep the settings. "auto" keeps the original if no trial improves on it.
        fixed: Names of fields that stay as they are.
        may_keep: Whether "auto" may keep the original. If not, the first trial that does no harm is taken, else the best.
        options: Further keyword arguments of `tune`.
    """
    if not tries(count) or count is None:
        return method, None, {}
    if count == AUTO and (method.paper or "scores" not in task.offers):
        return method, None, {}
    note = all_fixed(method, split, task, fixed) if count == AUTO else ""
    if count == AUTO and not note and not can_search(method, split, task, fixed):
        return adapt(method, model, split, task, fixed), None, why_no_search(method, split, fixed)
    if note:
        warnings.warn(note, RuntimeWarning, 2)
    tuned = tune(model, split, method, task, count=count, fixed=fixed, may_keep=may_keep, **options)
    details: dict[str, Any] = {
        "trials": [asdict(t) for t in tuned.trials],
        "trials_untouched": tuned.untouched,
        "notes": [
            *([note] if note else []),
            *tuned.notes,
            *([] if len(split.unseen) or options.get("by") == "gap" else [BY_RETAIN]),
        ],
    }
    if count != AUTO or tuned.improved:
        return tuned.method, tuned.run, details
    if not may_keep:
        taken = tuned.harmless
        own = tuned.run if taken is tuned.trials[0] else None
        return replace(tuned.method, **taken.settings), own, details
    shared = {name: options[name] for name in ("seed", "compute") if name in options}
    return (
        tuned.method,
        keep_original(model, split, task, no_better_text(tuned), **shared),
        details,
    )


def seen_samples(split: Split) -> Split:
    """Return the split without forget samples that the original never saw, if it saw any of them."""
    seen = split.without_held_out
    return seen if len(seen.forget) else split


def objective_of(
    model: nn.Module, split: Split, task: Task, retrained: Evaluation | None, count: int | str
) -> Objective:
    """Return what ranks the trials on a split.

    Args:
        model: The original.
        split: The split that trials run on.
        task: The task of the model.
        retrained: Evaluation of the retrained model, if trials are ranked by the gap to it.
        count: Number of trials; "auto" takes the cautious estimate.
    """
    if retrained is not None:
        return Objective(distance_to_retrained(retrained, task))
    if count == AUTO:
        seen = seen_samples(split)
        split = replace(seen, held_out=seen.held_out[:0])
    original = predict_sets(model, split, task)
    if count == AUTO:
        distance, margin = cautious_distance(original, split, task)
    else:
        distance, margin = distance_to_expected(original, split, task), 0.0
    alike = likeness_of_others(original, split) if len(original.validation.labels) else None
    if alike is None:
        return Objective(distance, margin)
    error = gap_error(expected_scores(original, split), original.removed_share, alike)
    return Objective(distance, margin, error, alike.samples)
