"""The lines on the trials of a run: which settings were chosen, and whether they improved on the original."""

from __future__ import annotations

from ..pipeline.outcome import Outcome
from ..records.record import Record
from ..tuning.search import AUTO, Trial
from .table_notes import no_gain
from .terminal import notice, settings_line


def print_chosen(outcome: Outcome, asked: int | str) -> None:
    """Print the settings of the best trial. `asked` is the number of trials that the user gave."""
    trials = outcome.record.details.get("trials")
    if trials and not outcome.run.kept_original:
        all_tried = "" if asked in (len(trials), AUTO) else " (there are no more to try)"
        none = ", none better than the original" if no_gain(outcome.record) else ""
        of = f"the best of {len(trials)} trials" if len(trials) > 1 else "the only trial"
        print(f"settings, {of}{all_tried}{none}: {settings_line(Trial(**trials[0]))}")


def note_no_gain(record: Record) -> None:
    """Say at the very end that the model is no better than the original, where trials could not prevent it."""
    if no_gain(record):
        notice(
            "the trials estimate that the written model is no better than the original: use more epochs, other settings or another "
            "method, or --trials auto, which keeps the original then."
        )
