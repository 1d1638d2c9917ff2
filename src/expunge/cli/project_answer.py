"""The last lines of `expunge forget`: what became of each request, where the files are, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..receipts.limits import visible
from .exit_codes import NO_RESULT
from .terminal import notice, show_records

if TYPE_CHECKING:
    from ..pipeline.outcome import Outcome
    from ..projects.answered import Answer, NotAnswered
    from ..projects.requests import ProjectRequest

# a `Project`, which is not imported here: it would be one more level of imports
Project: TypeAlias = Any


def show_answer(project: Project, found: Answer) -> int:
    """Print what a run did, and return the exit code."""
    if found.outcomes:
        limits = found.outcome.audit.limits if found.outcome.audit is not None else []
        show_records([o.record for o in found.outcomes], limits, None)
    failed = [f"the run does not answer a request: {text}" for text in found.failures.values()]
    for text in found.warnings:
        notice(text)
    for text in [*failed, *found.not_proved]:
        print(f"error: {visible(text)}", file=sys.stderr)
    if found.outcomes:
        _show_loss(project, found.outcomes)
    _show_requests(found.entries)
    model = _latest_model(project)
    print(f"model: {project.path / model}\nreport: {project.path / 'report.html'}")
    failures = bool(found.skipped or failed or found.not_proved or found.came_back)
    print(f"next: {_next_step(project, found, model)}")
    return 1 if failures else 0


def show_not_answered(project: Project, error: NotAnswered) -> int:
    """Print why a run answers no request, and return the exit code."""
    show_records([o.record for o in error.outcomes], [], None)
    for text in error.problems:
        print(f"error: {visible(text)}", file=sys.stderr)
    _show_loss(project, error.outcomes)
    _show_requests(error.entries)
    print(f"model: {project.path / _latest_model(project)}, as it was")
    print(f"next: {_again(project)}")
    return NO_RESULT


def _latest_model(project: Project) -> str:
    return str(project.folder.state()["models"][-1]["file"])


def _show_requests(entries: Sequence[ProjectRequest]) -> None:
    for entry in entries:
        print(f"request {entry.number} ({visible(entry.subject)}): {visible(entry.shown_state)}")


def _show_loss(project: Project, outcomes: Sequence[Outcome]) -> None:
    """Print the test accuracy before and after the run, and its limit."""
    before, after = (outcomes[k].record.scores.get("TA") for k in (0, -1))
    if before is None or after is None:
        return
    limit = project.settings.max_loss
    print(
        f"test accuracy: {before:.1f} % before the run, {after:.1f} % after it ({after - before:+.1f} points; max_loss is {limit:g})"
    )


def _again(project: Project) -> str:
    return (
        f"change method or [settings] in {project.path / 'expunge.toml'}, then run `expunge forget --project {project.path} "
        "--pending`."
    )


def _next_step(project: Project, found: Answer, model: str) -> str:
    if found.failures or found.came_back:
        return _again(project)
    if found.not_proved:
        return f"give what is missing, or {_again(project)}"
    if found.skipped:
        return "restore the missing samples in the data, or refuse or withdraw these requests in the ledger."
    receipt = (project.path / model).with_suffix(".receipt.json")
    return (
        f"hand over the model with its receipt ({receipt}), and delete older models: they still know what was removed "
        f"(`expunge status --project {project.path}` lists them)."
    )
