"""Penultimate features in two dimensions, a panel per model."""

from __future__ import annotations

from typing import Any

from .figures import MODELS, THIRD, cut
from .study import Study
from .svg import Figure, Plot, short
from .values import numbers, table


def features(details: dict[str, Any], study: Study) -> list[Figure]:
    """A panel per model; crosses are forgotten samples, dots all others, classes are named."""
    data = table(details.get("embedding"))
    labels, sets = data.get("label"), data.get("set")
    labels = labels if isinstance(labels, list) else []
    sets = sets if isinstance(sets, list) else [None] * len(labels)
    found = []
    for model in MODELS:
        xs, ys = numbers(table(data.get(model)).get("x")), numbers(table(data.get(model)).get("y"))
        if labels and len(xs) == len(ys) == len(labels) == len(sets):
            points = [
                (x, y, c, s)
                for x, y, c, s in zip(xs, ys, labels, sets, strict=True)
                if x is not None and y is not None
            ]
            if points:
                found.append(_scatter(model, points, study))
    return found


def _scatter(model: str, points: list[tuple[float, float, Any, Any]], study: Study) -> Figure:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    plot = Plot(_wide(xs), _wide(ys), width=THIRD, height=210, left=4, right=4, top=4, bottom=4)
    plot.parts.append(
        f'<rect class="frame" x="1" y="1" width="{short(plot.width - 2)}" height="{short(plot.height - 2)}"/>'
    )
    classes = sorted({p[2] for p in points if isinstance(p[2], int)})
    crosses = [p for p in points if p[3] == "forget"]
    for c in classes:
        dots = "".join(
            f"M{short(plot.px(x))} {short(plot.py(y))}h0" for x, y, k, s in points if k == c and s != "forget"
        )
        if dots:
            plot.parts.append(f'<path class="points k{c % 10}" d="{dots}"/>')
    marks = "".join(
        f"M{short(plot.px(x) - 2.5)} {short(plot.py(y) - 2.5)}l5 5m-5 0l5-5" for x, y, _, _ in crosses
    )
    if marks:
        plot.parts.append(f'<path class="crosses" d="{marks}"/>')
    if len(classes) <= 12:
        for c in classes:
            own = [(plot.px(x), plot.py(y)) for x, y, k, _ in points if k == c]
            across, down = (sorted(v) for v in zip(*own, strict=True))
            x, y = across[len(own) // 2], down[len(own) // 2]
            if c in study.forgotten:  # above its crosses, which would hide it
                y = down[len(own) // 20] - 11
            name = study.class_name(c).removeprefix("class ")
            plot.text(
                min(max(x, 24), plot.width - 24),
                min(max(y + 4, 14), plot.height - 6),
                cut(name, 12),
                "tag",
                "middle",
            )
    words = f"{len(points)} samples in two dimensions, {len(crosses)} of them from the forget set"
    return Figure(plot.svg(f"Penultimate features of the {model} model: {words}."), model.capitalize())


def _wide(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or 1.0
    return low - room, high + room
