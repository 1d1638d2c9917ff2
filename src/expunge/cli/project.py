"""`expunge init`, `forget` and `status`: deletion requests in a project folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..days import is_day, read_day
from ..errors import ExpungeError, WriteError, raise_all
from ..receipts.limits import visible
from .checks import problems_of
from .invocation import command_line
from .project_answer import show_answer, show_not_answered
from .project_flags import ForgetFlags, InitFlags, entries_of
from .project_tables import on_requests, print_plan, print_requests, print_status_json
from .settings_flags import FLAT, REQUIRED
from .terminal import notice
from .track_flags import TRACK, TrackFlags

if TYPE_CHECKING:
    from ..projects.requests import ProjectRequest


def init(
    folder: Path,
    /,
    *,
    checkpoint: Annotated[Path, REQUIRED],
    history: Path | None = None,
    flags: Annotated[InitFlags, FLAT],
) -> None:
    """Make a project folder for deletion requests from a trained model.

    Args:
        folder: The folder to make. It must be missing or empty.
        checkpoint: The trained model. It is copied into the folder.
        history: File of the requests that the model has answered. By default the one beside the checkpoint.
        flags: The entries of `expunge.toml`.
    """
    from ..projects.folder import check_new
    from ..projects.project import Project
    from ..projects.setting_paths import fixed_paths
    from ..projects.settings import checked
    from ..records.checkpoint import read_checkpoint

    made: dict[str, Any] = {}
    # the checkpoint is read before the settings are refused, so that all problems are shown at once
    problems = problems_of(
        lambda: made.update(settings=checked(fixed_paths(entries_of(flags)), "init")),
        lambda: read_checkpoint(checkpoint, flags.ema),
        lambda: check_new(folder),
    )
    raise_all(problems)
    project = Project.create(folder, made["settings"], checkpoint, history, say=notice)
    print(f"project: {project.path}\nsettings: {project.path / 'expunge.toml'}")
    print(
        f"next: `expunge forget --project {project.path} --ids FILE --dry-run` shows what a request would do and cost (or --class, "
        "--group, --csv)."
    )


def forget(
    *,
    flags: Annotated[ForgetFlags, FLAT] = ForgetFlags(),
    classes: Annotated[tuple[str, ...], Parameter(name="--class")] = (),
    track: Annotated[TrackFlags, TRACK] = TrackFlags(),
) -> int:
    """Answer deletion requests in a project folder.

    Writes the next checkpoint, its record, receipt, request file and the report, and enters the requests in the ledger.
    Exit code 1 if the run does not answer one of several requests, if an open one cannot be answered, if one is not
    proved, or if an earlier request came back. Exit code 3 if the run answers none.

    Args:
        flags: What to forget.
        classes: Classes to forget, by name or number.
        track: Trackers of the run.
    """
    from ..days import utc_today
    from ..projects.answered import NotAnswered, NothingWaits, StillOpen
    from ..projects.project import Project

    requests = flags.requests(classes)
    project = Project(flags.project, wait=flags.wait_for, say=notice, tracker=track.track)
    if flags.wait:
        for entry in project.register(requests):
            samples = f"{entry.samples:,} sample{'' if entry.samples == 1 else 's'}"
            due = f"{entry.due}, already overdue" if entry.is_overdue(utc_today()) else entry.due
            print(f"request {entry.number} ({visible(entry.subject)}) waits, due {due}: {samples}")
        print(
            f"next: `expunge forget --project {project.path} --pending` answers all waiting requests in one run."
        )
        return 0
    try:
        if flags.dry_run:
            print_plan(project.plan(requests, pending=flags.pending))
            return 0
        found = project.answer(requests, pending=flags.pending, command=command_line())
    except KeyboardInterrupt:
        _print_interrupted(len(requests), flags.pending)
        raise
    except NothingWaits as nothing:
        # a nightly job with nothing to do has not failed
        print(nothing)
        return 0
    except StillOpen as left:
        for text in left.problems:
            print(f"error: {text}", file=sys.stderr)
        return 1
    except NotAnswered as failed:
        return show_not_answered(project, failed)
    except Exception as error:
        # wrong input is refused before anything is done, with --wait too
        if isinstance(error, WriteError) or not isinstance(error, ExpungeError):
            _print_interrupted(len(requests), flags.pending)
        raise
    return show_answer(project, found)


def _print_interrupted(new: int, pending: bool) -> None:
    """Say what is kept of an interrupted call. The project changes only when a run ends."""
    if pending:
        print("the requests that waited still wait; the next --pending starts the run anew.", file=sys.stderr)
    if new:
        which = "the request was" if new == 1 else f"the {new} new requests were"
        print(
            f"{which} not entered; with --wait, requests are entered first, and no interruption loses them.",
            file=sys.stderr,
        )


def status(
    *,
    project: Path = Path("."),
    today: str = "",
    full: bool = False,
    accept: bool = False,
    json: bool = False,
) -> int:
    """List the requests of a project, their states and drift.

    Exit code 1 if a request came back or is overdue, or if a file of the project is missing or was changed. Exit code 2 if
    `expunge.toml` is wrong.

    Args:
        project: The project folder.
        today: The day to compare due days with, as 2026-01-31. By default today (UTC).
        full: Also compare all files of earlier runs, and their models, with their receipts.
        accept: Accept `state.json` as it is, after a change by hand or of an earlier version. Compare it with the ledger first.
        json: Print one JSON object, for programs. Exit codes stay the same.
    """
    from ..projects.project import Project

    if today and not is_day(today):
        raise ExpungeError(f"--today is {today!r}; write a day as 2026-01-31.")
    if accept:
        Project(project, say=notice).accept()
    found = Project(project).status(read_day(today) if today else None, full=full)
    if json:
        print_status_json(found)
        return found.exit_code
    print_requests(found.listed, found.today)
    counts = {
        "waiting": found.waiting,
        "not proved": found.not_proved,
        "came back": found.came_back,
        "overdue": found.overdue,
        **({"reopened": found.reopened} if found.reopened else {}),
        **({"in ledger only": still} if (still := [r for r in found.in_ledger if r.is_open]) else {}),
    }
    listed = ", ".join(f"{name}: {len(some)}" for name, some in counts.items())
    print(f"model: {visible(found.model)}; {listed}")
    if old := found.old_models:
        print(
            f"older models: {_shown(old)}; they know what later requests removed: delete those that you do not need"
        )
    _print_remarks(found.requests, still, project)
    for text in (*found.problems, *found.wrong):
        print(f"error: {visible(text)}", file=sys.stderr)
    return found.exit_code


def _print_remarks(
    requests: Sequence[ProjectRequest], still: Sequence[ProjectRequest], project: Path
) -> None:
    """Print what is to be done about requests of a project, and `still` open ones that only the ledger has."""
    from ..projects.folder import LEDGER
    from ..projects.pending import what_to_do

    for request in still:
        print(visible(what_to_do(request, project / LEDGER)), file=sys.stderr)
    on_requests(
        (
            (r.number, "was reopened in the ledger: `expunge forget --pending` answers it again")
            for r in requests
            if r.is_reopened
        ),
        sys.stdout,
    )
    on_requests(_open_remarks(requests), sys.stderr)
    _print_not_shown([r for r in requests if r.not_shown and r.state == "done"], project)
    on_requests(((r.number, f": {r.gone}{_last_audit(r)}") for r in requests if r.gone), sys.stdout)


def _print_not_shown(not_shown: Sequence[ProjectRequest], project: Path) -> None:
    from ..projects.no_effect import direction_without_effect, remedy, unshown_text, verdicts_of

    if len(not_shown) == 1:
        print(f"request {not_shown[0].number}: {_not_shown(not_shown[0])}")
    elif not_shown:
        print(f"{unshown_text([r.number for r in not_shown])} (UA and MIA above)")
    if not_shown:
        direction = direction_without_effect(verdicts_of(project, not_shown))
        print(f"to answer such a request better: {remedy(project, direction=direction)}")


def _open_remarks(requests: Sequence[ProjectRequest]) -> Iterator[tuple[int, str]]:
    """Yield number and remark of requests that are open or not proved."""
    from ..projects.words import for_project

    for request in requests:
        if request.is_open and request.reason:
            ending = "came back" if request.state == "came back" else "is open"
            # a reason in a file of an earlier version may name flags
            yield request.number, f"{ending}: {for_project(request.reason)}"
        if request.missing:
            yield request.number, f"is not proved. Missing: {'; '.join(request.missing)}"


def _not_shown(request: ProjectRequest) -> str:
    from ..projects.no_effect import NO_EFFECT

    scores = ", ".join(f"{name} {value:.1f}" for name, value in request.then.items())
    return f"{NO_EFFECT} ({scores})"


def _last_audit(request: ProjectRequest) -> str:
    return f"; its last audit followed run {request.audited}" if request.audited else ""


def _shown(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return visible(", ".join(names[:most]) + more)
