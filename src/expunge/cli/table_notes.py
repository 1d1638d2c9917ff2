"""The lines under the result table: how sure the estimates are, what the search cost, and what the run changed."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.record import Record, used_trial


def table_notes(records: Sequence[Record]) -> list[str]:
    """Return the lines under a table of these records. They start with the method if several methods are in it."""
    runs = [record for record in records if record.kind == "unlearn"]
    several = len({record.method for record in runs}) > 1
    return [(f"{r.method}: " if several else "") + text for r in runs for text in _of_run(r)]


def no_gain(record: Record) -> str:
    """Return that the settings of a run did not improve on the original by the estimate that chose them; empty if they did."""
    trials, used, untouched = (
        record.details.get("trials", []),
        used_trial(record),
        record.details.get("trials_untouched"),
    )
    if used is None or untouched is None or trials[used]["distance"] < untouched:
        return ""
    return f"The original's was {untouched:.2f} points: by its own estimate, this model is no better than the original."


def _of_run(record: Record) -> list[str]:
    # here, because the help of a command does not import torch
    from ..data.likeness import Target
    from ..tuning.search import Trial

    lines = []
    trials = [Trial(**entry) for entry in record.details.get("trials") or ()]
    used = used_trial(record)
    if used is not None and record.ended != "diverged":
        worse = f" {text}" if (text := no_gain(record)) else ""
        lines.append(f"The chosen settings had an estimated gap of {trials[used].gap_text}.{worse}")
    if len(trials) > 1:
        seconds = sum(trial.seconds for trial in trials)
        lines.append(
            f"RTE is the one run that made the model. The {len(trials)} trials together took {seconds:.1f} s."
        )
    target = record.details.get("stop_target") or {"percent": 0.0}
    # the status of a run that it stopped says the same
    if target.get("samples") is not None and record.ended != "stopped":
        lines.append(f"The stop rule ends a run at a forget accuracy of {Target(**target)}.")
    return [*lines, *record.details.get("changes", ())]
