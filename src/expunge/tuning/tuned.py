"""The result of trials, and what users read where none improves on the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..training.method import Method
from ..training.run import Run
from .search import ENOUGH, Trial


@dataclass(frozen=True, eq=False)
class Tuned:
    """Hold the result of `tune`.

    Args:
        trials: All trials, the best first.
        method: The method with the settings of the best trial.
        untouched: Distance of the original, in percentage points.
        run: Run of the best trial. None if an interrupted call made it, or if trials ran on a part of the forget set.
        margin: Sampling error of the distance for `count="auto"`, else 0. A smaller gain counts as none.
        in_order: All trials, the first one first.
        notes: What weakens the ranking, one sentence each.
    """

    trials: list[Trial]
    method: Method
    untouched: float
    run: Run | None
    margin: float = 0.0
    in_order: Sequence[Trial] = ()
    notes: Sequence[str] = ()

    @property
    def harmless(self) -> Trial:
        """The first trial that is hardly further from the target than the original.

        Where no trial improves on the original, their distances differ by chance, and the closest trial is the one that does
        least. The first trial has the method's own settings. Hardly means a point, or the sampling error if it is smaller. If
        all trials are further away, it is the closest one.
        """
        limit = self.untouched + min(self.margin, ENOUGH)
        return next((t for t in self.in_order if t.distance <= limit), self.trials[0])

    @property
    def improved(self) -> bool:
        """Whether the best trial is closer to the target than the original."""
        return self.trials[0].distance < self.untouched - self.margin


def collapsed_notes(trials: Sequence[Trial]) -> list[str]:
    """Return the note that trials collapsed and ended early, or nothing."""
    count = sum("collapsed" in t.status for t in trials)
    if not count:
        return []
    return [
        f"{count} of {len(trials)} trials collapsed and ended early: after the first epoch, accuracy on retained samples was as by chance."
    ]


def no_better_text(tuned: Tuned, taken: Trial | None = None) -> str:
    """Return the sentences that no trial improved on the original.

    Args:
        tuned: The trials.
        taken: The trial whose settings are used all the same. None if the original may be kept.
    """
    count, name = len(tuned.trials), tuned.method.name()
    needed = f" A gain below {tuned.margin:.2f} points is within the sampling error." if tuned.margin else ""
    if taken is not None:
        settings = ", ".join(f"{k}={v}" for k, v in taken.settings.items()) or "the settings of the method"
        start = (
            f"The only trial of {name} was not" if count == 1 else f"None of the {count} trials of {name} was"
        )
        return (
            f"{start} clearly better than the model before the run (estimated gap {tuned.untouched:.2f} points).{needed} The run "
            f"takes {settings} (estimated gap {taken.distance:.2f})."
        )
    start = (
        f"The only trial of {name} did not improve"
        if count == 1
        else f"None of the {count} trials of {name} improved"
    )
    return (
        f"{start} on the original model (estimated gap {tuned.untouched:.2f} points; best trial "
        f"{tuned.trials[0].distance:.2f}).{needed} Use more epochs, other settings or another method; trials=0 (--trials 0) runs "
        "the settings as they are."
    )
