"""The last lines of `expunge forget`: what became of each request, where the files are, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..receipts.limits import visible
from .exit_codes import NO_RESULT
from .terminal import notice, show_records

if TYPE_CHECKING:
    from ..pipeline.outcome import Outcome
    from ..projects.answered import Answer, NotAnswered
    from ..projects.requests import ProjectRequest

# Points of test accuracy. A run that costs more is not called done without a word.
NOTABLE_LOSS = 2

# a `Project`, which is not imported here: it would be one more level of imports
Project: TypeAlias = Any


def show_answer(project: Project, found: Answer) -> int:
    """Print what a run did, and return the exit code."""
    if found.outcomes:
        # those of the record name requests by the numbers of the project
        show_records([o.record for o in found.outcomes], found.record.details.get("limits", []), None)
    declined = found.entries_of("declined")
    failed = [f"the run does not answer request {e['number']}: {e['reason']}" for e in declined]
    for text in found.warnings:
        notice(text)
    for text in [*failed, *found.not_proved]:
        print(f"error: {visible(text)}", file=sys.stderr)
    if found.outcomes:
        _show_loss(project, found.outcomes)
    _show_requests(found.entries, found.bad_verdicts)
    _show_no_effect(project, found)
    model = _latest_model(project)
    print(f"model: {project.path / model}\nreport: {project.path / 'report.html'}")
    failures = bool(found.skipped or failed or found.not_proved or found.came_back)
    print(f"next: {_next_step(project, found, model)}")
    return 1 if failures else 0


def show_not_answered(project: Project, error: NotAnswered) -> int:
    """Print why a run answers no request, and return the exit code."""
    show_records([o.record for o in error.outcomes], [], None)
    if reason := (error.outcomes[-1].record.details.get("grounds") or {}).get("reference"):
        notice(reason)
    for text in error.problems:
        print(f"error: {visible(text)}", file=sys.stderr)
    _show_loss(project, error.outcomes, delivered=False)
    _show_requests(error.entries)
    print(f"model: {project.path / _latest_model(project)}, as it was")
    print(f"next: {_again(project, error)}")
    return NO_RESULT


def _latest_model(project: Project) -> str:
    return str(project.folder.state()["models"][-1]["file"])


def _show_requests(entries: Sequence[ProjectRequest], verdicts: Mapping[int, str] | None = None) -> None:
    for entry in entries:
        of = f"; its scores are those of request {entry.scores_of}" if entry.scores_of else ""
        print(f"request {entry.number} ({visible(entry.subject)}): {visible(entry.shown_state)}{of}")
        if text := (verdicts or {}).get(entry.number):
            print(f"verdict of request {entry.number}: {visible(text)}")


def _show_no_effect(project: Project, found: Answer) -> None:
    """Repeat at the end which requests are done without a shown effect, and what to change."""
    from ..projects.no_effect import direction_without_effect, remedy, unshown_text, verdicts_of

    unsure = [entry for entry in found.entries if entry.not_shown and entry.state == "done"]
    if not unsure:
        return
    print(unshown_text([entry.number for entry in unsure]))
    direction = direction_without_effect(verdicts_of(project.path, unsure))
    method = found.outcome.method if found.outcomes else None
    it = "it" if len(unsure) == 1 else "such a request"
    print(f"to answer {it} better: {remedy(project.path, method.search if method else (), direction)}")


def _show_loss(project: Project, outcomes: Sequence[Outcome], *, delivered: bool = True) -> None:
    """Print the test accuracy before and after the run, and its limit."""
    from ..projects.effect import accuracies_of

    both = accuracies_of(outcomes[0], outcomes[-1])
    if both is None:
        return
    before, after, counted = both
    left = int((~counted).sum())
    others = f", without {left:,} test samples of classes of which no sample is retained" if left else ""
    limit = project.settings.max_loss
    print(
        f"test accuracy: {before:.1f} % before the run, {after:.1f} % after it ({after - before:+z.1f} points; max_loss is {limit:g})"
        f"{others}"
    )
    if delivered and before - after > NOTABLE_LOSS:
        print(
            f"the run cost more than {NOTABLE_LOSS} points of test accuracy: lower max_loss in {project.path / 'expunge.toml'} "
            "to refuse such runs, and give method or [settings] that change less."
        )


def _again(project: Project, error: NotAnswered | None = None) -> str:
    """Return how to run again, with the direction in which the measured outcome of a failed run points."""
    from ..projects.no_effect import changes, direction_of

    direction = direction_of(error.reasons) if error else ""
    method = error.outcomes[-1].method if error else None
    what = changes(method.search if method and direction else (), direction)
    place = what.replace("expunge.toml", str(project.path / "expunge.toml"))
    return f"{place}, then run `expunge forget --project {project.path} --pending`."


def _next_step(project: Project, found: Answer, model: str) -> str:
    if found.failures or found.came_back:
        return _again(project)
    if found.not_proved:
        return f"give what is missing, or {_again(project)}"
    if found.skipped:
        return "do what the notes above say of each request that stays open."
    by_earlier, first = _earlier_receipts(project, found, model), in_the_way(project)
    if not found.outcomes:
        return f"{first}hand over the receipt of the run that answers the request: {by_earlier}."
    receipt = _receipt(project, model)
    if by_earlier:
        receipt += f"; for the requests that an earlier run answers, {by_earlier}"
    bad = f"{_after_bad_verdict(project)} Then " if found.bad_verdicts else ""
    return (
        f"{first}{bad}hand over the model with its receipt ({receipt}), and delete older models: they still know what was removed "
        f"(`expunge status --project {project.path}` lists them). `expunge export OUT --project {project.path}` writes the model in the "
        "form of the checkpoint that the project began with."
    )


def in_the_way(project: Project, *, waiting: bool = False) -> str:
    """Return which answered requests the latest model does not serve, and what to do first; empty if it serves all.

    Args:
        project: The project.
        waiting: Name requests that wait, too.
    """
    found = project.status()
    again = {r.number: f"request {r.number} was reopened in the ledger" for r in found.reopened}
    again |= {r.number: f"request {r.number} came back" for r in found.came_back}
    lacking = {
        r.number: f"request {r.number} is not proved (missing: {'; '.join(map(visible, r.missing))})"
        for r in found.not_proved
    }
    waits = {r.number: f"request {r.number} waits" for r in found.waiting} if waiting else {}
    if not (texts := {**again, **lacking, **waits}):
        return ""
    reasons = ", ".join(texts[number] for number in sorted(texts))
    run = f"`expunge forget --project {project.path} --pending`"
    steps = [f"answer {_it(again)} again with {run}"] if again else []
    if waits and not again:
        steps.append(f"answer {_it(waits)} with {run}")
    if lacking:
        steps.append(
            f"give what {_it(lacking)} lack{'s' * (len(lacking) == 1)} (`expunge ledger attach`), or change method or [settings] in "
            f"{project.path / 'expunge.toml'} and run {run}"
        )
    return f"do not hand over the model yet: {reasons}. First {'; then '.join(steps)}. Then "


def _it(some: Mapping[int, str]) -> str:
    return "it" if len(some) == 1 else "them"


def _after_bad_verdict(project: Project) -> str:
    change = "read the verdict. If the model is not good enough, change method or [settings] in expunge.toml"
    if not project.settings.reference:
        return f"{change} for later requests."
    return f"{change}, set max_gap below the gap of this run, and `expunge forget --project {project.path} --pending` runs it again."


def _earlier_receipts(project: Project, found: Answer, model: str) -> str:
    """Return the receipts of earlier runs that answer requests too, as words; empty for none."""
    files = [entry["file"] for entry in project.folder.state()["models"]]
    runs = sorted(
        {e.run for e in found.entries if (e.state == "done" and files[e.run] != model) or not found.outcomes}
    )
    return ", ".join(f"run {run} ({_receipt(project, files[run])})" for run in runs)


def _receipt(project: Project, model: str) -> str:
    return str((project.path / model).with_suffix(".receipt.json"))
