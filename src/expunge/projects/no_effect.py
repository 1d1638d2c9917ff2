"""The words for a request whose run shows no effect: it is done, and its scores do not show that it is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .answered import Answer

Direction = Literal["raise", "lower", ""]
# settings that make a run do more if they are raised, whatever the method
STEPS = ("lr", "epochs")
# {direction: parts of the sentences of `effect` for which it helps}
_MEASURED = {
    "raise": ("counts as nothing", "still recognises", "still tells its samples"),
    "lower": ("the run cost ", "points of test accuracy"),
}
NO_EFFECT = "the scores of its audit do not show that it is forgotten"


def not_shown(found: Answer) -> list[int]:
    """Return the numbers of the requests whose scores do not show that they are forgotten."""
    return [entry["number"] for entry in found.entries_of("requests") if entry["warning"]]


def changes(settings: Iterable[str] = (), direction: Direction = "") -> str:
    """Return which entries of `expunge.toml` to change, and in which direction, as far as it is known.

    Args:
        settings: The settings of the method that tuning varies, if they are known.
        direction: "raise" if the run did too little, "lower" if it did too much. Only `lr` and `epochs` have a direction.

    Example:
        >>> changes(["lr", "density"], "raise")
        'raise lr, or change density in [settings], or method, in expunge.toml'
    """
    names = list(settings)
    if not names:
        directed = f" ({direction} lr or epochs where the method has them)" if direction else ""
        return f"change method or [settings]{directed} in expunge.toml"
    steps = [name for name in names if name in STEPS] if direction else []
    others = ", ".join(name for name in names if name not in steps)
    parts = [f"{direction} {' or '.join(steps)}"] if steps else []
    parts += [f"change {others}"] if others else []
    return f"{', or '.join(parts)} in [settings], or {'' if others else 'change '}method, in expunge.toml"


def direction_of(reasons: Iterable[str]) -> Direction:
    """Return in which direction to change the settings after a run that answers no request, from what was measured.

    Empty if the reasons point both ways, or none points anywhere.

    Args:
        reasons: Why the run does not answer requests (`effect.failure`).
    """
    texts = list(reasons)
    found = {word for word, parts in _MEASURED.items() for t in texts if any(part in t for part in parts)}
    if found == {"raise"}:
        return "raise"
    return "lower" if found == {"lower"} else ""


def remedy(project: object, settings: Iterable[str] = ()) -> str:
    """Return what a user can do about a request whose run shows no effect, step by step.

    Args:
        project: The folder of the project.
        settings: See `changes`.
    """
    return (
        f"first {changes(settings, 'raise')}; then reopen the request (`expunge ledger attach {project}/ledger.db NUMBER --status open`), "
        f"and then run `expunge forget --project {project} --pending`"
    )
