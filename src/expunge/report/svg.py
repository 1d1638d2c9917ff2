"""A small SVG writer: axes, lines and bars as inline SVG whose colours come from the page's style sheet.

Figures are drawn about 360 units wide and laid out as small multiples, so that a unit is close to a CSS pixel
on a phone as on a desk. Text stays text (selectable, searchable); dark mode and print need no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH = 360.0


@dataclass(frozen=True)
class Figure:
    """One drawing: `svg` for the page, `title` above it and `note` below it (plain text, may be empty)."""

    svg: Markup
    title: str = ""
    note: str = ""


def short(value: float) -> str:
    """A coordinate with one decimal at most: `12`, `3.5`, never `-0`."""
    text = f"{value:.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (1, 2, 2.5 or 5 times a power of ten) within [low, high], about `count` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def tick_text(value: float) -> str:
    """An axis figure: `0.25`, `40`, `1.2e6`; a true minus sign."""
    if value == 0:
        text = "0"
    elif abs(value) >= 1e5 or abs(value) < 1e-3:
        text = f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e").replace(".0e", "e")
    else:
        text = f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass
class Plot:
    """A drawing area with data limits `x` and `y`, mapped to pixels by `xmap`/`ymap` (identity or a root)."""

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
        """Pixel of a data value along x."""
        low, high = self.xmap(self.x[0]), self.xmap(self.x[1])
        share = (self.xmap(value) - low) / ((high - low) or 1.0)
        return self.left + share * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Pixel of a data value along y (up is larger)."""
        low, high = self.ymap(self.y[0]), self.ymap(self.y[1])
        share = (self.ymap(value) - low) / ((high - low) or 1.0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def text(self, x: float, y: float, words: object, kind: str = "", anchor: str = "start") -> None:
        """Escaped text at pixel (x, y); `anchor` is start, middle or end."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        name = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{short(x)}" y="{short(y)}"{where}{name}>{escape(words)}</text>')

    def segment(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line between two pixels."""
        self.parts.append(f'<path class="{kind}" d="M{short(x1)} {short(y1)}L{short(x2)} {short(y2)}"/>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> None:
        """A bar; `hint` appears when the pointer rests on it."""
        inner = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(
            f'<rect class="{kind}" x="{short(x)}" y="{short(y)}" width="{short(max(width, 0.0))}" '
            f'height="{short(height)}">{inner}</rect>'
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> None:
        """A polyline through data points."""
        points = "L".join(f"{short(self.px(x))} {short(self.py(y))}" for x, y in zip(xs, ys, strict=True))
        if points:
            self.parts.append(f'<path class="{kind}" d="M{points}"/>')

    def axes(
        self, xticks: Sequence[float], yticks: Sequence[float], xlabel: str = "", ylabel: str = ""
    ) -> None:
        """Horizontal grid lines, tick figures and axis names. The y name stands above the axis, unturned."""
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
        """The finished drawing; `label` is read out by screen readers."""
        return Markup(
            f'<svg viewBox="0 0 {short(self.width)} {short(self.height)}" role="img" '
            f'aria-label="{escape(label)}">{"".join(self.parts)}</svg>'
        )


def spread_out(
    places: list[tuple[float, str, str]], gap: float, low: float, high: float
) -> list[tuple[float, str, str]]:
    """Move labels (pixel, words, kind) apart until neighbours are `gap` away, in [low, high] if they fit."""
    done: list[tuple[float, str, str]] = []
    for place, words, kind in sorted(places):
        place = max(place, low) if not done else max(place, done[-1][0] + gap)
        done.append((place, words, kind))
    excess = done[-1][0] - high if done else 0.0
    for i in range(len(done) - 1, -1, -1):
        if excess <= 0:
            break
        place, words, kind = done[i]
        limit = high if i == len(done) - 1 else done[i + 1][0] - gap
        done[i] = (min(place, limit), words, kind)
    return done
