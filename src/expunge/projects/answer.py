"""Answer requests with one run: unlearn their union, audit it with all earlier requests, remember each on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from torch import nn

from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.split import Split
from ..pipeline.outcome import Outcome, Reference
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Trials, Watch
from ..tracking.by_name import TrackerLike
from ..tracking.tracking import Tracking
from ..training.run import Run
from ..training.tracked import run_settings, tracked
from .answered import Answer, NotAnswered, Setting
from .effect import failure, run_failure
from .parts import Part, parts_of
from .request_scores import described
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

    Returns:
        The answer. Requests that the run does not answer are in `failures`.

    Raises:
        NotAnswered: The run answers none of the requests.
        ExpungeError: A request cannot be drawn, or the method does not fit.
    """
    splits = [setting.draw(request) for request in requests] if splits is None else list(splits)
    union = setting.for_run(splits, requests_of(model))
    outcomes = _run(model, union, setting)
    outcome, parts = outcomes[-1], parts_of(splits, outcomes)
    if setting.returned is not None and (sentences := setting.returned.recorded):
        details = outcome.record.details
        details["returned_copies"] = setting.returned.to_dict()
        details["limits"] = [*details.get("limits", ()), *sentences]
    if notes := [request.recorded for request in setting.waiting if request.recorded]:
        details = outcome.record.details
        details["limits"] = [*details.get("limits", ()), *notes]
    failures = _failures(splits, parts, outcomes, setting.max_loss)
    answered = [k for k in range(len(splits)) if k not in failures]
    if parts and failures and len(splits) > 1:
        entries = described(
            [parts[k] for k in failures], len(requests_of(model)) + len(answered), _is_exact(outcome)
        )
        reasons = [{"reason": text} for text in failures.values()]
        outcome.record.details["declined"] = [e | r for e, r in zip(entries, reasons, strict=True)]
    if len(failures) == len(splits):
        raise NotAnswered([failures[k] for k in range(len(splits))], outcomes)
    if parts:
        # the ledger accepts no audit without a verdict
        outcome.record.details["verdict"] = parts_of([union], outcomes)[0].verdict
    kept = [parts[k] for k in answered] if parts else []
    if kept:
        outcome.record.details["requests"] = described(kept, len(requests_of(model)), _is_exact(outcome))
    new = _remembered([splits[k] for k in answered], kept, outcome)
    hashes = {past.request for past in new}
    # of requests that came back and are not answered by this run, the samples still stay out of training
    earlier = [p for p in requests_of(model) if p.request not in hashes]
    remember_requests(outcome.model, [*earlier, *new])
    return Answer(outcomes, [splits[k] for k in answered], new, parts=kept, failures=failures)


@contextmanager
def watched(
    tracker: TrackerLike, setting: Setting, splits: Sequence[Split]
) -> Iterator[tuple[Setting, Tracking]]:
    """Let trackers watch the run that answers requests in the block. Yields the setting to use, and what takes the result.

    Trackers get the numbers of requests and samples, and neither subjects nor ids.
    """
    method, names = setting.method, setting.names
    counts = {"requests": len(splits), "samples": {"forget": sum(len(s.forget) for s in splits)}}
    settings = {**run_settings(method, None, setting.seed, names), **counts}
    with tracked(tracker, f"forget {method.name()}", settings) as tracking:
        yield replace(setting, on_row=tracking.rows(setting.on_row)), tracking


def _run(model: nn.Module, union: Split, setting: Setting) -> list[Outcome]:
    """Return the model before, the reference if there is one, and the unlearned model, with their records."""
    # a project has no use for the original, whose parameters were trained on the samples
    trials = Trials(count=setting.trials, fixed=setting.fixed, may_keep=False)
    watches = {setting.method.name(): Watch(trials=trials, on_row=setting.on_row)}
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
        watch=lambda label, method: nullcontext(watches.get(label, Watch(trials=trials))),
    ).run(
        {setting.method.name(): setting.method},
        original=lambda: Reference(Run(model, union, setting.task, setting.seed)),
        retrained=None if setting.recipe is not None else lambda _: None,
    )
    outcomes[-1].record.details["trials_asked"] = setting.trials or 0
    return outcomes


def _failures(
    splits: Sequence[Split], parts: Sequence[Part], outcomes: Sequence[Outcome], max_loss: float
) -> dict[int, str]:
    """Return {position of a request: why the run does not answer it}."""
    if reason := run_failure(outcomes[-1], outcomes[0]):
        return dict.fromkeys(range(len(splits)), reason)
    exact = _is_exact(outcomes[-1])
    reasons = {k: failure(part, exact=exact, max_loss=max_loss) for k, part in enumerate(parts)}
    return {k: text for k, text in reasons.items() if text}


def _is_exact(outcome: Outcome) -> bool:
    return outcome.method is not None and outcome.method.exact


def _remembered(splits: Sequence[Split], parts: Sequence[Part], outcome: Outcome) -> list[PastRequest]:
    """Return the requests with their own UA and MIA, and whether these do not show that they are forgotten."""
    requests = [split.as_request(outcome.record.method, with_contents=True) for split in splits]
    if not parts:
        return requests
    exact = _is_exact(outcome)
    return [
        replace(
            request,
            scores={name: part.scores[name] for name in ("UA", "MIA")},
            not_shown=not exact and part.confidence is not None and bool(part.confidence.warning),
        )
        for request, part in zip(requests, parts, strict=True)
    ]
