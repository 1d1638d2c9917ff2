"""The words for a request whose run shows no effect: it is done, and its scores do not show that it is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import ExpungeError
from ..records.record import Record
from ..summaries import numbers_text
from .folder import MODELS

if TYPE_CHECKING:
    from .answered import Answer
    from .requests import ProjectRequest

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


def direction_without_effect(verdicts: Iterable[Iterable[str]]) -> Direction:
    """Return in which direction to change the settings of runs that show no effect. Empty if one of them forgot too much.

    Args:
        verdicts: The words of the verdict on each request.
    """
    return "" if any("over-forgotten" in words for words in verdicts) else "raise"


def verdicts_of(project: Path, requests: Iterable[ProjectRequest]) -> list[list[str]]:
    """Return the words of the verdicts on the runs that answered some requests. Records that are missing are left out.

    A request that shares the answer of another one shares its verdict.

    Args:
        project: The folder of the project.
        requests: The requests.
    """
    words: list[list[str]] = []
    own = {(request.run, request.request) for request in requests}
    for run in sorted({run for run, _ in own}):
        with suppress(ExpungeError):
            record = Record.load(project / MODELS / f"{run:04d}.json")
            entries = record.details.get("requests") or ()
            words += [e.get("verdict") or [] for e in entries if (run, e["request"]) in own]
    return words


def unshown_text(numbers: Sequence[int]) -> str:
    """Return that the scores of requests do not show that they are forgotten, as one line."""
    if len(numbers) == 1:
        return f"request {numbers[0]}: {NO_EFFECT}"
    return f"requests {numbers_text(numbers)}: the scores of their audits do not show that they are forgotten"


def remedy(project: object, settings: Iterable[str] = (), direction: Direction = "raise") -> str:
    """Return what a user can do about requests whose runs show no effect, step by step.

    Args:
        project: The folder of the project.
        settings: See `changes`.
        direction: See `direction_without_effect`.
    """
    return (
        f"first {changes(settings, direction)}; then reopen the request "
        f"(`expunge ledger attach {project}/ledger.db NUMBER --status open`), and then run `expunge forget --project {project} --pending`"
    )
