"""Read the committed results of benchmarks/results for the generated pages: one row per method, data, model and request."""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
GRIDS = ("digits", "fashion_mnist", "cifar10_resnet20")
# sizes of forget sets; methods run with the settings of the grid
SIZES = "digits_sizes"
CLASS, SHARE = "one class", "{:g} % at random"


@dataclass(frozen=True)
class Case:
    """What a run was measured on.

    Args:
        file: Name of the result file, without its ending.
        data: Name of the data.
        model: Name of the built-in model.
        request: What was forgotten.
    """

    file: str
    data: str
    model: str
    request: str


@dataclass
class Row:
    """The runs of one method on one case; the runs differ in their seed.

    Args:
        label: The method, and what differs from its defaults.
        method: Name of the method.
        kind: "original", "retrain" or "unlearn".
        gaps: Average gap to Retrain of each run, in percentage points.
        scores: {score: values}, in percent.
        seconds: RTE of each run.
        unchanged: Number of runs that kept the original.
    """

    label: str
    method: str
    kind: str
    gaps: list[float] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)
    unchanged: int = 0


def read(name: str) -> dict[str, Any]:
    """Return the content of a result file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def spread(values: list[float], digits: int = 1) -> str:
    """Return mean ± sample standard deviation as text, "-" for no values."""
    if not values:
        return "-"
    text = f"{mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def _request(split: dict[str, Any]) -> str:
    return CLASS if "forget_class" in split else SHARE.format(100 * split["forget_share"])


def _add(row: Row, scores: dict[str, Any], gap: float | None, seconds: float, ended: str) -> None:
    for name in ("UA", "RA", "TA", "MIA"):
        row.scores[name].append(scores[name])
    if gap is not None:
        row.gaps.append(gap)
    row.seconds.append(seconds)
    row.unchanged += ended == "unchanged"


@cache
def cases() -> dict[Case, dict[str, Row]]:
    """Return {case: {label: row}} of the grids and of `defaults.json`, in this order."""
    result: dict[Case, dict[str, Row]] = {}
    for file in (*GRIDS, SIZES):
        for run in read(file)["runs"]:
            case = Case(
                file,
                re.sub(r", \d+ test samples|, not augmented", "", run["data"]),
                run["model"],
                _request(run["split"]),
            )
            row = result.setdefault(case, {}).setdefault(
                run["label"], Row(run["label"], run["method"].partition(",")[0], run["kind"])
            )
            gap = (run["scores"].get("gap") or {}).get("avg")
            _add(row, run["scores"], gap, run["seconds"], run["ended"])
    content = read("defaults")
    for key, values in content["references"].items():
        case = _default_case(key)
        for label, name, kind, gap in (
            ("Original", "original", "original", values["gap"]),
            ("Retrain", "retrain", "retrain", None),
        ):
            row = result.setdefault(case, {}).setdefault(label, Row(label, "retrain", kind))
            _add(row, values[name], gap, 0.0, "finished")
    for key, run in content["rows"].items():
        case, method = _default_case(key), key.rpartition("/")[2]
        row = result[case].setdefault(method, Row(method, method, "unlearn"))
        _add(row, run["scores"], run["gap"], run["seconds"], run["ended"])
    return result


def _default_case(key: str) -> Case:
    data, scenario, *_ = key.split("/")
    names = {"digits": "digits", "fashion-mnist": "Fashion-MNIST, 3000 training samples"}
    return Case("defaults", names[data], "mlp", CLASS if scenario == "class" else SHARE.format(10))


def source(file: str) -> str:
    """Return command, date and machine of a result file as one sentence."""
    content = read(file)
    about = content.get("about", content)
    machine = about["machine"]
    date = about.get("date", "")
    runs = content["runs"] if isinstance(content.get("runs"), list) else []
    keys = [key.split("/")[2] for key in content.get("rows", {})]
    seeds = content.get("seeds") or sorted({run["seed"] for run in runs} or set(keys))
    return (
        f"`{about['command']}`, {date}, seeds {', '.join(map(str, seeds))}, {machine['arch']}, {machine['cores']} cores, "
        f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}, torch {machine['torch']} (`benchmarks/results/{file}.json`)"
    )


def measured_methods() -> set[str]:
    """Return the names of all methods with a run in one of the files, also those of diffusion models and of sequences."""
    classifiers = {row.method for rows in cases().values() for row in rows.values()}
    generators = {name.partition(",")[0] for name in read("generation_digits")["runs"] if name != "original"}
    return classifiers | generators
