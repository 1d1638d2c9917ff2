"""What users read where no trial improves on the original model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .search import Trial

if TYPE_CHECKING:
    from .trials import Tuned


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
