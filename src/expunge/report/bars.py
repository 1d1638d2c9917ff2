"""Figures with a row per class: accuracy change, and where forgotten samples now go."""

from __future__ import annotations

from typing import Any

from .figures import cut
from .study import Study
from .svg import Figure, Plot, short, ticks
from .values import apart, number, numbers, shares, table
from .words import fixed, listed

MOST = 24  # rows a figure shows; a hundred classes would bury the few that matter
ROW = 22.0


def per_class(details: dict[str, Any], study: Study) -> Figure | None:
    """Change of test accuracy from original to unlearned, a bar per class; a blue tick is Retrain's change.

    The scale is set by the retained classes, so that a point lost there shows beside the hundred lost by the
    forgotten one, whose bar is cut off with a break.
    """
    data = table(details.get("per_class"))
    before, after, there = (numbers(data.get(k)) for k in ("original", "unlearned", "retrained"))
    change = {
        c: b - a
        for c, (a, b) in enumerate(zip(before, after, strict=False))
        if a is not None and b is not None
    }
    if not change:
        return None
    wanted = {
        c: b - a
        for c, (a, b) in enumerate(zip(before, there, strict=False))
        if a is not None and b is not None
    }
    shown = _most(change, study)
    kept = [
        v for c in shown for v in (change[c], wanted.get(c)) if v is not None and c not in study.forgotten
    ]
    low, high = min([-1.0, *kept]) * 1.1, max([1.0, *kept]) * 1.1
    plot = _rows(len(shown), (low, high), bool(wanted))
    drawn = study.lead.task != "classification"
    _scale(plot, f"points of {'images recognised' if drawn else 'test accuracy'}, after − before", sign=True)
    for i, c in enumerate(shown):
        _change(plot, i, study.class_name(c), c in study.forgotten, change[c], wanted.get(c))
    plot.segment(plot.px(0), plot.top, plot.px(0), plot.height - plot.bottom, "zero")
    note = _worst(details, change, study)
    if len(shown) < len(change):
        note += f" The {len(shown)} largest changes of {len(change)} classes are drawn."
    said = "; ".join(f"{study.class_name(c)} {fixed(change[c], sign=True)}" for c in shown)
    return Figure(
        plot.svg(f"Change of test accuracy by class, in points: {said}."),
        "Images recognised, by class" if drawn else "Accuracy change by class",
        note.strip(),
    )


def _most(change: dict[int, float], study: Study) -> list[int]:
    """The forgotten classes and those with the largest changes, in class order."""
    order = sorted(change, key=lambda c: (c not in study.forgotten, -abs(change[c])))
    return sorted(order[:MOST])


def _rows(count: int, limits: tuple[float, float], paired: bool) -> Plot:
    plot = Plot(limits, (0, 1), height=56 + ROW * count, left=88, right=90, top=18)
    right = plot.width - plot.right
    plot.text(right + 38, 11, "here", "name", "end")
    if paired:
        plot.text(plot.width, 11, "Retrain", "name", "end")
    return plot


def _scale(plot: Plot, name: str, sign: bool = False) -> None:
    bottom = plot.height - plot.bottom
    for value in ticks(*plot.x, 4):
        plot.segment(plot.px(value), plot.top, plot.px(value), bottom, "grid")
        plot.text(
            plot.px(value),
            bottom + 15,
            fixed(value, 0 if value == round(value) else 1, sign and value != 0),
            anchor="middle",
        )
    plot.text(plot.width / 2, plot.height - 3, name, "name", "middle")


def _name(plot: Plot, y: float, name: str, forgotten: bool) -> None:
    """A row's class; a forgotten one in bold behind a hatched square."""
    name = cut(name, 12)
    plot.text(plot.left - 8, y + 4, name, "row best" if forgotten else "row", "end")
    if forgotten:
        plot.rect(max(plot.left - 22 - 7 * len(name), 0), y - 4, 8, 8, "bar u hatched")


def _change(plot: Plot, row: int, name: str, forgotten: bool, own: float, wanted: float | None) -> None:
    top = plot.top + ROW * row
    y = top + ROW / 2
    _name(plot, y, name, forgotten)
    end = min(max(own, plot.x[0]), plot.x[1])
    x1, x2 = sorted((plot.px(0), plot.px(end)))
    hint = f"{name}: {fixed(own, 2, sign=True)} points" + (
        f", Retrain {fixed(wanted, 2, sign=True)}" if wanted is not None else ""
    )
    plot.rect(x1, top + 5, max(x2 - x1, 1), ROW - 10, "bar u hatched" if forgotten else "bar u", hint)
    if end != own:  # cut off: two slanted strokes through the bar
        x = plot.px(end) + (12 if own < 0 else -12)
        plot.parts.append(
            f'<path class="break" d="M{short(x)} {short(top + 2)}l-4 {ROW - 4:g}m5 0l4-{ROW - 4:g}"/>'
        )
    if wanted is not None and plot.x[0] <= wanted <= plot.x[1]:
        plot.segment(plot.px(wanted), top + 3, plot.px(wanted), top + ROW - 3, "tick r")
    right = plot.width - plot.right
    plot.text(right + 38, y + 4, fixed(own, sign=True), "row value", "end")
    if wanted is not None:
        plot.text(plot.width, y + 4, fixed(wanted, sign=True), "row value r", "end")


def _worst(details: dict[str, Any], change: dict[int, float], study: Study) -> str:
    """The retained class that lost most: the audit's finding if it is there, else from the bars."""
    found = table(details.get("worst_class"))
    worst, drop = found.get("class"), number(found.get("drop"))
    if worst is None or drop is None:
        kept = {c: v for c, v in change.items() if c not in study.forgotten}
        if not kept:
            return ""
        worst = min(kept, key=lambda c: kept[c])
        drop = -kept[worst]
    name = study.class_name(worst)
    if abs(drop) < 0.05:
        return f"Worst retained class: {name}, unchanged."
    return f"Worst retained class: {name}, {fixed(abs(drop))} points {'lost' if drop > 0 else 'gained'}."


def redistribution(details: dict[str, Any], study: Study) -> Figure | None:
    """What forgotten samples are now predicted as: the unlearned model's share per class above Retrain's."""
    data = table(details.get("redistribution"))
    own, there = shares(data.get("unlearned")), shares(data.get("retrained"))
    if not own:
        return None
    share = dict(enumerate(own))
    wanted = dict(enumerate(there)) if len(there) == len(own) else {}
    largest = {c: max(v, wanted.get(c, 0.0)) for c, v in share.items()}
    shown = _most(largest, study)
    plot = _rows(len(shown), (0, max(max(largest.values()), 1.0)), bool(wanted))
    drawn = study.lead.task != "classification"
    _scale(plot, "% of images asked for as forgotten" if drawn else "% of the forget set")
    for i, c in enumerate(shown):
        _share(plot, i, study.class_name(c), c in study.forgotten, share[c], wanted.get(c))
    plot.segment(plot.px(0), plot.top, plot.px(0), plot.height - plot.bottom, "zero")
    said = ", ".join(
        f"{study.class_name(c)} {fixed(share[c])}" for c in sorted(share, key=lambda c: -share[c])[:5]
    )
    return Figure(
        plot.svg(f"Predictions on forgotten samples, percent: {said}."),
        "What such images now show" if drawn else "Where forgotten samples now go",
        _difference(share, wanted, study),
    )


def _share(plot: Plot, row: int, name: str, forgotten: bool, own: float, wanted: float | None) -> None:
    top = plot.top + ROW * row
    _name(plot, top + ROW / 2, name, forgotten)
    paired = wanted is not None
    hint = f"{name}: {fixed(own)} %" + (f", Retrain {fixed(wanted)} %" if paired else "")
    plot.rect(
        plot.px(0),
        top + (3 if paired else 5),
        plot.px(own) - plot.px(0),
        9 if paired else 12,
        "bar u hatched" if forgotten else "bar u",
        hint,
    )
    right = plot.width - plot.right
    plot.text(right + 38, top + ROW / 2 + 4, fixed(own), "row value", "end")
    if wanted is not None:
        plot.rect(plot.px(0), top + 13, plot.px(wanted) - plot.px(0), 5, "bar r", hint)
        plot.text(plot.width, top + ROW / 2 + 4, fixed(wanted), "row value r", "end")


def _difference(share: dict[int, float], wanted: dict[int, float], study: Study) -> str:
    top = [study.class_name(c) for c in sorted(share, key=lambda c: -share[c])[:2] if share[c] >= 0.05]
    drawn = study.lead.task != "classification"
    said = f"Most {'show' if drawn else 'go to'} {listed(top)}." if top else ""
    if not wanted:
        return said + " Without a retrained model it cannot be said what would be right."
    moved = apart(list(share.values()), list(wanted.values()))
    return said + f" {fixed(moved)} % of them would have to go elsewhere to match Retrain (total variation)."
