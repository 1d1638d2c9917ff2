"""Watch a run with trackers, from its first step to its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..data.split import Split
from ..errors import UnlearningFailed
from ..records.record import settings_of
from ..tracking.by_name import TrackerLike, make_trackers
from ..tracking.tracking import Tracking
from .processes import is_first_process


@contextmanager
def tracked(tracker: TrackerLike, name: str, settings: Mapping[str, Any]) -> Iterator[Tracking]:
    """Tell trackers about the block: its settings before, and its result after it. Of several processes, only the first tells.

    Args:
        tracker: A tracker, its name, several of them, or None.
        name: What runs, for example "unlearn salun".
        settings: Settings of the run: see `run_settings`.

    Raises:
        ExpungeError: A name stands for no tracker.

    Example:
        >>> with tracked("tensorboard:runs", "unlearn salun", settings) as tracking:  # doctest: +SKIP
        ...     run = execute(model, split, method, task, on_row=tracking.rows())
        ...     tracking.take(run.ended)
    """
    trackers = make_trackers(tracker)
    tracking = Tracking(trackers if is_first_process() else [])
    tracking.start(name, settings)
    try:
        yield tracking
    except BaseException as error:
        tracking.ended = tracking.ended or _ending(error)
        raise
    finally:
        tracking.finish()


def _ending(error: BaseException) -> str:
    """Return how a run ended that raised an error before it said so."""
    if isinstance(error, UnlearningFailed):
        return str(error.run.ended)
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def run_settings(
    method: Any = None, split: Split | None = None, seed: int = 0, names: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what trackers get of a run: numbers and names of models, never ids, groups, classes or commands.

    Args:
        method: The method, or None.
        split: The split, or None. Its sizes are passed on, and not what is forgotten.
        seed: Seed of the run.
        names: {"model": ..., "data": ...}. Options of the data are left out.
    """
    settings: dict[str, Any] = {"seed": seed}
    if method is not None:
        settings |= {"method": method.name(), "settings": settings_of(method)}
    for key in ("model", "data"):
        if name := (names or {}).get(key):
            settings[key] = str(name).partition("?")[0]
    if split is not None:
        settings |= {"goal": split.goal, "scenario": split.scenario, "samples": split.sizes}
    return settings
