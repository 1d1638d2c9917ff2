"""What users read about a file with several models of one shape."""

from __future__ import annotations

from collections.abc import Sequence

# the entries in which Lightning's WeightAveraging and EMAWeightAveraging keep the average and the parameters of the last step
AVERAGE, LAST = "state_dict", "current_model_state"


def choice_notice(file: str, used: str, others: Sequence[str], listed: str) -> str:
    """Return which model of a file is used.

    Args:
        file: Name of the file.
        used: The entry that is used.
        others: The entries of the other models.
        listed: The same as a text.
    """
    of_lightning = (
        f" If a callback of Lightning averaged the parameters, `{AVERAGE}` is the average that its validation used, and {LAST} has those "
        "of the last step."
    )
    return (
        f"{file} holds {len(others) + 1} models of one shape: `{used}` is used, not {listed}; choose another with --ema KEY."
        + of_lightning * (used == AVERAGE and LAST in others)
    )
