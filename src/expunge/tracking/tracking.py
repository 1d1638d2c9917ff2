"""Pass what happens in one run to its trackers, and keep their failures away from the run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..records.record import Record, plain, settings_of
from ..secret_text import without_secrets
from .tracker import Result, Tracker, Value

Row = dict[str, Any]


class Tracking:
    """One run and the trackers that watch it. Without trackers, all its methods do nothing.

    Args:
        trackers: The trackers.
    """

    def __init__(self, trackers: Iterable[Tracker] = ()):
        self.trackers = list(trackers)
        self.settings: dict[str, Value] = {}
        self.ended = ""
        self.scores: dict[str, float] = {}
        self.chosen: dict[str, Value] = {}
        self.outputs: dict[str, str] = {}
        # trials are runs one after the other, each of which counts its steps from 0
        self._trial, self._offset, self._last = 1, 0, -1

    def start(self, name: str, settings: Mapping[str, Any]) -> None:
        """Begin the run."""
        self.settings = flat(settings)
        self._tell("start", name, self.settings)

    def rows(self, on_row: Callable[[Row], None] | None = None) -> Callable[[Row], None] | None:
        """Return a function that passes a row of the curves to `on_row` and to the trackers."""
        if not self.trackers:
            return on_row

        def both(row: Row) -> None:
            if on_row is not None:
                on_row(row)
            self.row(row)

        return both

    def row(self, row: Row) -> None:
        """Pass the numbers of a row of the curves."""
        step = int(row["step"])
        if step <= self._last:
            self._trial, self._offset = self._trial + 1, self._offset + self._last + 1
        self._last = step
        values = {**numbers(row), **({"trial": self._trial} if self._trial > 1 else {})}
        values.pop("step", None)
        self._tell("log", self._offset + step, values)

    def take(self, ended: str, method: Any = None, scores: Mapping[str, Any] | None = None) -> None:
        """Take how the run ended, the method with the settings that it ran with, and the scores.

        The status of a run is not passed on: it may name samples.
        """
        self.ended = ended
        if method is not None:
            self._choose(settings_of(method))
        self.scores |= numbers(scores or {})

    def take_record(self, record: Record) -> None:
        """Take ending, settings and scores of a record."""
        self.take(str(record.ended), scores=record.scores)
        self._choose(record.settings)

    def wrote(self, **paths: Path | str | None) -> None:
        """Take the paths of outputs. Those that are None were not written."""
        self.outputs |= {name: str(path) for name, path in paths.items() if path is not None}

    def finish(self) -> None:
        """End the run."""
        result = Result(
            ended=self.ended or "finished", scores=self.scores, chosen=self.chosen, outputs=self.outputs
        )
        self._tell("finish", result)

    def _choose(self, settings: Mapping[str, Any]) -> None:
        values = flat({"settings": settings})
        self.chosen = {k: v for k, v in values.items() if self.settings.get(k) != v}

    def _tell(self, call: str, *arguments: Any) -> None:
        for tracker in list(self.trackers):
            try:
                # a tracker may change what it gets
                getattr(tracker, call)(*copy.deepcopy(arguments))
            # a tracker may raise anything, also the user's own; a library may end its process
            except (Exception, SystemExit) as error:
                self.trackers.remove(tracker)
                warnings.warn(
                    f"the tracker {type(tracker).__name__} failed and gets nothing more of this run: {type(error).__name__}: "
                    f"{without_secrets(str(error))}. The run goes on.",
                    RuntimeWarning,
                    stacklevel=3,
                )


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Value]:
    """Return nested settings as {dotted name: value}. Lists become text, and None is left out."""
    found: dict[str, Value] = {}
    for name, value in plain(dict(values)).items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            found[before + name] = ", ".join(map(str, value))
        elif value is not None:
            found[before + name] = value
    return found


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of nested scores as {dotted name: number}."""
    return {k: v for k, v in flat(values).items() if isinstance(v, int | float) and not isinstance(v, bool)}
