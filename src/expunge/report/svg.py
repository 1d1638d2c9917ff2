"""A small SVG writer: axes, lines and bars as inline SVG. The style sheet of the page sets their colours.

A figure is about 360 units wide, so one unit is close to one CSS pixel on phones and on desktops. Text stays text:
readers can select and search it. Dark mode and print need no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH = 360.0


@dataclass(frozen=True)
class Figure:
    """Hold one drawing.

    Args:
        svg: The drawing.
        title: Plain text above it.
        note: Plain text below it.
    """

    svg: Markup
    title: str = ""
    note: str = ""


def short(value: float) -> str:
    """Format a coordinate with at most one decimal: `12`, `3.5`, never `-0`."""
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round values within [low, high]: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Format a number on an axis: `0.25`, `40`, `1.2e6`, with a true minus sign."""
    if value == 0:
        text = "0"
    elif abs(value) >= 1e5 or abs(value) < 1e-3:
        text = f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e").replace(".0e", "e")
    else:
        text = f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass
class Plot:
    """Map data to a drawing area and collect its SVG elements.

    Args:
        x: Limits of the data along x.
        y: Limits of the data along y.
        width: Width of the drawing in units.
        height: Height of the drawing in units.
        left: Margin on the left, for labels.
        right: Margin on the right.
        top: Margin at the top.
        bottom: Margin at the bottom, for ticks and the axis name.
        xmap: Scale of the x axis, such as `math.sqrt`. Default: linear.
        ymap: Scale of the y axis.
        parts: The SVG elements.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = WIDTH
    height: float = 210.0
    left: float = 40.0
    right: float = 12.0
    top: float = 10.0
    bottom: float = 36.0
    xmap: Callable[[float], float] = float
    ymap: Callable[[float], float] = float
    parts: list[str] = field(default_factory=list)

    def px(self, value: float) -> float:
        """Return the x coordinate of a data value."""
        low, high = self.xmap(self.x[0]), self.xmap(self.x[1])
        share = (self.xmap(value) - low) / ((high - low) or 1.0)
        return self.left + share * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Return the y coordinate of a data value. Larger values lie higher."""
        low, high = self.ymap(self.y[0]), self.ymap(self.y[1])
        share = (self.ymap(value) - low) / ((high - low) or 1.0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def text(self, x: float, y: float, content: object, style: str = "", anchor: str = "start") -> None:
        """Draw text at (x, y), escaped. `anchor` is "start", "middle" or "end"."""
        anchor_attribute = "" if anchor == "start" else f' text-anchor="{anchor}"'
        class_attribute = f' class="{style}"' if style else ""
        attributes = f'x="{short(x)}" y="{short(y)}"{anchor_attribute}{class_attribute}'
        self.parts.append(f"<text {attributes}>{escape(content)}</text>")

    def segment(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """Draw a straight line between two coordinates."""
        self.parts.append(f'<path class="{style}" d="M{short(x1)} {short(y1)}L{short(x2)} {short(y2)}"/>')

    def rect(self, x: float, y: float, width: float, height: float, style: str, hint: str = "") -> None:
        """Draw a bar. `hint` appears when the pointer rests on it."""
        inner = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(
            f'<rect class="{style}" x="{short(x)}" y="{short(y)}" width="{short(max(width, 0.0))}" '
            f'height="{short(height)}">{inner}</rect>'
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        """Draw a line through data points."""
        points = "L".join(f"{short(self.px(x))} {short(self.py(y))}" for x, y in zip(xs, ys, strict=True))
        if points:
            self.parts.append(f'<path class="{style}" d="M{points}"/>')

    def axes(
        self, xticks: Sequence[float], yticks: Sequence[float], xlabel: str = "", ylabel: str = ""
    ) -> None:
        """Draw horizontal grid lines, ticks and axis names. The name of the y axis stands above it."""
        edge = self.width - self.right
        for value in yticks:
            self.segment(self.left, self.py(value), edge, self.py(value), "grid")
            self.text(self.left - 6, self.py(value) + 3.5, tick_text(value), anchor="end")
        for value in xticks:
            self.text(self.px(value), self.height - self.bottom + 15, tick_text(value), anchor="middle")
        if xlabel:
            self.text((self.left + edge) / 2, self.height - 3, xlabel, "name", "middle")
        if ylabel:
            self.text(0, 9, ylabel, "name")

    def svg(self, label: str) -> Markup:
        """Return the drawing. Screen readers read `label` out."""
        return Markup(
            f'<svg viewBox="0 0 {short(self.width)} {short(self.height)}" role="img" '
            f'aria-label="{escape(label)}">{"".join(self.parts)}</svg>'
        )


def spread_out(
    labels: list[tuple[float, str, str]], gap: float, low: float, high: float
) -> list[tuple[float, str, str]]:
    """Move labels apart until neighbours are `gap` away, within [low, high] if they fit.

    A label is (coordinate, text, class of the style sheet).
    """
    placed: list[tuple[float, str, str]] = []
    for position, text, style in sorted(labels):
        lowest = placed[-1][0] + gap if placed else low
        placed.append((max(position, lowest), text, style))
    if not placed or placed[-1][0] <= high:
        return placed
    for i in range(len(placed) - 1, -1, -1):
        position, text, style = placed[i]
        limit = high if i == len(placed) - 1 else placed[i + 1][0] - gap
        placed[i] = (min(position, limit), text, style)
    return placed
