"""The protocol of a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

# what a tracker gets of a setting
Value = int | float | bool | str


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended.

    Args:
        ended: "finished", "stopped", "diverged", "unchanged" or "worse", as in a record; "failed" after an error, and
            "interrupted" after Ctrl-C.
        scores: {name: score}, for example "UA" in percent, or "gap.avg" in percentage points.
        chosen: Settings that trials chose, where they differ from those of `start`.
        outputs: {what: path} of files that the run wrote, for example "checkpoint".
    """

    ended: str
    scores: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def named_scores(self) -> dict[str, float]:
        """The scores as {"score.NAME": score}."""
        return {f"score.{name}": value for name, value in self.scores.items()}

    @property
    def named_texts(self) -> dict[str, Value]:
        """Ending, chosen settings and paths, as "ended", "chosen.NAME" and "output.WHAT"."""
        return {
            "ended": self.ended,
            **{f"chosen.{name}": value for name, value in self.chosen.items()},
            **{f"output.{what}": path for what, path in self.outputs.items()},
        }

    @property
    def succeeded(self) -> bool:
        """Whether the run has a result."""
        return self.ended in ("finished", "stopped", "worse")


@runtime_checkable
class Tracker(Protocol):
    """What a tracker does. One object serves one run at a time; `start` begins a new one.

    An exception of a tracker never ends a run, `SystemExit` included: it costs one warning, and the tracker gets no further call.

    Example:
        >>> class Printer:
        ...     def start(self, name, settings): print(name, settings)
        ...     def log(self, step, values): print(step, values)
        ...     def finish(self, result): print(result.ended, result.scores)
        >>> unlearn(model, split, "salun", task, tracker=Printer())  # doctest: +SKIP
    """

    def start(self, name: str, settings: Mapping[str, Value]) -> None:
        """Begin a run.

        Args:
            name: What runs, for example "unlearn salun".
            settings: {name: value} of method, model, data and split. They contain no ids of samples.
        """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take figures of the run.

        Args:
            step: Number of optimizer steps so far. It grows also from one trial to the next.
            values: For example epoch, loss, forget and retain.
        """

    def finish(self, result: Result) -> None:
        """End the run."""
