"""Make the decision table of docs/choose.md from the committed results: the nearest methods for each case and condition."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import torch
from docs_measured import GRIDS, SIZES, Case, Row, cases, mean, measured_methods, read, source, spread

from expunge.models import build
from expunge.training.registry import find, names, served_tasks

PAGE = Path(__file__).parent.parent / "docs" / "choose.md"
START, END = "<!-- made by tools/docs_pages.py -->", "<!-- end of what tools/docs_pages.py made -->"
# bias_shift changes one number of the head: it is the baseline, never the answer
BASELINES = {"bias_shift"}
BEST = 4
QUICK = 10.0


def _shape(case: Case) -> tuple[int, ...]:
    return (1, 8, 8) if case.data == "digits" else (1, 28, 28) if "Fashion" in case.data else (3, 32, 32)


@cache
def parameters(case: Case) -> int:
    """Return the number of parameters of the model of a case."""
    torch.manual_seed(0)
    return sum(p.numel() for p in build(case.model, num_classes=10, shape=_shape(case)).parameters())


def size(case: Case) -> str:
    """Return the number of parameters as text."""
    return f"{parameters(case) / 1e3:,.0f} k"


def _without_retain(row: Row) -> bool:
    return "retain" not in find(row.method).data or row.method == "gradient_ascent"


def nearest(rows: Iterable[Row], keep: Callable[[Row], bool]) -> list[Row]:
    """Return the methods with the smallest mean gap, nearest first. Runs with another mask than the default are left out."""
    fitting = [row for row in rows if row.kind == "unlearn" and row.label == row.method and row.gaps]
    fitting = [
        row for row in fitting if row.method not in BASELINES and row.unchanged < len(row.gaps) and keep(row)
    ]
    return sorted(fitting, key=lambda row: mean(row.gaps))[:BEST]


def _named(rows: list[Row], original: Row) -> str:
    """Return methods with their gaps as a cell. A method no nearer than the original is no answer."""
    better = [row for row in rows if mean(row.gaps) < mean(original.gaps)]
    if not better:
        return "none was nearer than the untouched original"
    return ", ".join(f"[{row.method}](methods/{row.method}.md) {spread(row.gaps)}" for row in better)


def classifier_table() -> str:
    """Return the table of classifiers: a row for each data set, model and request, a column for each condition."""
    head = [
        "data, model (parameters)", "request", "original's gap", "nearest to Retrain", "nearest without retain samples",
        f"nearest in at most {QUICK:g} % of Retrain's seconds",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | ---: | --- | --- | --- |"]
    for case, rows in cases().items():
        if case.file not in (*GRIDS, "defaults"):
            continue
        original, retrain = rows["Original"], mean(rows["Retrain"].seconds)

        def quick(row: Row, retrain: float = retrain) -> bool:
            return mean(row.seconds) <= QUICK / 100 * retrain

        cells = [
            f"{case.data}, {case.model} ({size(case)})"
            + ("; settings chosen by default" if case.file == "defaults" else ""),
            case.request,
            spread(original.gaps),
            _named(nearest(rows.values(), lambda row: True), original),
            _named(nearest(rows.values(), _without_retain), original),
            _named(nearest(rows.values(), quick), original) if retrain else "not measured",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def size_table() -> str:
    """Return the table of forget sets of several sizes, with fixed settings."""
    lines = ["| forgotten | original's gap | nearest to Retrain |", "| --- | ---: | --- |"]
    for case, rows in cases().items():
        if case.file == SIZES:
            cells = [
                case.request,
                spread(rows["Original"].gaps),
                _named(nearest(rows.values(), lambda row: True), rows["Original"]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sequence_table() -> str:
    """Return the table of ten requests one after the other."""
    head = "| data | method | distance of accuracies | distance of MIA | requests that came back | test accuracy | minutes for ten |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    rows = [row for row in read("sequence")["summary"] if row["method"].endswith("-auto-again")]
    for row in sorted(rows, key=lambda row: (row["data"], row["accuracy_distance"])):
        name = row["method"].removesuffix("-auto-again")
        lines.append(
            f"| {row['data']} | [{name}](methods/{name}.md) | {row['accuracy_distance']} | {row['MIA_distance']} | "
            f"{row['came_back']} of {row['requests']} | {row['TA']} | {row['minutes']} |"
        )
    return "\n".join(lines)


def generator_table() -> str:
    """Return the table of the small diffusion model, nearest to Retrain in UA and RA first."""
    runs = read("generation_digits")["runs"]
    target = runs["retrain"]["scores"]

    def distance(name: str) -> float:
        return mean(
            abs(a - b) for s in ("UA", "RA") for a, b in zip(runs[name]["scores"][s], target[s], strict=True)
        )

    tried = [name for name in runs if name in names()]
    lines = ["| method | distance to Retrain | UA | RA | FID_judge |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in sorted((n for n in tried if n != "retrain"), key=distance):
        scores = runs[name]["scores"]
        lines.append(
            f"| [{name}](methods/{name}.md) | {distance(name):.1f} | "
            + " | ".join(spread(scores[s]) for s in ("UA", "RA", "FID_judge"))
            + " |"
        )
    return "\n".join(lines)


def not_measured() -> str:
    """Return what the results do not cover, as a list."""
    unmeasured = [name for name in names() if name not in measured_methods() and name != "retrain_ema"]
    links = ", ".join(f"[{name}](methods/{name}.md)" for name in unmeasured)
    largest = max(cases(), key=parameters)
    retrain = max(mean(rows["Retrain"].seconds) for case, rows in cases().items() if case.file in GRIDS)
    generators = sorted(
        n
        for n in names()
        if "diffusion" in served_tasks(find(n)) and n not in read("generation_digits")["runs"]
    )
    return "\n".join(
        [
            f"- Methods without a committed run: {links}. Their absence from a table says nothing about them.",
            f"- Models above {size(largest)} parameters, and recipes whose Retrain takes longer than {retrain:.0f} seconds here.",
            "- A GPU. All runs are from a machine with two cores.",
            "- Groups as one request, except one method on one seed ([validation samples](validation.md)). The tables have "
            "whole classes and random shares.",
            "- Regression, multi-label and other tasks of your own. Texts appear in the sequence alone.",
            f"- Diffusion models other than one of digits. Not among its runs: {', '.join(generators)}.",
            "- More than three seeds. Differences smaller than the spreads are no ranking.",
            "- Features below the head for each method: the tables use UA, RA, TA and MIA. [Audit results](audit_results.md) has some.",
        ]
    )


def made() -> str:
    """Return the generated part of the page."""
    files = [*GRIDS, "defaults", SIZES, "generation_digits"]
    return "\n\n".join(
        [
            "## Classifiers, one request",
            f"Gaps are in percentage points, the mean ± sample standard deviation over seeds. Each cell has at most {BEST} methods, the "
            "nearest first. A method is listed only if it is nearer to Retrain than the untouched original, and did not keep the "
            "original in every run. `bias_shift` is left out: it is a baseline that forgets nothing.",
            classifier_table(),
            "## Size of a random forget set",
            "Digits with the built-in MLP, five methods with fixed settings.",
            size_table(),
            "## Ten requests one after the other",
            "Each method chose its settings anew for every request (`benchmarks/sequence.py`; [what was measured](requests.md)). "
            "Distances are to a model that was retrained without all requests, in points.",
            sequence_table(),
            "## Diffusion models",
            "A class of digits, three seeds. The distance is the mean over UA and RA, in points. "
            "[generation_results.md](generation_results.md) has text-to-image pipelines, for which there is no Retrain.",
            generator_table(),
            "## What is not measured",
            not_measured(),
            "## Where the numbers are from",
            "\n".join(f"- {source(file)}" for file in files)
            + f"\n- `{read('sequence')['command']}`, 2026-11-27 (`benchmarks/results/sequence.json`)",
        ]
    )


def page(text: str | None = None) -> str:
    """Return docs/choose.md with its generated part made anew."""
    current = PAGE.read_text(encoding="utf-8") if text is None else text
    return re.sub(f"(?s){START}.*{END}", lambda _: f"{START}\n\n{made()}\n\n{END}", current)
