"""Figures with a row per class: the change of accuracy, and the predictions on the forget set."""

from __future__ import annotations

from typing import Any

from .figures import cut
from .number_text import fixed, listed
from .study import Study
from .svg import Figure, Plot, short, ticks
from .values import number, numbers, shares, table, total_variation

# Most rows in a figure. With a hundred rows, the classes that changed would not stand out.
MOST = 24
# Height of a row.
ROW = 22.0


def per_class(details: dict[str, Any], study: Study) -> Figure | None:
    """Draw the change of test accuracy from original to unlearned, a bar per class. A blue tick is Retrain's change.

    The retained classes set the scale, so that a change of one point is visible. The bar of a forgotten class,
    which loses up to a hundred points, is cut off with a break.
    """
    data = table(details.get("per_class"))
    original, unlearned, retrained = (
        numbers(data.get(model)) for model in ("original", "unlearned", "retrained")
    )
    changes, references = _differences(original, unlearned), _differences(original, retrained)
    if not changes:
        return None
    shown = _largest(changes, study)
    retained = [
        v
        for c in shown
        for v in (changes[c], references.get(c))
        if v is not None and c not in study.forgotten
    ]
    low, high = min([-1.0, *retained]) * 1.1, max([1.0, *retained]) * 1.1
    plot = _plot(len(shown), (low, high), bool(references))
    _scale(
        plot,
        f"points of {'images recognized' if study.generator else 'test accuracy'}, after − before",
        sign=True,
    )
    for i, c in enumerate(shown):
        _draw_change(plot, i, study.class_name(c), c in study.forgotten, changes[c], references.get(c))
    plot.segment(plot.px(0), plot.top, plot.px(0), plot.height - plot.bottom, "zero")
    note = _worst(details, changes, study)
    if len(shown) < len(changes):
        note += f" The figure shows the {len(shown)} largest changes of {len(changes)} classes."
    label = "; ".join(f"{study.class_name(c)} {fixed(changes[c], sign=True)}" for c in shown)
    return Figure(
        plot.svg(f"Change of test accuracy by class, in points: {label}."),
        "Images recognized, by class" if study.generator else "Accuracy change by class",
        note.strip(),
    )


def _differences(before: list[float | None], after: list[float | None]) -> dict[int, float]:
    """Return after - before for each class that has both values."""
    return {
        c: b - a
        for c, (a, b) in enumerate(zip(before, after, strict=False))
        if a is not None and b is not None
    }


def _largest(values: dict[int, float], study: Study) -> list[int]:
    """Return the forgotten classes and those with the largest values, in class order."""
    order = sorted(values, key=lambda c: (c not in study.forgotten, -abs(values[c])))
    return sorted(order[:MOST])


def _plot(count: int, limits: tuple[float, float], paired: bool) -> Plot:
    """Make a plot of `count` rows. `paired` adds the column of Retrain."""
    plot = Plot(limits, (0, 1), height=56 + ROW * count, left=88, right=90, top=18)
    right = plot.width - plot.right
    plot.text(right + 38, 11, "unlearned", "name", "end")
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
    """Write the class of a row. A forgotten class is bold, behind a hatched square."""
    name = cut(name, 12)
    plot.text(plot.left - 8, y + 4, name, "row best" if forgotten else "row", "end")
    if forgotten:
        plot.rect(max(plot.left - 22 - 7 * len(name), 0), y - 4, 8, 8, "bar u hatched")


def _draw_change(
    plot: Plot, row: int, name: str, forgotten: bool, change: float, reference: float | None
) -> None:
    top = plot.top + ROW * row
    y = top + ROW / 2
    _name(plot, y, name, forgotten)
    end = min(max(change, plot.x[0]), plot.x[1])
    x1, x2 = sorted((plot.px(0), plot.px(end)))
    hint = f"{name}: {fixed(change, 2, sign=True)} points"
    if reference is not None:
        hint += f", Retrain {fixed(reference, 2, sign=True)}"
    plot.rect(x1, top + 5, max(x2 - x1, 1), ROW - 10, "bar u hatched" if forgotten else "bar u", hint)
    if end != change:
        # Two slanted strokes show that the bar is cut off.
        x = plot.px(end) + (12 if change < 0 else -12)
        plot.parts.append(
            f'<path class="break" d="M{short(x)} {short(top + 2)}l-4 {ROW - 4:g}m5 0l4-{ROW - 4:g}"/>'
        )
    if reference is not None and plot.x[0] <= reference <= plot.x[1]:
        plot.segment(plot.px(reference), top + 3, plot.px(reference), top + ROW - 3, "tick r")
    right = plot.width - plot.right
    plot.text(right + 38, y + 4, fixed(change, sign=True), "row value", "end")
    if reference is not None:
        plot.text(plot.width, y + 4, fixed(reference, sign=True), "row value r", "end")


def _worst(details: dict[str, Any], changes: dict[int, float], study: Study) -> str:
    """Name the retained class that lost most: from the audit if it says, else from the bars."""
    measured = table(details.get("worst_class"))
    worst, drop = measured.get("class"), number(measured.get("drop"))
    if worst is None or drop is None:
        retained = {c: v for c, v in changes.items() if c not in study.forgotten}
        if not retained:
            return ""
        worst = min(retained, key=lambda c: retained[c])
        drop = -retained[worst]
    name = study.class_name(worst)
    if abs(drop) < 0.05:
        return f"Worst retained class: {name}, unchanged."
    return f"Worst retained class: {name}, {fixed(abs(drop))} points {'lost' if drop > 0 else 'gained'}."


def redistribution(details: dict[str, Any], study: Study) -> Figure | None:
    """Draw the predictions on the forget set: the share per class of the unlearned model above Retrain's."""
    data = table(details.get("redistribution"))
    unlearned, retrained = shares(data.get("unlearned")), shares(data.get("retrained"))
    if not unlearned:
        return None
    share = dict(enumerate(unlearned))
    reference = dict(enumerate(retrained)) if len(retrained) == len(unlearned) else {}
    larger = {c: max(v, reference.get(c, 0.0)) for c, v in share.items()}
    shown = _largest(larger, study)
    plot = _plot(len(shown), (0, max(max(larger.values()), 1.0)), bool(reference))
    _scale(plot, "% of images sampled for forgotten classes" if study.generator else "% of the forget set")
    for i, c in enumerate(shown):
        _draw_share(plot, i, study.class_name(c), c in study.forgotten, share[c], reference.get(c))
    plot.segment(plot.px(0), plot.top, plot.px(0), plot.height - plot.bottom, "zero")
    label = ", ".join(
        f"{study.class_name(c)} {fixed(share[c])}" for c in sorted(share, key=lambda c: -share[c])[:5]
    )
    return Figure(
        plot.svg(f"Predictions on forgotten samples, percent: {label}."),
        "Classes seen in images of forgotten classes" if study.generator else "Predictions on the forget set",
        _redistribution_note(share, reference, study),
    )


def _draw_share(
    plot: Plot, row: int, name: str, forgotten: bool, share: float, reference: float | None
) -> None:
    top = plot.top + ROW * row
    _name(plot, top + ROW / 2, name, forgotten)
    paired = reference is not None
    hint = f"{name}: {fixed(share)} %" + (f", Retrain {fixed(reference)} %" if paired else "")
    plot.rect(
        plot.px(0),
        top + (3 if paired else 5),
        plot.px(share) - plot.px(0),
        9 if paired else 12,
        "bar u hatched" if forgotten else "bar u",
        hint,
    )
    right = plot.width - plot.right
    plot.text(right + 38, top + ROW / 2 + 4, fixed(share), "row value", "end")
    if reference is not None:
        plot.rect(plot.px(0), top + 13, plot.px(reference) - plot.px(0), 5, "bar r", hint)
        plot.text(plot.width, top + ROW / 2 + 4, fixed(reference), "row value r", "end")


def _redistribution_note(share: dict[int, float], reference: dict[int, float], study: Study) -> str:
    top = [study.class_name(c) for c in sorted(share, key=lambda c: -share[c])[:2] if share[c] >= 0.05]
    note = f"Most frequent: {listed(top)}." if top else ""
    if not reference:
        return note + " There is no retrained model to compare with."
    moved = total_variation(list(share.values()), list(reference.values()))
    return note + f" {fixed(moved)} % would need another class to match Retrain (total variation distance)."
