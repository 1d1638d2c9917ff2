"""Decide which settings of a method to try next: its own, then a coarse search, then a finer one around the best.

How strongly a method forgets depends on its learning rate over orders of magnitude, and the right order of magnitude
depends on the data. A few evenly spread values find it, but they are too coarse to be the answer. So the later trials
search near the best of the earlier ones. Every method gets the same number of trials, and the same distances give the
same trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ..data.likeness import FEW, count_text, few_text
from ..training.method import Method

# ratio of usual learning rates of SGD (0.1) and Adam (1e-3)
ADAM_TO_SGD = 100.0
# number of coarse trials, between the method's own settings and the finer trials
COARSE = 2
# an estimated gap, in percentage points, that ends the search
ENOUGH = 1.0

# how trials are ranked: by validation data, or by the gap to a retrained model
By = Literal["validation", "gap"]


@dataclass(frozen=True)
class Trial:
    """Hold settings that were tried and their result.

    Args:
        settings: The values of the searched fields.
        distance: Distance from Retrain's scores in percentage points; smaller is better.
        status: Status of the run.
        seconds: Duration of the run in seconds.
        error: Standard error of the distance in percentage points, as far as it comes from the number of unseen samples; 0
            where the target is known.
        unseen: Number of comparable unseen samples that the target is estimated from; None where it is known.
    """

    settings: dict[str, Any]
    distance: float
    status: str
    seconds: float = 0.0
    error: float = 0.0
    unseen: int | None = None

    @property
    def gap_text(self) -> str:
        """The distance with its standard error and the number of samples behind it."""
        if self.unseen is None:
            return f"{self.distance:.2f} points"
        return f"{self.distance:.2f} ± {self.error:.1f} points ({count_text(self.unseen)})"


@dataclass(frozen=True)
class Objective:
    """Hold the distance that ranks trials.

    Args:
        distance: Returns the distance of a model in percentage points.
        margin: Sampling error (95 %) below which a gain counts as none; 0 for a fixed number of trials.
        error: Standard error of the distance that comes from few comparable samples, in percentage points.
        unseen: Number of comparable unseen samples behind the distance. None if the target is known.
    """

    distance: Callable[[Any], float]
    margin: float = 0.0
    error: float = 0.0
    unseen: int | None = None

    @property
    def notes(self) -> list[str]:
        """The warning that few samples are comparable, or nothing."""
        return [] if self.unseen is None or self.unseen >= FEW else [few_text(self.unseen)]


Space = dict[str, list[Any]]

AUTO: Literal["auto"] = "auto"
# how many settings are tried; None, 0 and 1 take the settings as they are
Count: TypeAlias = int | Literal["auto"] | None


def tries(count: Count) -> bool:
    """Return whether a number of trials asks for any: None, 0 and 1 take the settings as they are."""
    return count not in (None, 0, 1)


def count_for(method: Method | type[Method] | str, count: Count, kind: str = "unlearn") -> Count:
    """Return the number of trials for a method as a caller named it.

    "auto" chooses settings for a name or a class. An instance has the settings that its caller chose, so it runs with them.
    """
    return None if count == AUTO and (isinstance(method, Method) or kind != "unlearn") else count


def rate_factor(method: Method) -> float:
    """Return the factor on the learning rates of a method for an optimizer that is not its own.

    A step of Adam changes each parameter by about the learning rate, whatever the gradient, so SGD's rates are too large for it.

    Example:
        >>> from expunge import SalUn
        >>> rate_factor(SalUn()), rate_factor(SalUn(optimizer="adamw"))
        (1.0, 0.01)
    """
    used, own = getattr(method, "optimizer", ""), getattr(type(method), "optimizer", "")
    if (used == "sgd") == (own == "sgd"):
        return 1.0
    return 1 / ADAM_TO_SGD if own == "sgd" else ADAM_TO_SGD


def search_space(method: Method, fixed: Collection[str] = ()) -> Space:
    """Return the values that trials may give each field: those of `search` and the method's own.

    Args:
        method: The method with its own settings.
        fixed: Names of fields to leave out.
    """
    space, factor = Space(), rate_factor(method)
    for name, values in type(method).search.items():
        if name not in fixed:
            if name == "lr" and factor != 1:
                values = tuple(float(f"{v * factor:.3g}") for v in values)
            own_value = getattr(method, name)
            space[name] = list(values) if own_value in values else sorted([*values, own_value])
    return space


def next_settings(
    method: Method, done: Sequence[Trial], count: int, fixed: Collection[str] = ()
) -> dict[str, Any] | None:
    """Return the settings to try next, or None if all settings were tried.

    - The first trial uses the method's own settings.
    - Two coarse trials take the values at a quarter and at three quarters of each field's list. All fields except the
      first take them in a shuffled order.
    - Later trials change one field at a time. They go halfway from the best value to its better neighbour. If the best
      value is the outermost one tried and the distance still falls toward it, they go outwards.

    Args:
        method: The method with its own settings.
        done: The trials so far.
        count: Number of trials in all.
        fixed: Names of fields that trials do not change.
    """
    space = search_space(method, fixed)
    tried = [t.settings for t in done]
    if not done:
        return {name: getattr(method, name) for name in space}
    coarse = _coarse(space, tried[0], min(COARSE, count - 1))
    early = coarse[len(done) - 1 : len(done)]
    late = _finer(space, done, turn=len(done) - 1 - len(coarse)) if not early else ()
    every = (dict(zip(space, row, strict=True)) for row in itertools.product(*space.values()))
    return next((s for s in itertools.chain(early, late, every) if s not in tried), None)


def _coarse(space: Space, own: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return `count` settings that spread evenly over each field's values, without the method's own."""
    draw = np.random.RandomState(0)
    columns: list[list[Any]] = []
    for name, values in space.items():
        others = [v for v in values if v != own[name]] or values
        even = [others[int((k + 0.5) * len(others) / count)] for k in range(count)]
        columns.append([even[k] for k in draw.permutation(count)] if columns else even)
    return [dict(zip(space, row, strict=True)) for row in zip(*columns, strict=True)]


def _finer(space: Space, done: Sequence[Trial], turn: int) -> Iterator[dict[str, Any]]:
    """Yield settings near the best so far that differ from it in one field. Each turn begins with the next field."""
    best = min(done, key=lambda t: t.distance)
    names = list(space)
    first = turn % len(names) if names else 0
    for name in names[first:] + names[:first]:
        values = space[name]
        # a position that was tried several times counts with its smallest distance, which is written last
        distances = {
            values.index(t.settings[name]): t.distance for t in sorted(done, key=lambda t: -t.distance)
        }
        for position in _positions(values.index(best.settings[name]), len(values), distances):
            yield {**best.settings, name: values[position]}


def _positions(best: int, size: int, distances: dict[int, float]) -> list[int]:
    """Return the next positions to try in a list of values, the most promising first.

    Args:
        best: Position of the best value so far.
        size: Length of the list.
        distances: Distance at each position that was tried.
    """
    ranked = []
    for step in (-1, 1):
        beyond = sorted((k for k in distances if (k - best) * step > 0), key=lambda k: abs(k - best))
        if beyond:
            neighbour = beyond[0]
            if abs(neighbour - best) > 1:
                ranked.append((distances[neighbour], (best + neighbour) // 2))
        elif 0 <= best + step < size:
            # nothing was tried on this side: go halfway to the end
            end = 0 if step < 0 else size - 1
            rank = -1.0 if _falls_toward(best, -step, distances) else np.inf
            ranked.append((rank, best + step * -(-abs(end - best) // 2)))
    return [position for _, position in sorted(ranked)]


def _falls_toward(outermost: int, inwards: int, distances: dict[int, float]) -> bool:
    """Return whether the distance falls toward the outermost position tried at least half as fast as before it."""
    inner = sorted((k for k in distances if (k - outermost) * inwards > 0), key=lambda k: abs(k - outermost))
    if len(inner) < 2:
        return True
    line = [outermost, *inner[:2]]
    last, before = ((distances[b] - distances[a]) / abs(b - a) for a, b in itertools.pairwise(line))
    return last >= before / 2
