"""What a finished grid leaves: one compact JSON to commit, and a page of tables and plots made from such files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from .audit.accuracy import HEADLINE
from .errors import ExpungeError
from .files import atomic, write_json, write_text
from .record import Record, machine, plain

Entry = dict[str, Any]
ACCURACIES = ("forget_accuracy", "retain_accuracy", "test_forgotten_accuracy", "test_retain_accuracy")


def entry(record: Record, label: str, split: dict[str, Any], vary: dict[str, Any] | None = None) -> Entry:
    """What of a record is committed: scores, settings, seconds; no pictures, no curves."""
    kept = {k: record.details[k] for k in ("table2x2", "worst_class") if record.details.get(k)}
    return {"label": label, "kind": record.kind, "method": record.method, "data": record.data.get("name"),
            "model": record.model.get("name"), "split": split, "scenario": record.split.get("scenario"), "seed": record.seed,
            "scores": record.scores, "seconds": record.seconds, "peak_memory": record.peak_memory, "status": record.status,
            "settings": record.settings, "details": kept, "vary": vary or {},
            "density": (record.details.get("mask") or {}).get("density")}  # fmt: skip


def write_result(
    path: Path,
    title: str,
    command: str,
    entries: Sequence[Entry],
    *,
    note: str = "",
    tuned: Any = None,
    failed: dict[str, str] | None = None,
    revised: str | None = None,
) -> None:
    """The grid's result as one JSON file: machine, versions, revision, date and command beside every run."""
    about = {
        "title": title,
        "command": command,
        "date": date.today().isoformat(),
        "revision": revised,
        "machine": machine(),
        "note": note,
        "tuned": tuned,
        "failed": failed or {},
    }
    write_json(path, plain({"about": about, "runs": list(entries)}))


def revision() -> str | None:
    """The commit that this package's source is at, with a `+` where it was changed since; None outside a checkout."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=10"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def rows(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Entries of one label together (its seeds), by average gap; original and Retrain first."""
    groups: dict[str, list[Entry]] = {}
    for e in entries:
        groups.setdefault(e["label"], []).append(e)

    def place(group: list[Entry]) -> tuple[int, float]:
        first = {"original": 0, "retrain": 1}.get(group[0]["kind"], 2)
        return first, mean((e["scores"].get("gap") or {}).get("avg", 1e9) for e in group)

    return sorted(groups.values(), key=place)


def markdown(entries: Sequence[Entry]) -> str:
    """The table of one split: mean ± standard deviation over seeds, the gap of each score in brackets."""
    lines = ["| method | UA | RA | TA | MIA | avg. gap | RTE s | n |", "| --- " * 8 + "|"]
    for group in rows(entries):
        cells = []
        for name in HEADLINE:
            text = _spread([e["scores"].get(name) for e in group])
            gap = [g[name] for e in group if (g := e["scores"].get("gap"))]
            cells.append(text + (f" ({mean(gap):.2f})" if gap and group[0]["kind"] == "unlearn" else ""))
        average = _spread([(e["scores"].get("gap") or {}).get("avg") for e in group])
        if group[0]["kind"] == "retrain":
            average = "0"
        seconds = "–" if group[0]["kind"] == "original" else _spread([e["seconds"] for e in group], 1)
        odd = sum(e["status"].startswith("diverged") for e in group)
        name = group[0]["label"] + (f" ({odd} diverged)" if odd else "")
        lines.append(f"| {name} | {' | '.join(cells)} | **{average}** | {seconds} | {len(group)} |")
    return "\n".join(lines)


def two_by_two(entries: Sequence[Entry]) -> str:
    """Accuracies with and without the training and the class weight masking, mean over seeds; empty without such runs."""
    tables = [e["details"]["table2x2"] for e in entries if e["details"].get("table2x2")]
    if not tables:
        return ""
    lines = [
        f"NHLE x class weight masking, accuracies in percent (n = {len(tables)}):\n",
        "| NHLE | masking | forget | retain | test, forgotten class | test, retained classes |",
        "| --- " * 6 + "|",
    ]
    for cell in zip(*tables, strict=True):
        shown = [_spread([c[k] for c in cell]) for k in ACCURACIES]
        marks = ["yes" if cell[0][k] else "no" for k in ("nhle", "masking")]
        lines.append("| " + " | ".join([*marks, *shown]) + " |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float | None], digits: int = 2) -> str:
    there = [v for v in values if v is not None]
    if not there:
        return "–"
    return f"{mean(there):.{digits}f}" + (f"±{pstdev(there):.{digits}f}" if len(there) > 1 else "")


def plots(entries: Sequence[Entry], path: Path) -> None:
    """Average gap against RTE of one split, every method at its mean over seeds, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for group in rows(entries):
        if group[0]["kind"] != "unlearn" or not group[0]["scores"].get("gap"):
            continue
        x, y = mean(e["seconds"] for e in group), [e["scores"]["gap"]["avg"] for e in group]
        axes.errorbar(
            max(x, 1e-3),
            max(mean(y), 1e-2),
            yerr=pstdev(y) if len(y) > 1 else None,
            fmt="o",
            color="#b5532a",
            ms=4,
            lw=0.8,
        )
        axes.annotate(
            group[0]["label"],
            (max(x, 1e-3), max(mean(y), 1e-2)),
            fontsize=6.5,
            xytext=(4, 2),
            textcoords="offset points",
        )
    axes.set(xscale="log", yscale="log", xlabel="RTE (seconds)", ylabel="average gap to Retrain (points)")
    axes.grid(alpha=0.25)
    with atomic(path) as part:
        figure.savefig(part, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def curves(entries: Sequence[Entry], path: Path) -> list[str]:
    """Average gap against each number the grid varies (density, smoothing, ...), one panel each, as SVG; what was drawn."""
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for e in entries:
        gap = (e["scores"].get("gap") or {}).get("avg")
        for axis, value in (e.get("vary") or {}).items():
            if gap is not None and isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(axis, {}).setdefault(e["label"].split(f", {axis} ")[0], {}).setdefault(
                    value, []
                ).append(gap)
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


def _panels(found: dict[str, dict[str, dict[float, list[float]]]], path: Path) -> list[str]:
    if not found:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(4.2 * len(found), 3.4), squeeze=False)
    for axes, (axis, methods) in zip(panels[0], found.items(), strict=True):
        for method, points in methods.items():
            x = sorted(points)
            y, spread = [mean(points[v]) for v in x], [pstdev(points[v]) for v in x]
            axes.errorbar(x, y, yerr=spread, marker="o", ms=4, lw=1, capsize=2, label=method)
        axes.set(xlabel=axis, ylabel="average gap to Retrain (points)")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    with atomic(path) as part:
        figure.savefig(part, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return list(found)


def page(folder: Path, out: Path) -> None:
    """`out` (Markdown) and its figures from every grid result in `folder`."""
    found = []
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "runs" in values and "about" in values and "title" in values["about"]:
            found.append((path, values))
    if not found:
        raise ExpungeError(f"{folder} has no grid results; run `expunge bench GRID.toml` first.")
    text = [
        "# Benchmarks\n\nMade by `expunge bench --make-page docs/benchmarks.md` from the files of `benchmarks/results`. "
        "Scores in percent, mean ± standard "
        "deviation over seeds (n); in brackets the mean gap to Retrain. RTE: seconds of unlearning alone. A method is "
        "good if its gap is small; no score is good by itself.\n"
    ]
    for path, values in found:
        about = values["about"]
        where = {
            k: v
            for k, v in about["machine"].items()
            if k in ("arch", "cores", "threads", "gpu", "python", "torch")
        }
        if about.get("revision"):
            where["revision"] = about["revision"]
        text.append(f"## {about['title']}\n\n`{about['command']}`, {about['date']}, "
                    + ", ".join(f"{k} {v}" for k, v in where.items()) + f".\n\n{about.get('note', '')}\n")  # fmt: skip
        remarks = path.with_suffix(".md")  # what a person wrote about these figures
        if remarks.exists():
            text.append(remarks.read_text(encoding="utf-8"))
        keys: dict[str, list[Entry]] = {}
        for e in values["runs"]:
            keys.setdefault(f"{e['data']}, {e['model']}, {_words(e)}", []).append(e)
        for number, (key, entries) in enumerate(keys.items()):
            text.append(f"### {key}\n\n{markdown(entries)}\n")
            if table := two_by_two(entries):
                text.append(table)
            if sum(e["kind"] == "unlearn" for e in entries) > 2:
                figure = out.parent / "figures" / f"{path.stem}-{number}.svg"
                plots(entries, figure)
                text.append(f"![gap against RTE](figures/{figure.name})\n")
            varied = out.parent / "figures" / f"{path.stem}-{number}-varied.svg"
            if axes := curves(entries, varied):
                text.append(f"![gap against {', '.join(axes)}](figures/{varied.name})\n")
        whole = out.parent / "figures" / f"{path.stem}-sizes.svg"
        if sizes(values["runs"], whole):
            text.append(f"![gap against the size of the forget set](figures/{whole.name})\n")
    text.append(PENDING)
    write_text(out, "\n".join(text))


def _words(e: Entry) -> str:
    split = e["split"]
    if split.get("forget_share"):
        return f"forget {100 * split['forget_share']:g} % at random"
    if split.get("forget_class") == ["seed"]:
        return "forget one class, another for each seed"
    return f"forget class {', '.join(map(str, split.get('forget_class', ['?'])))}"


PENDING = """## ResNet-18 on CIFAR-10 with the paper's recipe (GPU)

Not yet run: `make bench-gpu` (grid `benchmarks/grids/gpu_cifar10_resnet18.toml`) needs a CUDA device. Beside its rows
belong the published ones (SalUn, 10 % random: avg. gap 1.15; an independent rerun with the split mended: 1.60). The
published code draws the validation set for the original with another seed than for forget and retain set, so that a
tenth of the forget set was never seen by the original; figures below about 0.6 points of UA and RA cannot be matched on
a clean split.
"""
