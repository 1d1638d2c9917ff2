"""`expunge init`, `forget` and `status`: deletion requests in a project folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..errors import ExpungeError, raise_all
from ..receipts.limits import visible
from .checks import problems_of
from .invocation import command_line
from .settings_flags import FLAT, with_help
from .terminal import notice, show_records

if TYPE_CHECKING:
    from ..projects.plan import Plan
    from ..projects.requests import ProjectRequest
    from ..projects.wanted import Wanted


@with_help
@dataclass(frozen=True, kw_only=True)
class InitFlags:
    """The entries of `expunge.toml`.

    Args:
        data: The data: digits, fashion-mnist:DIR, cifar10:DIR, folder:DIR, text:FILE, npz:FILE or
            package.module:factory. Options follow a '?': see docs/data.md.
        model: The model: a built-in name such as cnn or resnet18, hf-config:DIR, hf-weights:DIR or package.module:factory.
        device: Where the model is: cpu, cuda, cuda:1 or mps.
        ema: Entry of the checkpoint that holds the model, if the file holds several.
        validation: Share of each class that the model was not trained on. Give 0 if it was trained on all samples.
        split_seed: Seed of the validation set.
        copies: Copies of forget samples: include exact ones in the forget set, only report them, or ignore. By default include
            for ids and groups, and report for classes.
        seed: Seed of everything random in a run.
        method: Method that answers requests.
        settings: Settings of the method, as NAME=VALUE.
        reference: Retrain a model without the union of all requests for every audit. It costs a training each time.
        recipe: Training recipe of the reference, as NAME=VALUE.
        rehearse: Let each run also work on the samples of earlier requests.
        max_gap: Largest average gap to the reference, in percentage points, at which `forget` exits with 0.
        measures: Extra measures of each audit.
        compute: How the arithmetic is done, as NAME=VALUE.
        days: Days in which a request must be answered, if it names no due day.
        sign_key: Private key that signs receipts.
        passphrase_file: File whose first line opens the key.
    """

    data: str
    model: str
    device: str = "cpu"
    ema: str | None = None
    validation: float = 0.1
    split_seed: int = 0
    copies: Literal["include", "report", "ignore"] | None = None
    seed: int = 0
    method: str = "salun"
    settings: tuple[str, ...] = ()
    reference: bool = False
    recipe: tuple[str, ...] = ()
    rehearse: bool = False
    max_gap: float | None = None
    measures: tuple[str, ...] = ()
    compute: tuple[str, ...] = ()
    days: int = 28
    sign_key: str | None = None
    passphrase_file: str | None = None

    def entries(self) -> dict[str, Any]:
        """Return the entries of `expunge.toml`."""
        values = dict(vars(self))
        problems: list[str] = []
        for name in ("settings", "recipe", "compute"):
            values[name] = _pairs(name, values[name], problems)
        raise_all(problems)
        values["measures"] = list(self.measures)
        return values


@with_help
@dataclass(frozen=True, kw_only=True)
class ForgetFlags:
    """What one call of `expunge forget` asks for.

    Args:
        ids: Text file with the ids to forget, one per line.
        group: Group to forget: COLUMN=VALUE.
        csv: CSV file with a column of ids, and optionally the columns subject and due. Each subject is a request.
        id_column: Column of the ids in the CSV file.
        goal: Remove the influence of the samples (untrain) or the ability (unlearn). By default unlearn for classes.
        subject: Reference to the person, for the ledger. Do not use the name.
        due: Day by which the request must be answered, as 2026-01-31.
        pending: Answer all waiting requests in one run, and those that came back.
        wait: Only enter the request. It waits for `expunge forget --pending`.
        dry_run: Print the plan with estimated seconds, memory and disk space. No file is changed.
        project: The project folder.
        wait_for: Seconds to wait for another command that works in the folder.
    """

    ids: Path | None = None
    group: str = ""
    csv: Path | None = None
    id_column: str = "id"
    goal: Literal["untrain", "unlearn"] | None = None
    subject: str = ""
    due: str = ""
    pending: bool = False
    wait: bool = False
    dry_run: bool = False
    project: Path = Path(".")
    wait_for: float = 0.0

    def requests(self, classes: tuple[str, ...]) -> list[Wanted]:
        """Return the requests that the flags name. Raises `ExpungeError` with every problem."""
        from ..data.forget_set import read_ids
        from ..projects.wanted import Wanted, read_csv

        given = {"--ids": self.ids, "--class": classes, "--group": self.group, "--csv": self.csv}
        named = [flag for flag, value in given.items() if value not in (None, (), "")]
        problems = []
        if len(named) > 1 or (not named and not self.pending):
            problems.append(f"{len(named)} of {', '.join(given)} are given; give exactly one, or --pending.")
        if self.wait and (self.pending or self.dry_run):
            problems.append("--wait only enters a request; leave --pending and --dry-run out.")
        if self.due and not _is_day(self.due):
            problems.append(f"--due is {self.due!r}; write a day as 2026-01-31.")
        raise_all(problems)
        common: dict[str, Any] = {"subject": self.subject, "due": self.due}
        if self.csv is not None:
            return read_csv(self.csv, self.id_column, **common)
        if not named:
            return []
        ids = tuple(read_ids(self.ids)) if self.ids is not None else ()
        if self.ids is not None and not ids:
            raise ExpungeError(f"{self.ids} names no id; give one id per line.")
        return [Wanted(ids=ids, classes=classes, group=self.group, goal=self.goal, **common)]


def init(
    folder: Path,
    /,
    *,
    checkpoint: Path,
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
    from ..projects.settings import checked, fixed_paths
    from ..records.checkpoint import read_checkpoint

    made: dict[str, Any] = {}
    # the checkpoint is read before the settings are refused, so that all problems are shown at once
    problems = problems_of(
        lambda: made.update(settings=checked(fixed_paths(flags.entries()), "init")),
        lambda: read_checkpoint(checkpoint, flags.ema),
        lambda: check_new(folder),
    )
    raise_all(problems)
    project = Project.create(folder, made["settings"], checkpoint, history)
    print(f"project: {project.path}\nsettings: {project.path / 'expunge.toml'}")


def forget(
    *,
    flags: Annotated[ForgetFlags, FLAT] = ForgetFlags(),
    classes: Annotated[tuple[str, ...], Parameter(name="--class")] = (),
) -> int:
    """Answer deletion requests in a project folder.

    Writes the next checkpoint, its record, receipt, request file and the report, and enters the requests in the ledger.
    Exit code 1 if an earlier request came back, or if the average gap exceeds max_gap. Exit code 3 if the run has no result.

    Args:
        flags: What to forget.
        classes: Classes to forget, by name or number.
    """
    from ..projects.project import Project

    requests = flags.requests(classes)
    project = Project(flags.project, wait=flags.wait_for, say=notice)
    if flags.dry_run:
        _print_plan(project.plan(requests, pending=flags.pending))
        return 0
    if flags.wait:
        for entry in project.register(requests):
            print(f"request {entry.number} waits, due {entry.due}: {entry.samples:,} samples")
        return 0
    found = project.answer(requests, pending=flags.pending, command=command_line())
    if not found.outcomes:
        return 0
    limits = found.outcome.audit.limits if found.outcome.audit is not None else []
    show_records([o.record for o in found.outcomes], limits, None)
    state = project.status()
    print(f"model: {project.path / state.model}\nreport: {project.path / 'report.html'}")
    gap, most = found.scores.get("gap"), project.settings.max_gap
    too_far = most is not None and (not gap or gap["avg"] > most)
    if too_far:
        print(f"the average gap is not within max_gap {most:g}", file=sys.stderr)
    return 1 if found.came_back or too_far else 0


def status(*, project: Path = Path("."), today: str = "", full: bool = False) -> int:
    """List the requests of a project, their states and drift.

    Exit code 1 if a request came back or is overdue, or if a file of the project is missing or was changed.

    Args:
        project: The project folder.
        today: The day to compare due days with, as 2026-01-31. By default today (UTC).
        full: Also compare all files of earlier runs, and their models, with their receipts.
    """
    from ..projects.project import Project

    if today and not _is_day(today):
        raise ExpungeError(f"--today is {today!r}; write a day as 2026-01-31.")
    found = Project(project).status(date.fromisoformat(today) if today else None, full=full)
    _print_requests(found.requests, found.today)
    counts = {"waiting": found.waiting, "overdue": found.overdue, "came back": found.came_back}
    print(
        f"model: {visible(found.model)}; "
        + ", ".join(f"{name}: {len(some)}" for name, some in counts.items())
    )
    if old := found.old_models:
        print(
            f"older models: {_shown(old)}; they know what later requests removed: delete those that you do not need"
        )
    for request in found.came_back:
        print(f"request {request.number} came back: {visible(request.reason)}", file=sys.stderr)
    for text in found.problems:
        print(f"error: {visible(text)}", file=sys.stderr)
    return found.exit_code


def _print_requests(requests: Sequence[ProjectRequest], today: date) -> None:
    table = Table("no.", "subject", "asks for", "samples", Column("due", no_wrap=True), "state", "UA", "MIA")
    for r in requests:
        state = f"{r.state}, overdue" if r.is_overdue(today) else r.state
        scores = [
            f"{r.then[k]:.1f} -> {r.now[k]:.1f}" if k in r.then and k in r.now else "" for k in ("UA", "MIA")
        ]
        cells = (str(r.number), r.subject, r.kind, f"{r.samples:,}", r.due, state, *scores)
        # brackets would be taken for markup
        table.add_row(*(escape(visible(cell)) for cell in cells))
    Console().print(table)


def _print_plan(plan: Plan) -> None:
    each = ", ".join(f"{n:,}" for n in plan.samples)
    lines = {
        "requests": f"{len(plan.samples)} ({each} samples), {plan.forget:,} different samples to forget",
        "retained samples": f"{plan.retain:,} (earlier requests removed {plan.earlier:,})",
        "copies": " ".join(plan.copies) or "none found",
        "method": plan.method,
        "estimated seconds": "unknown: the method has no training loop"
        if plan.seconds is None
        else f"{plan.seconds:.1f} for {plan.steps:,} steps, without mask and audit",
        "estimated memory": "unknown" if plan.memory is None else f"{plan.memory / 1e6:,.0f} MB",
        "disk space": f"{plan.disk / 1e6:,.1f} MB needed, {plan.free / 1e6:,.0f} MB free",
        "retraining": f"{plan.retrain_seconds:.1f} seconds"
        + (", which is cheaper than the method" if plan.retraining_is_cheaper else ""),
    }
    print("\n".join(f"{name}: {text}" for name, text in lines.items()))


def _shown(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return visible(", ".join(names[:most]) + more)


def _pairs(name: str, pairs: Sequence[str], problems: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs. A value is a number, true or false where it reads like one, else a text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            problems.append(f"--{name} is '{pair}'; write NAME=VALUE.")
            continue
        try:
            values[key.replace("-", "_")] = json.loads(text)
        except ValueError:
            values[key.replace("-", "_")] = text
    return values


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
