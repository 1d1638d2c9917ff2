"""Which settings of a method are tried next: its own first, then a coarse look at each field, then finer around the best.

How strongly a method forgets depends on its rate over decades, and the right decade on the data: a few values spread
evenly find it, and are too coarse to be the answer. So the later half of the trials goes to where the best of the earlier
ones says. Every method gets the same number of trials, and the same distances give the same trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..training.method import Method

COARSE = 2  # trials spread over the fields after the method's own settings, before the finer ones


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and their distance (points, smaller is better)."""

    settings: dict[str, Any]
    distance: float
    status: str
    seconds: float = 0.0  # of the run


Space = dict[str, list[Any]]


def space_of(method: Method, fixed: Collection[str] = ()) -> Space:
    """The values of each field that trials may take: its `search`, and the method's own; without the fields in `fixed`."""
    found: Space = {}
    for name, values in type(method).search.items():
        if name not in fixed:
            own = getattr(method, name)
            found[name] = list(values) if own in values else sorted([*values, own])
    return found


def following(
    method: Method, done: Sequence[Trial], count: int, fixed: Collection[str] = ()
) -> dict[str, Any] | None:
    """The settings to try after those in `done`, of `count` in all; None where everything was tried.

    First the method's own; then two that take the values of each field a quarter and three quarters along, in an order of
    their own for each field but the first; then, field by field, halfway between the best so far and its better
    neighbour, or outwards where the best is the outermost that was tried and the distance still falls towards it.
    """
    space = space_of(method, fixed)
    tried = [t.settings for t in done]
    if not done:
        return {name: getattr(method, name) for name in space}
    coarse = _coarse(space, tried[0], min(COARSE, count - 1))
    early = coarse[len(done) - 1 : len(done)]
    late = _finer(space, done, turn=len(done) - 1 - len(coarse)) if not early else ()
    every = (dict(zip(space, row, strict=True)) for row in itertools.product(*space.values()))
    return next((s for s in itertools.chain(early, late, every) if s not in tried), None)


def _coarse(space: Space, own: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """`count` settings that take each field's values, but for the method's own, evenly."""
    draw = np.random.RandomState(0)
    columns: list[list[Any]] = []
    for name, values in space.items():
        rest = [v for v in values if v != own[name]] or values
        even = [rest[int((k + 0.5) * len(rest) / count)] for k in range(count)]
        columns.append([even[k] for k in draw.permutation(count)] if columns else even)
    return [dict(zip(space, row, strict=True)) for row in zip(*columns, strict=True)]


def _finer(space: Space, done: Sequence[Trial], turn: int) -> Iterator[dict[str, Any]]:
    """Settings near the best so far, one field changed: the first field, and then the next one at each turn."""
    best = min(done, key=lambda t: t.distance)
    names = list(space)
    first = turn % len(names) if names else 0
    for name in names[first:] + names[:first]:
        values = space[name]
        for place in _places(
            values.index(best.settings[name]),
            len(values),
            {values.index(t.settings[name]): t.distance for t in sorted(done, key=lambda t: -t.distance)},
        ):
            yield {**best.settings, name: values[place]}


def _places(at: int, size: int, seen: dict[int, float]) -> list[int]:
    """Positions of `size` to look at next, the most promising first: `at` is the best, `seen` {position: distance}."""
    found = []
    for step in (-1, 1):
        beyond = sorted((k for k in seen if (k - at) * step > 0), key=lambda k: abs(k - at))
        if beyond:
            near = beyond[0]
            if abs(near - at) > 1:
                found.append((seen[near], (at + near) // 2))
        elif 0 <= at + step < size:  # nothing was tried out there: halfway to the end
            end = 0 if step < 0 else size - 1
            found.append((-1.0 if _falling(at, -step, seen) else np.inf, at + step * -(-abs(end - at) // 2)))
    return [place for _, place in sorted(found)]


def _falling(at: int, inwards: int, seen: dict[int, float]) -> bool:
    """Whether the distance falls towards the outermost position tried, `at`, about as fast as it did before it."""
    rest = sorted((k for k in seen if (k - at) * inwards > 0), key=lambda k: abs(k - at))
    if len(rest) < 2:
        return True
    line = [at, *rest[:2]]
    last, before = ((seen[b] - seen[a]) / abs(b - a) for a, b in itertools.pairwise(line))
    return last >= before / 2
