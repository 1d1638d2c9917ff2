"""The demonstration of generation over several seeds, with every method: one JSON of means, spreads and attacks, and its table.

    python benchmarks/generation_digits.py [--seeds 0 1 2] [--work demo/generation-seeds] [--out benchmarks/results/generation_digits.json]

Seeds whose records lie in the work folder are not run again. Some six minutes a seed on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from expunge.bench.results import revision
from expunge.cli.demo_generation import RUNS, SCORES, demo_generation
from expunge.records.atomic_files import write_json
from expunge.records.record import Record, machine
from expunge.records.statistics import stat

LABELS = ("original", "retrain", *RUNS)


def records(seed: int, work: Path) -> dict[str, Record]:
    """The records of one seed, run if they are not there."""
    folder = work / str(seed)
    if not all((folder / f"{label}.json").exists() for label in LABELS):
        demo_generation(out=folder, seed=seed, methods=tuple(RUNS))
    return {label: Record.load(folder / f"{label}.json") for label in LABELS}


def collect(seeds: Sequence[int], work: Path) -> dict[str, Any]:
    """What is committed: scores and seconds of every seed, the attacks, the settings once."""
    every = [records(seed, work) for seed in seeds]
    runs = {
        label: {
            "settings": every[0][label].settings,
            "scores": {k: [one[label].scores[k] for one in every] for k in SCORES},
            "seconds": [one[label].seconds for one in every],
            "attacks": [a for one in every if (a := one[label].details.get("attacks"))],
        }
        for label in LABELS
    }
    return {
        "what": "digits 8x8, class 3 forgotten, 50 images a class, every run of the demonstration",
        "command": "python benchmarks/generation_digits.py",
        "date": str(date.today()),
        "revision": revision(),
        "machine": machine(),
        "seeds": list(seeds),
        "runs": runs,
    }


def markdown(found: dict[str, Any]) -> str:
    """The table of the docs: mean ± sample standard deviation over the seeds."""
    lines = ["| | " + " | ".join((*SCORES, "seconds")) + " |", "| --- |" + " --- |" * (len(SCORES) + 1)]
    for label, run in found["runs"].items():
        cells = [_cell(run["scores"][k], 2 if "ID_" in k else 1) for k in SCORES]
        lines.append(f"| {label} | " + " | ".join([*cells, _cell(run["seconds"], 1)]) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float], digits: int) -> str:
    found = stat(values)
    assert found is not None
    return f"{found.mean:.{digits}f}" + ("" if found.spread is None else f" ± {found.spread:.{digits}f}")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked.add_argument("--work", type=Path, default=Path("demo/generation-seeds"))
    asked.add_argument("--out", type=Path, default=Path("benchmarks/results/generation_digits.json"))
    given = asked.parse_args()
    result = collect(given.seeds, given.work)
    write_json(given.out, result)
    print(markdown(result))
