"""Plan a request before it is run: how many samples, how long, how much memory and disk, and what retraining would cost."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..data.past_requests import joined, requests_of
from ..data.split import Split
from ..data.waiting import WaitingRequest
from ..methods.retrain import Retrain
from ..training.execute import check_run
from ..training.method import Method
from ..tuning.auto import MOST, adapt, can_search
from ..tuning.search import AUTO, tries
from .answered import Setting
from .earlier import earlier_answer, evidence
from .folder import LEDGER, Folder
from .prepared import Prepared, Say, check_new_requests, draw_new, for_requests
from .requests import ProjectRequest
from .timing import seconds_per_sample, time_run
from .together import check_together
from .turns import in_turn
from .wanted import Wanted


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold what a run would do and cost.

    Args:
        samples: Number of samples of each request.
        forget: Number of different samples of all requests together.
        retain: Number of retained samples.
        earlier: Number of samples that earlier requests removed.
        copies: Sentences on copies of the samples.
        method: Name of the method.
        trials: Smallest and largest number of trials; (1, 1) if none are made.
        steps: Number of steps of one trial with the settings of the first; None if the method has no training loop.
        seconds: Estimated seconds of the smallest and of the largest number of trials, with masks, audit and reference; None
            if the method has no training loop.
        memory: Estimated peak memory in bytes (on a CPU that of the process); None where it is unknown.
        disk: Bytes that the run writes.
        free: Free bytes on that disk.
        retrain_seconds: Estimated seconds of retraining by the recipe.
        recipe: Where the recipe comes from, and its epochs.
        by_row: Whether ids of the requests are positions of rows.
        by_runs: Numbers of the earlier runs that answer all requests; empty if a run is needed.
    """

    samples: list[int]
    forget: int
    retain: int
    earlier: int
    copies: list[str]
    method: str
    trials: tuple[int, int]
    steps: int | None
    seconds: tuple[float, float] | None
    memory: int | None
    disk: int
    free: int
    retrain_seconds: float
    recipe: str = ""
    by_row: bool = False
    by_runs: tuple[int, ...] = ()

    @property
    def retraining_is_cheaper(self) -> bool:
        """Whether retraining without all requests is estimated to take less time than the largest number of trials."""
        return self.seconds is not None and self.retrain_seconds < self.seconds[1]


@in_turn
def plan_answer(
    prepared: Prepared,
    waiting: Sequence[tuple[ProjectRequest, Split]],
    new: Sequence[Wanted],
    left: Sequence[WaitingRequest],
    folder: Path,
    say: Say,
) -> Plan:
    """Plan the run that answers open and new requests. The checks and errors are those of the answer.

    Args:
        prepared: The project.
        waiting: The open requests that are answered too, with their splits.
        new: New requests.
        left: The requests that wait, and that the run does not answer.
        folder: Where the run writes.
        say: Gets notes for the user.
    """
    splits = draw_new(prepared, new)
    check_new_requests(prepared, new, splits)
    check_together([*waiting, *((None, split) for split in splits)], left, folder / LEDGER)
    drawn: list[tuple[ProjectRequest | None, Wanted, Split]] = [
        *((r, r.wanted, split) for r, split in waiting),
        *((None, request, split) for request, split in zip(new, splits, strict=True)),
    ]
    to_run, runs = [], []
    for entry, request, split in drawn:
        if (earlier := _answers(prepared, entry, split)) is None:
            to_run.append((split, request))
            continue
        runs.append(earlier.run)
        number = f" {entry.number}" if entry else f" of {request.subject}" if request.subject else ""
        say(
            f"request {earlier.number} removed all samples of the request{number} already; no run is needed for it."
        )
    if not to_run:
        return nothing_to_run(prepared, [split for _, _, split in drawn], runs, folder)
    splits, requests = map(list, zip(*to_run, strict=True))
    return make_plan(prepared, splits, replace(for_requests(prepared, requests), waiting=left), folder)


def _answers(prepared: Prepared, entry: ProjectRequest | None, split: Split) -> ProjectRequest | None:
    """Return the request whose run answers this one too, as `answer_repeats` finds it: it needs the evidence of that run."""
    if entry is not None and entry.state != "waiting":
        return None
    earlier = earlier_answer(split, requests_of(prepared.model), prepared.requests)
    project = Folder(prepared.root)
    return earlier if earlier and evidence(project, prepared.state, earlier) else None


def nothing_to_run(prepared: Prepared, splits: Sequence[Split], runs: Sequence[int], folder: Path) -> Plan:
    """Return the plan for requests that earlier runs answer."""
    return Plan(
        samples=[len(s.forget) for s in splits],
        forget=len({name for s in splits for name in s.forget.ids}),
        retain=min((len(s.retain) for s in splits), default=0),
        earlier=len({name for past in requests_of(prepared.model) for name in past.ids}),
        copies=[],
        method=prepared.settings.method,
        trials=(0, 0),
        steps=0,
        seconds=(0.0, 0.0),
        memory=None,
        disk=0,
        free=shutil.disk_usage(folder).free,
        retrain_seconds=0.0,
        by_runs=tuple(sorted(set(runs))),
    )


def make_plan(prepared: Prepared, splits: Sequence[Split], setting: Setting, folder: Path) -> Plan:
    """Plan a run. A run of ten steps is timed for the method and for the recipe, on copies of the model.

    Args:
        prepared: The project. Its latest model is left as it was.
        splits: The split of each request.
        setting: Data, task, method and seeds.
        folder: Where the run writes.

    Raises:
        ExpungeError: The method does not fit.
    """
    model, recipe = prepared.model, prepared.settings.make_recipe(prepared.trained)
    split = setting.for_run(splits, requests_of(model))
    check_run(setting.method, split, setting.task, seed=setting.seed, compute=setting.compute, model=model)
    method, trials = _trials(model, split, setting)
    # the first run of a process loads parts of torch, which takes seconds
    time_run(model, split, recipe, setting)
    retraining, run = time_run(model, split, recipe, setting), time_run(model, split, method, setting)
    per_sample, output = seconds_per_sample(model, split, setting)
    searched = len(split.forget) + len(split.retain) + len(split.unseen)
    audited = sum(
        map(len, (split.forget, split.retain, split.test, split.test_forgotten, split.earlier_samples))
    )
    audits = per_sample * ((3 if setting.recipe else 2) * audited + 2 * len(split.unseen))
    reference = retraining.seconds if retraining is not None and setting.recipe is not None else 0.0
    each = (run.seconds + per_sample * searched * (trials[1] > 1)) if run is not None else 0.0
    least, most = (n * each + per_sample * searched * (trials[1] > 1) + audits + reference for n in trials)
    # the best model so far, the models of this trial and of the audits' predictions
    extra = run.model_bytes + 2 * output * audited if run is not None else 0
    return Plan(
        samples=[len(s.forget) for s in splits],
        forget=len(split.forget),
        retain=len(split.retain),
        # also those that the request names again
        earlier=len(joined(e.places for e in split.earlier).unique()),
        copies=_copies(setting, splits),
        method=method.name(),
        trials=trials,
        steps=None if run is None else run.steps,
        seconds=None if run is None else (least, most),
        memory=None if run is None or run.memory is None else run.memory + extra,
        # the checkpoint, and about 100 bytes per id in secret and request file
        disk=prepared.model_file.stat().st_size
        + 100 * len(split.forget)
        + 2 * sum(map(len, split.forget.ids)),
        free=shutil.disk_usage(folder).free,
        retrain_seconds=0.0 if retraining is None else retraining.seconds,
        recipe=f"{_recipe_source(prepared)}, {recipe.epochs} epochs",
        by_row=any("ids" in s.spec for s in splits),
    )


def _copies(setting: Setting, splits: Sequence[Split]) -> list[str]:
    """Return the sentences on copies of samples: of answered requests, of waiting ones, and of those of the run."""
    of_waiting = [request.note for request in setting.waiting if request.note]
    of_run = [text for split in splits for text in split.copies.sentences]
    return [*(setting.returned.sentences if setting.returned else ()), *of_waiting, *of_run]


def _recipe_source(prepared: Prepared) -> str:
    """Return where the recipe of a project comes from."""
    below = "the recipe of the checkpoint" if type(prepared.trained) is Retrain else "the default recipe"
    given = prepared.settings.recipe
    return f"[recipe] of expunge.toml ({', '.join(sorted(given))}), else {below}" if given else below


def _trials(model: nn.Module, split: Split, setting: Setting) -> tuple[Method, tuple[int, int]]:
    """Return the method of the first trial, and the smallest and the largest number of trials."""
    method, count = setting.method, setting.trials
    if count == AUTO and not method.paper:
        adapted = adapt(method, model, split, setting.task, setting.fixed)
        return adapted, (1, MOST if can_search(adapted, split, setting.task, setting.fixed) else 1)
    several = int(count) if isinstance(count, int) and tries(count) else 1
    return method, (several, several)
