"""Draw the figures of the results page: the average gap against seconds, varied settings, and forget set size.

They are drawn as the figures of the report are, so there is one chart system. matplotlib would bring eight packages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..records.atomic_files import write_text
from ..records.statistics import Stat, stat
from ..report.svg import Plot, short, spread_out, ticks
from .results import Entry

# {axis: {method: {value: gaps}}}
Panels = dict[str, dict[str, dict[float, list[float]]]]

GAP = "average gap to Retrain (points)"
COLOURS = ("#b5532a", "#2f6f9f", "#4d8a3d", "#8a5fb0", "#a8861f", "#b84a78", "#3f8f8a", "#7b6a58")
STYLE = (
    "text{font:11px sans-serif;fill:#666}.grid{stroke:#8884}.line{fill:none;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#aaa}}"
    + "".join(f".k{n}{{stroke:{c}}}.f{n},text.f{n}{{fill:{c}}}" for n, c in enumerate(COLOURS))
)
# Gaps below this are drawn here, because the axis is logarithmic.
LEAST = 1e-2


def plot_gap_by_seconds(groups: Sequence[list[Entry]], path: Path) -> None:
    """Draw the mean average gap of each method against its mean RTE. Both axes are logarithmic.

    Args:
        groups: The entries of each method of one split. Entries of a group differ in their seed.
        path: The SVG file to write.
    """
    points: list[tuple[str, float, Stat]] = []
    for group in groups:
        # a run beside a retrained model that is not comparable has no gap
        group = [e for e in group if e["scores"].get("gap")]
        if not group or group[0]["kind"] != "unlearn":
            continue
        seconds, gap = stat(e["seconds"] for e in group), stat(e["scores"]["gap"]["avg"] for e in group)
        assert seconds is not None and gap is not None
        points.append((group[0]["label"], max(seconds.mean, 1e-3), replace(gap, mean=max(gap.mean, LEAST))))
    heights = [g.mean + k * (g.spread or 0) for *_, g in points for k in (0, 1)]
    plot = Plot(
        _around([p[1] for p in points]),
        _around(heights),
        width=700,
        height=420,
        right=90,
        top=24,
        xmap=math.log10,
        ymap=math.log10,
    )
    plot.axes(_powers(*plot.x), _powers(*plot.y), "RTE (seconds)", GAP)
    for label, time, gap in points:
        _dot(plot, time, gap, 0)
        plot.text(plot.px(time) + 6, plot.py(gap.mean) - 4, label)
    _write([plot], path)


def plot_gap_by_varied(entries: Sequence[Entry], path: Path) -> list[str]:
    """Draw the average gap against each number that the grid varies, such as density, in one panel each.

    Args:
        entries: Entries of one split.
        path: The SVG file to write.

    Returns:
        The settings that were drawn. A setting needs three or more values. Empty if no file was written.
    """
    panels: Panels = {}
    for e in entries:
        gap = (e["scores"].get("gap") or {}).get("avg")
        for axis, value in (e.get("vary") or {}).items():
            if gap is not None and isinstance(value, int | float) and not isinstance(value, bool):
                line = e["label"].replace(f", {axis} {value}", "")
                panels.setdefault(axis, {}).setdefault(line, {}).setdefault(value, []).append(gap)
    return _panels({axis: lines for axis, lines in panels.items() if max(map(len, lines.values())) > 2}, path)


def plot_gap_by_size(entries: Sequence[Entry], path: Path) -> list[str]:
    """Draw the average gap against the size of the forget set.

    Args:
        entries: Entries of random forget sets that differ in their share.
        path: The SVG file to write.

    Returns:
        The axis that was drawn. Empty if there are fewer than three shares, and then no file was written.
    """
    lines: dict[str, dict[float, list[float]]] = {}
    for e in entries:
        share, gap = e["split"].get("forget_share"), (e["scores"].get("gap") or {}).get("avg")
        if share and gap is not None and e["kind"] == "unlearn":
            lines.setdefault(e["label"], {}).setdefault(100 * share, []).append(gap)
    axis = "forget set, % of the training samples"
    return _panels({axis: lines}, path) if lines and max(map(len, lines.values())) > 2 else []


def _panels(panels: Panels, path: Path) -> list[str]:
    """Draw one panel for each axis. Return the axes."""
    plots = []
    for axis, methods in panels.items():
        lines = {m: [(v, s) for v in sorted(gaps) if (s := stat(gaps[v]))] for m, gaps in methods.items()}
        x = [value for line in lines.values() for value, _ in line]
        top = max(s.mean + (s.spread or 0) for line in lines.values() for _, s in line)
        plot = Plot((min(x), max(x)), (0, top * 1.05 or 1), width=460, height=260, right=150, top=24)
        plot.axes(ticks(*plot.x), ticks(*plot.y), axis, GAP)
        names = []
        for number, (method, line) in enumerate(lines.items()):
            number %= len(COLOURS)
            plot.line([value for value, _ in line], [s.mean for _, s in line], f"line k{number}")
            for value, s in line:
                _dot(plot, value, s, number)
            names.append((plot.py(line[-1][1].mean), method, f"f{number}"))
        for height, method, colour in spread_out(names, 13, plot.top, plot.height - plot.bottom):
            plot.text(plot.width - plot.right + 8, height + 4, method, colour)
        plots.append(plot)
    if plots:
        _write(plots, path)
    return list(panels)


def _dot(plot: Plot, x: float, gap: Stat, colour: int) -> None:
    """Draw a mean as a dot, and its spread as a vertical line."""
    at, spread = plot.px(x), gap.spread or 0.0
    low, high = (min(max(v, plot.y[0]), plot.y[1]) for v in (gap.mean - spread, gap.mean + spread))
    plot.segment(at, plot.py(low), at, plot.py(high), f"k{colour}")
    plot.parts.append(f'<circle class="f{colour}" cx="{short(at)}" cy="{short(plot.py(gap.mean))}" r="3"/>')


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis a little beyond all values."""
    return min(values, default=1.0) / 1.2, max(values, default=1.0) * 1.2


def _powers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two positive numbers."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [v for e in exponents for f in (1, 2, 5) if low <= (v := f * 10.0**e) <= high]


def _write(plots: Sequence[Plot], path: Path) -> None:
    """Write plots of one size as one SVG file, two in a row."""
    width, height, drawn = plots[0].width, plots[0].height, ""
    for number, plot in enumerate(plots):
        at = f"{short(number % 2 * width)} {short(number // 2 * height)}"
        drawn += f'<g transform="translate({at})">{"".join(plot.parts)}</g>'
    across, down = short(width * min(len(plots), 2)), short(height * math.ceil(len(plots) / 2))
    size = f'width="{across}" height="{down}" viewBox="0 0 {across} {down}"'
    text = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{drawn}</svg>\n'
    write_text(path, text)
