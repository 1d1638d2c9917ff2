"""Draw the figures of the results page: the average gap against seconds, varied settings, and forget set size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records.atomic_files import atomic
from ..records.statistics import stat
from .results import Entry

# {axis: {method: {value: gaps}}}
Panels = dict[str, dict[str, dict[float, list[float]]]]


def plot_gap_by_seconds(groups: Sequence[list[Entry]], path: Path) -> None:
    """Draw the mean average gap of each method against its mean RTE.

    Args:
        groups: The entries of each method of one split. Entries of a group differ in their seed.
        path: The SVG file to write.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for group in groups:
        if group[0]["kind"] != "unlearn" or not group[0]["scores"].get("gap"):
            continue
        seconds, gap = stat(e["seconds"] for e in group), stat(e["scores"]["gap"]["avg"] for e in group)
        assert seconds is not None and gap is not None
        # both axes are logarithmic
        at = max(seconds.mean, 1e-3), max(gap.mean, 1e-2)
        axes.errorbar(*at, yerr=gap.spread, fmt="o", color="#b5532a", ms=4, lw=0.8)
        axes.annotate(group[0]["label"], at, fontsize=6.5, xytext=(4, 2), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="RTE (seconds)", ylabel="average gap to Retrain (points)")
    axes.grid(alpha=0.25)
    _write(figure, path)


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
    if not panels:
        return []
    pyplot = _pyplot()
    figure, subplots = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False)
    for axes, (axis, methods) in zip(subplots[0], panels.items(), strict=True):
        for method, gaps in methods.items():
            x = sorted(gaps)
            y = [s for v in x if (s := stat(gaps[v])) is not None]
            axes.errorbar(
                x,
                [s.mean for s in y],
                yerr=[s.spread or 0.0 for s in y],
                marker="o",
                ms=4,
                lw=1,
                capsize=2,
                label=method,
            )
        axes.set(xlabel=axis, ylabel="average gap to Retrain (points)")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    _write(figure, path)
    return list(panels)


def _pyplot() -> Any:
    """Import pyplot with a backend that needs no display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write(figure: Any, path: Path) -> None:
    """Write an SVG with the same bytes for the same figure. Otherwise every new page would change every plot."""
    from matplotlib import pyplot, rc_context

    with rc_context({"svg.hashsalt": path.name}), atomic(path) as partial:
        figure.savefig(partial, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
