"""Plots of the benchmarks page: average gap against seconds, against what a grid varies, against the size of the forget set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records.atomic_files import atomic
from ..records.statistics import stat

Entry = dict[str, Any]
Panels = dict[str, dict[str, dict[float, list[float]]]]  # axis -> method -> value -> gaps


def plots(groups: Sequence[list[Entry]], path: Path) -> None:
    """Average gap against RTE of one split, every method (the entries of its seeds) at its mean, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for group in groups:
        if group[0]["kind"] != "unlearn" or not group[0]["scores"].get("gap"):
            continue
        seconds, gap = stat(e["seconds"] for e in group), stat(e["scores"]["gap"]["avg"] for e in group)
        assert seconds is not None and gap is not None
        at = max(seconds.mean, 1e-3), max(gap.mean, 1e-2)  # both axes are logarithmic
        axes.errorbar(*at, yerr=gap.spread, fmt="o", color="#b5532a", ms=4, lw=0.8)
        axes.annotate(group[0]["label"], at, fontsize=6.5, xytext=(4, 2), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="RTE (seconds)", ylabel="average gap to Retrain (points)")
    axes.grid(alpha=0.25)
    _write(figure, path)


def curves(entries: Sequence[Entry], path: Path) -> list[str]:
    """Average gap against each number the grid varies (density, smoothing, ...), one panel each, as SVG; what was drawn."""
    found: Panels = {}
    for e in entries:
        gap = (e["scores"].get("gap") or {}).get("avg")
        for axis, value in (e.get("vary") or {}).items():
            if gap is not None and isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(axis, {}).setdefault(
                    e["label"].replace(f", {axis} {value}", ""), {}
                ).setdefault(value, []).append(gap)
    return _panels({k: v for k, v in found.items() if max(map(len, v.values())) > 2}, path)


def sizes(entries: Sequence[Entry], path: Path) -> list[str]:
    """Average gap against the size of the forget set, where a grid has three or more random shares; as SVG."""
    found: dict[str, dict[float, list[float]]] = {}
    for e in entries:
        share, gap = e["split"].get("forget_share"), (e["scores"].get("gap") or {}).get("avg")
        if share and gap is not None and e["kind"] == "unlearn":
            found.setdefault(e["label"], {}).setdefault(100 * share, []).append(gap)
    axis = "forget set, % of the training samples"
    return _panels({axis: found}, path) if found and max(map(len, found.values())) > 2 else []


def _panels(found: Panels, path: Path) -> list[str]:
    if not found:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(4.2 * len(found), 3.4), squeeze=False)
    for axes, (axis, methods) in zip(panels[0], found.items(), strict=True):
        for method, points in methods.items():
            x = sorted(points)
            y = [s for v in x if (s := stat(points[v])) is not None]
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
    return list(found)


def _write(figure: Any, path: Path) -> None:
    """As SVG, the same bytes for the same figure: else each page made anew would change every plot."""
    from matplotlib import pyplot, rc_context

    with rc_context({"svg.hashsalt": path.name}), atomic(path) as part:
        figure.savefig(part, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
