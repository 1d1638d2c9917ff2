"""What people see while a command runs: notes, progress, the table of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..receipts.limits import visible_lines
from ..records.record import Record
from .console import table_console
from .table import earlier_table, measures_table, requests_table, result_table, table_2x2
from .table_notes import table_notes

if TYPE_CHECKING:
    from ..pipeline.outcome import Outcome
    from ..training.method import Method
    from ..tuning.search import Trial

OnRow = Callable[[dict[str, Any]], None]


def notice(text: str) -> None:
    """Print one line to the user, on stderr."""
    print(f"note: {visible_lines(text)}", file=sys.stderr)


def show_records(records: Sequence[Record], limits: Sequence[str], page: Path | None) -> None:
    """Print the table of the records with its notes and the limits of the audit, and write the HTML report if `page` is given."""
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
            print(
                f"trial {len(trials)}{of}: {settings_line(last)}: {result} ({last.seconds:.1f} s)",
                file=sys.stderr,
            )

    return on_trial


def progress(method: Method, label: str = "", adapts: bool = False) -> OnRow:
    """Return a function that prints the progress of a run on stderr; of several processes, only the first prints.

    A terminal gets one line that changes, a log one line per epoch.

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
    total = "" if adapts else f"/{method.epochs if isinstance(method, GradientMethod) else 1}"
    sets = ("retain",) if isinstance(method, Retrain) else ("forget", "retain")

    def on_row(row: dict[str, Any]) -> None:
        values = ", ".join(f"{k} {'–' if row[k] is None else f'{row[k]:.3f}'}" for k in ("loss", *sets))
        print(
            f"\r{label or method.name()} epoch {row['epoch']}{total} step {row['step']}: {values}   ",
            end="" if sys.stderr.isatty() else "\n",
            file=sys.stderr,
            flush=True,
        )

    return on_row


def print_row(row: dict[str, Any]) -> None:
    """Print one row of a generator's curves on stderr; of several processes, only the first prints."""
    from ..training.processes import is_first_process

    if not is_first_process():
        return
    values = [f"{k} –" if row[k] is None else f"{k} {row[k]:.4f}" for k in ("loss", "forget", "retain")]
    print(f"epoch {row['epoch']} step {row['step']}: {', '.join(values)}", file=sys.stderr, flush=True)


def print_attack(what: str, step: int, percent: float, ended: bool) -> None:
    """Print how far a recovery attack is, on stderr. A terminal gets one line that changes, a log one line when the attack ends."""
    in_place = sys.stderr.isatty()
    if in_place or ended:
        text = f"{what}: step {step}, {percent:.0f} % of the images recognised"
        start, end = ("\r", "\n" if ended else "") if in_place else ("", "\n")
        # a shorter text must cover the one before it
        print(f"{start}{text:<79}" if in_place else text, end=end, file=sys.stderr, flush=True)


def print_progress(what: str, done: int, total: int) -> None:
    """Print how many of a run's images are made, on stderr. A terminal gets one line that changes, a log one line per batch."""
    in_place = sys.stderr.isatty()
    start, end = "\r" if in_place else "", "" if in_place and done < total else "\n"
    print(f"{start}{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)
