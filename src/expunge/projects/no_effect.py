"""The words for a request whose run shows no effect: it is done, and its scores do not show that it is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answered import Answer

NO_EFFECT = "the scores of its audit do not show that it is forgotten"


def not_shown(found: Answer) -> list[int]:
    """Return the numbers of the requests whose scores do not show that they are forgotten."""
    return [entry["number"] for entry in found.entries_of("requests") if entry["warning"]]


def changes(settings: Iterable[str] = ()) -> str:
    """Return which entries of `expunge.toml` to change: the settings of the method that tuning varies, if they are known.

    Example:
        >>> changes(["lr", "epochs"])
        'change lr, epochs in [settings], or method, in expunge.toml'
    """
    names = ", ".join(settings)
    return (
        f"change {f'{names} in [settings], or method,' if names else 'method or [settings]'} in expunge.toml"
    )


def remedy(project: object, settings: Iterable[str] = ()) -> str:
    """Return what a user can do about such a request.

    Args:
        project: The folder of the project.
        settings: See `changes`.
    """
    return (
        f"{changes(settings)}; reopen the request (`expunge ledger attach {project}/ledger.db NUMBER --status open`), "
        f"and run `expunge forget --project {project} --pending`"
    )
