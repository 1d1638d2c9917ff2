"""Penultimate features in two dimensions, one panel per model."""

from __future__ import annotations

from typing import Any, TypeAlias

from .figures import MODELS, THIRD, cut
from .study import Study
from .svg import Figure, Plot, short
from .values import numbers, table

# x, y, class, set
Point: TypeAlias = tuple[float, float, Any, Any]


def features(details: dict[str, Any], study: Study) -> list[Figure]:
    """Draw one panel per model. Crosses are forgotten samples and dots all others; classes are named."""
    data = table(details.get("embedding"))
    labels, sets = data.get("label"), data.get("set")
    labels = labels if isinstance(labels, list) else []
    sets = sets if isinstance(sets, list) else [None] * len(labels)
    panels = []
    for model in MODELS:
        xs, ys = numbers(table(data.get(model)).get("x")), numbers(table(data.get(model)).get("y"))
        if labels and len(xs) == len(ys) == len(labels) == len(sets):
            points = [
                (x, y, c, s)
                for x, y, c, s in zip(xs, ys, labels, sets, strict=True)
                if x is not None and y is not None
            ]
            if points:
                panels.append(_scatter(model, points, study))
    return panels


def _scatter(model: str, points: list[Point], study: Study) -> Figure:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    plot = Plot(
        _padded_limits(xs), _padded_limits(ys), width=THIRD, height=210, left=4, right=4, top=4, bottom=4
    )
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
    _names(plot, points, classes, study)
    counts = f"{len(points)} samples in two dimensions, {len(crosses)} of them from the forget set"
    title = study.before if model == "original" else f"{model} model"
    return Figure(
        plot.svg(f"Penultimate features of the {title}: {counts}."), title.removesuffix(" model").capitalize()
    )


def _names(plot: Plot, points: list[Point], classes: list[int], study: Study) -> None:
    """Write the name of each class at the median of its points, or above them if forgotten. Names do not overlap."""
    placed: list[tuple[float, float, float]] = []
    for c in sorted(classes, key=lambda c: c not in study.forgotten) if len(classes) <= 12 else []:
        crosses = c in study.forgotten and any(k == c and s == "forget" for _, _, k, s in points)
        pixels = [
            (plot.px(x), plot.py(y)) for x, y, k, s in points if k == c and (s == "forget" or not crosses)
        ]
        across, down = (sorted(v) for v in zip(*pixels, strict=True))
        name = cut(study.class_name(c).removeprefix("class "), 12)
        half = 3.3 * len(name) + 2
        x = min(max(across[len(pixels) // 2], half + 2), plot.width - half - 2)
        middle = down[len(pixels) // 20] - 9 if crosses else down[len(pixels) // 2] + 4
        # Further from its own points, a name would seem to belong to other points.
        for y in (middle, middle + 12, middle - 12):
            free = all(abs(x - a) >= half + reach or abs(y - b) >= 12 for a, b, reach in placed)
            if free and 12 <= y <= plot.height - 5:
                placed.append((x, y, half))
                plot.text(x, y, name, "tag", "middle")
                break


def _padded_limits(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or 1.0
    return low - room, high + room
