"""Answer requests with one run: unlearn their union, audit it with all earlier requests, remember each on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from ..audit.earlier_requests import TOLERANCE
from ..audit.evaluation import Evaluation
from ..audit.verdict import verdict
from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.split import Split
from ..errors import UnlearningFailed
from ..pipeline.outcome import Outcome, Reference
from ..pipeline.pipeline import Pipeline
from ..records.record import plain
from ..training.run import Run
from .answered import Answer, Setting
from .wanted import Wanted


def answer(
    model: nn.Module, requests: Sequence[Wanted], setting: Setting, splits: Sequence[Split] | None = None
) -> Answer:
    """Answer requests with one run.

    Args:
        model: The latest model, with the requests that it has answered (`remember_requests`). It is left as it was.
        requests: The requests. The method gets the union of their samples as its forget set.
        setting: Data, task, method and seeds.
        splits: The split of each request, if they are drawn already.

    Raises:
        UnlearningFailed: The run diverged, changed nothing, or left a class known.
        ExpungeError: A request cannot be drawn, or the method does not fit.
    """
    splits = [setting.draw(request) for request in requests] if splits is None else list(splits)
    union = setting.union(splits).after(requests_of(model), rehearse=setting.rehearse)
    earlier = [e.past for e in union.earlier]
    outcomes = Pipeline(
        split=union,
        task=setting.task,
        factory=setting.factory,
        recipe=setting.recipe,
        seed=setting.seed,
        compute=setting.compute,
        names=setting.names,
        command=setting.command,
        measures=setting.measures,
    ).run(
        {setting.method.name(): setting.method},
        original=lambda: Reference(Run(model, union, setting.task, setting.seed)),
        retrained=None if setting.recipe is not None else lambda _: None,
    )
    outcome = outcomes[-1]
    _refuse_failed(outcome, outcomes[0])
    _give_verdict(outcomes)
    new = _each(splits, outcome)
    hashes = {past.request for past in new}
    remember_requests(outcome.model, [*(p for p in earlier if p.request not in hashes), *new])
    return Answer(outcomes, splits, new)


def _refuse_failed(outcome: Outcome, original: Outcome) -> None:
    """Raise `UnlearningFailed` for a run that diverged, changed nothing, or left a class known: it answers no request."""
    record = outcome.record
    unchanged = record.model.get("hash_before") == record.model.get("hash_after")
    reason = record.status if record.ended in ("diverged", "unchanged") or unchanged else ""
    known, before = (100 - float(r.scores.get("UA", 100.0)) for r in (record, original.record))
    # the goal is that the class is not recognised at all; a run that took away less than half did not do the work
    if not reason and outcome.run.split.goal == "unlearn" and known > max(TOLERANCE, before / 2):
        reason = f"the model still recognises {known:.1f} % of the samples that were to be unlearned, and {before:.1f} % before the run"
    if reason:
        raise UnlearningFailed(
            f"the run answers no request: {reason}. Nothing was kept; change the settings of {record.method} and run again.",
            outcome.run,
        )


def _give_verdict(outcomes: Sequence[Outcome]) -> None:
    """Write the verdict of the audit into the record of the run. The ledger accepts no audit without one."""
    outcome = outcomes[-1]
    if not isinstance(outcome.evaluation, Evaluation):
        return
    result = verdict(
        outcome.record.scores,
        [o.record.scores for o in outcomes if o.record.kind == "retrain"],
        sizes=outcome.run.split.sizes,
        goal=outcome.run.split.goal,
        original=outcomes[0].record.scores,
        grounds=outcome.audit.grounds if outcome.audit is not None else None,
    )
    outcome.record.details["verdict"] = plain(result.to_dict())


def _each(splits: Sequence[Split], outcome: Outcome) -> list[PastRequest]:
    """Return each request with its own UA and MIA."""
    name = outcome.record.method
    requests = [split.as_request(name) for split in splits]
    evaluation = outcome.evaluation
    if not isinstance(evaluation, Evaluation):
        return requests
    if len(splits) == 1:
        scores = {k: evaluation.scores[k] for k in ("UA", "MIA")}
        return [replace(requests[0], scores=scores)]
    called = evaluation.called_nonmember(evaluation.forget)
    scored = []
    for split, request in zip(splits, requests, strict=True):
        own = torch.isin(outcome.run.split.forget.index, split.forget.index)
        correct = evaluation.forget.correct[own].double().mean().item()
        scores = {"UA": 100 - 100 * correct, "MIA": 100 * float(called[own.numpy()].mean())}
        scored.append(replace(request, scores=scores))
    return scored
