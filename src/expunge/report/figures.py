"""The figures of one method: curves and confidence histograms, as lists of small panels. Empty without data.

All figures use the same code: orange, filled or thick for the unlearned model; blue and thin for Retrain; grey and
dashed for the original. Forgotten classes are hatched, forgotten samples are crosses. Each differs in shape as well
as in colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ..records.record import Record
from .group import Group
from .number_text import fixed
from .study import Study, has_accuracies
from .svg import Figure, Plot, short, spread_out, tick_text, ticks
from .values import number, numbers, table

MODELS = ("original", "unlearned", "retrained")
SETS = ("forget", "retain", "test")
# Width of a panel when three stand in a row.
THIRD = 248.0
# Class of each model in the style sheet.
STYLES = {"original": "o", "unlearned": "u", "retrained": "r"}


def distances(study: Study) -> Figure | None:
    """Draw the gap of each method with its spread on one scale, the closest first, the original last.

    The gap is the worse of average gap and feature gap.
    """
    groups = study.ranked
    if not groups:
        return None
    if study.original is not None and study.original.average is not None:
        groups = [*groups, study.original]
    rows = [(g, g.distance) for g in groups if g.distance is not None]
    measure = "worse of average and feature gap" if any(g.feature_gap for g, _ in rows) else "average gap"
    limit = max(a.mean + (a.spread or 0.0) for _, a in rows) * 1.05 or 1.0
    left = 24 + 6.2 * min(max(len(cut(g.label, 24)) for g, _ in rows), 24)
    plot = Plot((0, limit), (0, 1), height=50 + 26 * len(rows), left=left, right=40, top=8)
    bottom = plot.height - plot.bottom
    for value in ticks(0, limit, 4):
        plot.segment(plot.px(value), plot.top, plot.px(value), bottom, "grid")
        plot.text(plot.px(value), bottom + 15, fixed(value, 0 if limit > 4 else 1), anchor="middle")
    for i, (group, stat) in enumerate(rows):
        y, x = plot.top + 16 + 26 * i, plot.px(stat.mean)
        style = "o" if group.kind == "original" else "u"
        plot.text(left - 8, y + 4, cut(group.label, 24), "row best" if i == 0 else "row", "end")
        plot.segment(plot.px(0), y, x, y, f"stem {style}")
        if stat.spread:
            plot.segment(
                plot.px(max(stat.mean - stat.spread, 0)),
                y,
                plot.px(stat.mean + stat.spread),
                y,
                f"whisker {style}",
            )
        plot.parts.append(f'<circle class="dot {style}" cx="{short(x)}" cy="{short(y)}" r="5"/>')
        plot.text(
            plot.px(stat.mean + (stat.spread or 0)) + 9,
            y + 4,
            fixed(stat.mean, 2 if stat.mean < 10 else 1),
            "row value",
        )
    plot.segment(plot.px(0), plot.top, plot.px(0), bottom, "zero r")
    plot.text(0, plot.height - 3, f"{measure} in points; 0 is Retrain", "name")
    gaps = ", ".join(f"{g.label} {fixed(a.mean, 2)}" for g, a in rows)
    return Figure(plot.svg(f"{measure.capitalize()} to Retrain in points: {gaps}."), "Distance to retraining")


def cut(text: str, length: int) -> str:
    """Shorten a text to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def curves(record: Record, retrain: Group | None) -> list[Figure]:
    """Draw the loss, and the accuracy on forget and retain set, over the steps.

    Tasks without accuracy have a score of their own. A dotted line is the final accuracy of Retrain.
    """
    rows = [r for r in record.curves if number(r.get("step")) is not None]
    percent = has_accuracies(record)
    references = {}
    if percent and retrain is not None:
        ua, ra = retrain.score("UA"), retrain.score("RA")
        references = {
            k: v
            for k, v in (
                ("forget", 100 - ua.mean if ua else None),
                ("retain", ra.mean if ra else None),
            )
            if v is not None
        }
    unit = "accuracy, %" if percent else "score, higher is better"
    panels = [
        _curve(rows, ("loss",), "Loss of the method", "loss", {}),
        _curve(
            rows,
            ("forget", "retain"),
            "Forget and retain set",
            unit,
            references,
            (0.0, 100.0) if percent else None,
        ),
    ]
    return [panel for panel in panels if panel is not None]


def _points(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return (step, value) of each row that has both."""
    pairs = [(number(r.get("step")), number(r.get(name))) for r in rows]
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _curve(
    rows: Sequence[dict[str, Any]],
    names: Sequence[str],
    title: str,
    unit: str,
    references: dict[str, float],
    limits: tuple[float, float] | None = None,
) -> Figure | None:
    lines = {name: points for name in names if (points := _points(rows, name))}
    if not lines:
        return None
    steps = [s for points in lines.values() for s, _ in points]
    values = [v for points in lines.values() for _, v in points]
    low, high = limits or _padded(min(values), max(values))
    named = len(names) > 1
    plot = Plot(
        (min(steps), max(max(steps), min(steps) + 1)), (low, high), right=74 if named else 14, top=22, left=44
    )
    plot.axes(ticks(*plot.x, 4), ticks(low, high, 5), "step", unit)
    for name, value in references.items():
        if name in lines:
            plot.segment(plot.left, plot.py(value), plot.width - plot.right, plot.py(value), "ref r")
    labels = []
    for name, points in lines.items():
        style = "line u dashed" if name == "forget" else "line u"
        plot.line([s for s, _ in points], [v for _, v in points], style)
        if len(points) < 3:
            for s, v in points:
                plot.parts.append(
                    f'<circle class="dot u" cx="{short(plot.px(s))}" cy="{short(plot.py(v))}" r="3"/>'
                )
        if named:
            end = fixed(points[-1][1], 1) if limits else tick_text(float(f"{points[-1][1]:.2g}"))
            labels.append((plot.py(points[-1][1]), f"{name} {end}", "end u"))
    labels += [
        (plot.py(v), f"Retrain {fixed(v, 1)}", "end r") for name, v in references.items() if name in lines
    ]
    for y, text, style in spread_out(labels, 13, plot.top + 4, plot.height - plot.bottom):
        plot.text(plot.width - plot.right + 5, y + 3.5, text, style)
    ends = "; ".join(f"{n} from {fixed(p[0][1], 2)} to {fixed(p[-1][1], 2)}" for n, p in lines.items())
    return Figure(plot.svg(f"{title} over {short(max(steps))} steps: {ends}."), title)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or max(abs(high), 1.0) * 0.1
    return (0.0 if low >= 0 and low < 0.4 * high else low - room), high + room


def histograms(details: dict[str, Any], study: Study) -> list[Figure]:
    """Draw the confidence in the true class on forget, retain and test set, with the three models in each panel."""
    data = table(details.get("histograms"))
    edges = [e for e in numbers(data.get("bins")) if e is not None]
    if len(edges) < 2 or edges != sorted(edges):
        return []
    panels = [_histogram(name, edges, data, study.before) for name in SETS]
    return [panel for panel in panels if panel is not None]


def _histogram(name: str, edges: list[float], data: dict[str, Any], before: str) -> Figure | None:
    shares: dict[str, list[float]] = {}
    for model in MODELS:
        counts = [c for c in numbers(table(data.get(model)).get(name)) if c is not None and c >= 0]
        if len(counts) == len(edges) - 1 and sum(counts) > 0:
            shares[model] = [100 * c / sum(counts) for c in counts]
    if not shares:
        return None
    plot = Plot(
        (edges[0], edges[-1]), (0, 100), width=THIRD, height=170, top=22, left=26, right=8, ymap=math.sqrt
    )
    plot.axes(
        ticks(edges[0], edges[-1], 4),
        (0, 1, 5, 20, 50, 100),
        "confidence in the true class",
        "% of samples, square-root scale",
    )
    base = short(plot.py(0))
    for model in ("unlearned", "original", "retrained"):
        if model not in shares:
            continue
        path = (
            f"M{short(plot.px(edges[0]))} {base}"
            + "".join(
                f"V{short(plot.py(v))}H{short(plot.px(e))}"
                for v, e in zip(shares[model], edges[1:], strict=True)
            )
            + f"V{base}"
        )
        plot.parts.append(f'<path class="step {STYLES[model]}" d="{path}"/>')
    half = min(range(len(edges)), key=lambda i: abs(edges[i] - 0.5))
    confident = ", ".join(
        f"{before if m == 'original' else m} {fixed(sum(s[half:]))}\N{NO-BREAK SPACE}%"
        for m, s in shares.items()
    )
    note = f"Confidence above {edges[half]:g}: {confident}."
    return Figure(
        plot.svg(f"Confidence in the true class, {name} set. {note}"), f"{name.capitalize()} set", note
    )


def swatch(mark: str) -> Markup:
    """Draw a line or mark for the legend."""
    shapes = {
        "forgotten": '<rect class="bar u hatched" x="1" y="1" width="20" height="10"/>',
        "cross": '<path class="crosses" d="M7 2l8 8m-8 0l8-8"/>',
        "dot": '<path class="points k1 big" d="M11 6h0"/>',
        "u": '<rect class="step u" x="1" y="2" width="20" height="9"/>',
    }
    inner = shapes.get(mark, f'<path class="step {mark}" d="M1 6H21"/>')
    return Markup(f'<svg class="swatch" viewBox="0 0 22 12" aria-hidden="true">{inner}</svg>')
