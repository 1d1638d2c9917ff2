"""The flags of `expunge init` and `expunge forget`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from ..days import is_day
from ..errors import ExpungeError, raise_all
from ..projects.entries import Entries
from .checks import problems_of
from .field_help import field_help
from .settings_flags import REQUIRED, with_help

if TYPE_CHECKING:
    from ..projects.wanted import Wanted


def _init_flags() -> type:
    """Return a dataclass with a flag for each entry of `expunge.toml`. A table is given as NAME=VALUE pairs."""
    flags: list[Any] = []
    for name, entry in Entries.model_fields.items():
        default = entry.get_default(call_default_factory=True)
        text, form, several = field_help(Entries, name), entry.annotation, isinstance(default, dict | list)
        if several:
            form, default = tuple[str, ...], ()
            text = f"{text} Write NAME=VALUE." if name in TABLES else text
        shown = Parameter(help=text)
        shown = Parameter.combine(shown, REQUIRED) if entry.is_required() else shown
        annotation: Any = Annotated[form, shown]  # type: ignore[valid-type]
        flags.append(
            (name, annotation) if entry.is_required() else (name, annotation, field(default=default))
        )
    return make_dataclass(
        "InitFlags",
        flags,
        frozen=True,
        kw_only=True,
        namespace={"__module__": __name__, "__doc__": Entries.__doc__},
    )


# entries that are tables
TABLES = ("settings", "recipe", "compute")
if TYPE_CHECKING:
    InitFlags: TypeAlias = Any
else:
    InitFlags = _init_flags()


def entries_of(flags: InitFlags) -> dict[str, Any]:
    """Return the entries of `expunge.toml` that flags stand for. Raises `ExpungeError` for pairs that are none."""
    from ..models.preparation import prepared_spec

    values = {f.name: getattr(flags, f.name) for f in fields(flags)}
    # a project keeps how the model expects its images
    problems = problems_of(lambda: values.update(data=prepared_spec(values["data"], values["model"])))
    for name in TABLES:
        values[name] = _pairs(name, values[name], problems)
    raise_all(problems)
    values |= {name: list(values[name]) for name in ("measures", "modules")}
    return values


@with_help
@dataclass(frozen=True, kw_only=True)
class ForgetFlags:
    """What one call of `expunge forget` asks for.

    Args:
        ids: Text file with the ids to forget, one per line.
        group: Group to forget: COLUMN=VALUE.
        csv: CSV file with a column of ids, and optionally the columns subject, due and received. Each subject is a request.
        id_column: Column of the ids in the CSV file.
        goal: Remove the influence of the samples (untrain) or the ability (unlearn). By default unlearn for classes.
        subject: Reference to the person, for the ledger. Do not use the name.
        due: Day by which the request must be answered, as 2026-01-31. By default days of expunge.toml after it came.
        received: Day on which the request came, as 2026-01-31. By default today (UTC).
        pending: Answer all open requests in one run: those that wait or came back, and those that are not proved if the settings
            have changed since. It takes no request of its own.
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
    received: str = ""
    pending: bool = False
    wait: bool = False
    dry_run: bool = False
    project: Path = Path(".")
    wait_for: float = 0.0

    def requests(self, classes: tuple[str, ...]) -> list[Wanted]:
        """Return the requests that the flags name. Raises `ExpungeError` with every problem."""
        from ..data.id_file import read_ids
        from ..projects.request_csv import read_csv
        from ..projects.wanted import Wanted

        given = {"--ids": self.ids, "--class": classes, "--group": self.group, "--csv": self.csv}
        named = [flag for flag, value in given.items() if value not in (None, (), "")]
        problems = self._pending_problems(named) if self.pending else []
        if len(named) > 1 or (not named and not self.pending):
            problems.append(f"{len(named)} of {', '.join(given)} are given; give exactly one, or --pending.")
        if self.wait and self.dry_run:
            problems.append(
                "--wait only enters a request, and --dry-run changes no file; leave one of them out."
            )
        if self.id_column != "id" and self.csv is None and not self.pending:
            problems.append("--id-column names a column of --csv, which is not given; leave it out.")
        problems += [
            f"--{name} is {getattr(self, name)!r}; write a day as 2026-01-31."
            for name in ("due", "received")
            if getattr(self, name) and not is_day(getattr(self, name))
        ]
        raise_all(problems)
        common: dict[str, Any] = {"subject": self.subject, "due": self.due, "received": self.received}
        if self.csv is not None:
            return read_csv(self.csv, self.id_column, goal=self.goal, **common)
        if not named:
            return []
        ids = tuple(read_ids(self.ids, pipe=True)) if self.ids is not None else ()
        if self.ids is not None and not ids:
            raise ExpungeError(f"{self.ids} names no id; give one id per line.")
        return [Wanted(ids=ids, classes=classes, group=self.group, goal=self.goal, **common)]

    def _pending_problems(self, named: Sequence[str]) -> list[str]:
        """Return which flags have no meaning beside --pending, one sentence each."""
        of_request = {
            "--goal": self.goal,
            "--subject": self.subject,
            "--due": self.due,
            "--received": self.received,
            "--id-column": self.id_column if self.id_column != "id" else None,
        }
        given = [*named, *(flag for flag, value in of_request.items() if value)]
        problems = [
            f"{flag} describes a new request, and --pending answers those that were entered before; leave it out, or enter the new "
            "request first with --wait."
            for flag in given
        ]
        if self.wait:
            problems.append("--pending answers requests, and --wait only enters one; leave one of them out.")
        return problems


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
