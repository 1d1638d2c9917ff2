"""`expunge init`, `expunge forget`, `expunge status`: a folder that keeps every deletion request honoured."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..data.forget_set import read_ids
from ..errors import ExpungeError, raise_all
from ..projects.project import Project
from ..projects.settings import FILE, checked
from ..projects.state import ProjectRequest
from ..records.record import Record
from .invocation import command_line
from .settings_flags import FLAT, with_help
from .terminal import came_back, notice, show_records


@with_help
@dataclass(frozen=True, kw_only=True)
class InitFlags:
    """The settings of a new project. Every flag is a key of expunge.toml.

    Args:
        data: The data, as for `expunge unlearn`.
        model: The model, as for `expunge unlearn`.
        checkpoint: The trained model, .safetensors or .pt. It is copied into the folder.
        device: Where the model is.
        method: The method for all requests.
        set: A setting of the method, as lr=0.01. Can be repeated.
        recipe: A field of the training recipe, as epochs=20, with which retraining is compared. Can be repeated.
        compute: How the arithmetic is done, as amp=bf16. Can be repeated.
        validation: Share of each class that the model was not trained on. 0 if it saw all samples.
        split_seed: Seed of the validation draw.
        seed: Seed of the runs.
        rehearse: Forget the samples of earlier requests again in every run.
        tolerance: Points by which an earlier request may be recognised better than allowed.
        days: Days to answer a request in.
        sign_key: Private key that signs the receipts.
        passphrase_file: File whose first line opens the key.
    """

    data: str
    model: str
    checkpoint: Path
    device: str = "cpu"
    method: str = "salun"
    set: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    compute: tuple[str, ...] = ()
    validation: float = 0.0
    split_seed: int = 0
    seed: int = 0
    rehearse: bool = False
    tolerance: float = 2.0
    days: int = 28
    sign_key: Path | None = None
    passphrase_file: Path | None = None

    def values(self) -> dict[str, Any]:
        """Return the tables of expunge.toml. Raises `ExpungeError` for a setting without a value."""
        problems: list[str] = []
        pairs = {
            name: _pairs(getattr(self, name), f"--{name}", problems) for name in ("set", "recipe", "compute")
        }
        raise_all(problems)
        return {
            "model": {
                "data": self.data,
                "model": self.model,
                "device": self.device,
                "checkpoint": str(self.checkpoint.absolute()),
            },
            "split": {"validation": self.validation, "split_seed": self.split_seed},
            "method": {
                "name": self.method,
                "seed": self.seed,
                "rehearse": self.rehearse,
                "settings": pairs["set"],
            },
            "recipe": pairs["recipe"],
            "compute": pairs["compute"],
            "limits": {"tolerance": self.tolerance, "days": self.days},
            "keys": {
                "sign_key": _absolute(self.sign_key),
                "passphrase_file": _absolute(self.passphrase_file),
            },
        }


@with_help
@dataclass(frozen=True, kw_only=True)
class ForgetFlags:
    """What a request names, and what is done with it.

    Args:
        ids: Text file with the ids to forget, one per line.
        classes: Classes to forget, by name or number.
        group: Group to forget: COLUMN=VALUE. Can be repeated for one column. A comma belongs to the value.
        csv: CSV file with the columns id, and optionally subject and due. Each subject is a request of its own.
        pending: Answer all waiting requests.
        later: Only enter the request. `--pending` answers it.
        dry_run: Print the plan, with estimated time, memory and disk space, and change nothing.
        subject: A reference to the person. Do not use the name.
        due: Day by which the request must be answered, as 2026-01-31.
        project: The project folder.
        wait: Seconds to wait if another command works in the folder.
    """

    ids: Path | None = None
    classes: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    csv: Path | None = None
    pending: bool = False
    later: bool = False
    dry_run: bool = False
    subject: str = ""
    due: str = ""
    project: Path = Path()
    wait: float = 0.0

    def requests(self) -> list[dict[str, Any]]:
        """Return the arguments of `Project.forget` for each request. Raises `ExpungeError` with every problem."""
        given = [name for name in ("ids", "classes", "group", "csv", "pending") if getattr(self, name)]
        if len(given) != 1:
            flags = ", ".join(f"--{name}" for name in ("ids", "classes", "group", "csv", "pending"))
            raise ExpungeError(f"{len(given)} of {flags} are given; give exactly one.")
        shared = {"subject": self.subject, "due": self.due}
        if self.pending and (self.subject or self.due or self.later):
            raise ExpungeError(
                "--pending answers requests that are entered already; leave out --subject, --due and --later."
            )
        if self.ids is not None:
            return [{"ids": read_ids(self.ids), **shared}]
        if self.classes:
            return [{"classes": self.classes, **shared}]
        if self.group:
            return [{"group": _group(self.group), **shared}]
        return _rows(self.csv, shared) if self.csv is not None else []


def init(folder: Path, /, *, flags: Annotated[InitFlags, FLAT]) -> None:
    """Make a project folder for a trained model, in which deletion requests are answered.

    All problems of settings, data and checkpoint are reported at once. Nothing is written then.

    Args:
        folder: The folder to make.
        flags: The settings.
    """
    if not flags.checkpoint.is_file():
        raise ExpungeError(
            f"--checkpoint {flags.checkpoint} is no file; give the checkpoint of the trained model."
        )
    project = Project.create(folder, checked(flags.values(), "the flags"))
    print(f"project: {project.folder}\nsettings: {project.folder / FILE}")
    print(f"next: expunge forget --project {folder} --ids FILE --subject REFERENCE --dry-run")


def forget(*, flags: Annotated[ForgetFlags, FLAT] = ForgetFlags()) -> int:
    """Answer a deletion request in a project folder: run, audit, receipt, ledger entry, checkpoint, report.

    Exit code 1 if the audit finds that an earlier request came back.

    Args:
        flags: The request.
    """
    wanted = flags.requests()
    project = Project(flags.project, wait=flags.wait)
    if flags.dry_run:
        waiting = [r for r in project.requests if r.status == "waiting"] if flags.pending else None
        plans = [project.plan(waiting)] if flags.pending else [project.plan(**what) for what in wanted]
        print("\n\n".join("\n".join(plan.lines()) for plan in plans))
        return 0
    for what in wanted if flags.later or len(wanted) > 1 else []:
        request = project.add(**what)
        print(f"request {request.number} waits: {request.text}, due {request.due}")
    if flags.later:
        return 0
    if flags.pending or len(wanted) > 1:
        records = project.forget_pending(command=command_line())
        if not records:
            print("no request waits")
    else:
        records = [project.forget(**wanted[0], command=command_line())]
    return max((_show(project, record) for record in records), default=0)


def status(*, project: Path = Path(), wait: float = 0.0) -> int:
    """List the requests of a project folder: due days, states, and scores then and now.

    Exit code 1 if a request is overdue or came back.

    Args:
        project: The project folder.
        wait: Seconds to wait if another command works in the folder.
    """
    opened = Project(project, wait=wait)
    state, today = opened.state, datetime.now(UTC).date()
    table = Table(
        Column("request", justify="right"), "subject", "forgets", "due", "state", Column("UA", justify="right"),
        Column("MIA", justify="right"), title=f"{len(state.requests)} requests, latest model {state.models[-1]}",
        caption="percent; in brackets the change since the request's own audit",
    )  # fmt: skip
    bad = 0
    for request in state.requests:
        overdue = (
            request.status == "waiting" and bool(request.due) and date.fromisoformat(request.due) < today
        )
        back = bool(request.now.get("came_back"))
        bad += overdue or back
        shown = "came back" if back else "overdue" if overdue else request.status
        table.add_row(
            str(request.number), escape(_printable(request.subject)), escape(_printable(request.text)), request.due, shown,
            *(_score(request, name) for name in ("UA", "MIA")),
        )  # fmt: skip
    Console().print(table)
    return int(bad > 0)


def _show(project: Project, record: Record) -> int:
    """Print the result of a run, and return its exit code."""
    state = project.state
    show_records([record], record.details.get("limits", []), None)
    print(
        f"checkpoint: {project.folder / 'models' / state.models[-1]}\nreport: {project.folder / 'report.html'}"
    )
    if code := came_back(record):
        notice("an earlier request came back; `expunge status` says which.")
        return code
    return 0


def _score(request: ProjectRequest, name: str) -> str:
    then, now = request.scores.get(name), request.now.get(name)
    if then is None:
        return "–"
    return f"{then:.1f}" if now is None else f"{now:.1f} ({now - then:+.1f})"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _absolute(path: Path | None) -> str:
    return "" if path is None else str(path.absolute())


def _pairs(texts: tuple[str, ...], flag: str, problems: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE texts as a table. A value is a number, true, false, or text."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            problems.append(f"{flag} is '{text}'; write NAME=VALUE.")
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _group(texts: tuple[str, ...]) -> tuple[str, list[str]]:
    parts = [text.partition("=") for text in texts]
    problems = [
        f"--group is '{t}'; write COLUMN=VALUE."
        for t, (c, e, _) in zip(texts, parts, strict=True)
        if not (c and e)
    ]
    if len(columns := {c for c, _, _ in parts}) > 1:
        problems.append(f"--group names the columns {', '.join(sorted(columns))}; give values of one column.")
    raise_all(problems)
    return parts[0][0], [value for _, _, value in parts]


def _rows(path: Path, shared: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests of a CSV file, one per subject. Raises `ExpungeError` with every problem of the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExpungeError(f"{path} cannot be read as CSV: {error}; give a file with a column id.") from error
    unknown = [c for c in columns if c not in ("id", "subject", "due")]
    problems = [] if "id" in columns else [f"{path} has no column id; it has {', '.join(columns) or 'none'}."]
    problems += (
        [f"{path} has the unknown columns {', '.join(unknown)}; allowed are id, subject and due."]
        if unknown
        else []
    )
    problems += [f"{path}, row {at}: it has another number of cells than the header; quote cells with commas."
                 for at, row in enumerate(rows, 2) if None in row or None in row.values()]  # fmt: skip
    problems += [
        f"{path}, row {at}: the id is empty; give one."
        for at, row in enumerate(rows, 2)
        if row.get("id") == ""
    ]
    raise_all(problems)
    requests: dict[str, dict[str, Any]] = {}
    for row in rows:
        subject = row.get("subject") or shared["subject"]
        request = requests.setdefault(
            subject, {"ids": [], "subject": subject, "due": row.get("due") or shared["due"]}
        )
        request["ids"].append(row["id"])
        if row.get("due") and row["due"] != request["due"]:
            problems.append(
                f"{path}: {subject} has the due days {request['due']} and {row['due']}; give one."
            )
    raise_all([*dict.fromkeys(problems)] if requests else [f"{path} has no row; give at least one id."])
    return list(requests.values())
