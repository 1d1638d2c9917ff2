"""What people see while a command runs: notes, progress, the table of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..receipts.limits import visible_lines
from ..records.record import Record
from .console import table_console
from .progress_line import LINE
from .table import earlier_table, measures_table, requests_table, result_table, table_2x2
from .table_notes import table_notes

if TYPE_CHECKING:
    from ..pipeline.outcome import Outcome
    from ..training.method import Method
    from ..tuning.search import Trial

OnRow = Callable[[dict[str, Any]], None]


def notice(text: str) -> None:
    """Print one line to the user, on stderr."""
    LINE.finish()
    print(f"note: {visible_lines(text)}", file=sys.stderr)


def show_records(records: Sequence[Record], limits: Sequence[str], page: Path | None) -> None:
    """Print the table of the records with its notes and the limits of the audit, and write the HTML report if `page` is given."""
    LINE.finish()
    console = table_console()
    console.print(result_table(records, width=console.width))
    for text in table_notes(records):
        print(visible_lines(text))
    if (extra := measures_table(records)) is not None:
        console.print(extra)
    for row in [r.details["table2x2"] for r in records if "table2x2" in r.details]:
        console.print(table_2x2(row))
    if records and (own := requests_table(records[-1])) is not None:
        console.print(own)
    if records and (earlier := earlier_table(records[-1])) is not None:
        console.print(earlier)
    for text in limits:
        notice(text)
    if page is not None:
        from ..report import write_report

        write_report(page, records)
        print(f"report: {page}")


def show_outcomes(outcomes: Sequence[Outcome | None], page: Path | None) -> None:
    """Show the outcomes that are not None, as `show_records` does. The limits are those of the last one."""
    finished = [outcome for outcome in outcomes if outcome is not None]
    audit = finished[-1].audit
    show_records([o.record for o in finished], audit.limits if audit is not None else [], page)


def came_back(record: Record) -> int:
    """Return the exit code of a run: 1 if its audit found that an earlier request came back, else 0."""
    return int(any(entry["came_back"] for entry in record.details.get("earlier_requests", ())))


def settings_line(trial: Trial) -> str:
    """Return the settings of a trial as one line."""
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in trial.settings.items())


def print_trials(count: int | str) -> Callable[[list[Trial]], None]:
    """Return a function that prints one line per trial, on stderr; of several processes, only the first prints."""
    from ..training.processes import is_first_process

    def on_trial(trials: list[Trial]) -> None:
        last = trials[-1]
        if is_first_process():
            of = "" if isinstance(count, str) else f" of {count}"
            failed = last.status.startswith(("diverged", "unchanged"))
            result = last.status if failed else f"estimated gap {last.gap_text}, from validation data"
            LINE.finish()
            print(
                f"trial {len(trials)}{of}: {settings_line(last)}: {result} ({last.seconds:.1f} s)",
                file=sys.stderr,
            )

    return on_trial


def progress(method: Method, label: str = "", adapts: bool = False) -> OnRow:
    """Return a function that prints the progress of a run on stderr; of several processes, only the first prints.

    Args:
        method: The method that runs; it knows its number of epochs.
        label: What runs; by default the name of the method.
        adapts: Whether trials choose the number of epochs, so that no total is shown.
    """
    from ..methods.retrain import Retrain
    from ..training.method import GradientMethod
    from ..training.processes import is_first_process

    if not is_first_process():
        return lambda row: None
    epochs = None if adapts else method.epochs if isinstance(method, GradientMethod) else 1
    total = "" if epochs is None else f"/{epochs}"
    sets = ("retain",) if isinstance(method, Retrain) else ("forget", "retain")

    def on_row(row: dict[str, Any]) -> None:
        values = ", ".join(f"{k} {'–' if row[k] is None else f'{row[k]:.3f}'}" for k in ("loss", *sets))
        LINE.show(
            label or method.name(),
            f" epoch {row['epoch']}{total} step {row['step']}: {values}",
            row["epoch"] == epochs,
        )

    return on_row


def print_row(row: dict[str, Any]) -> None:
    """Print one row of a generator's curves on stderr; of several processes, only the first prints."""
    from ..training.processes import is_first_process

    if not is_first_process():
        return
    values = [f"{k} –" if row[k] is None else f"{k} {row[k]:.4f}" for k in ("loss", "forget", "retain")]
    LINE.show("", f"epoch {row['epoch']} step {row['step']}: {', '.join(values)}")


def print_attack(what: str, step: int, percent: float, ended: bool) -> None:
    """Print how far a recovery attack is, on stderr."""
    LINE.show(what, f": step {step}, {percent:.0f} % of the images recognised", ended)


def print_progress(what: str, done: int, total: int) -> None:
    """Print how many of a run's parts, such as images, are done, on stderr."""
    LINE.show(what, f": {done} of {total}", done >= total)
