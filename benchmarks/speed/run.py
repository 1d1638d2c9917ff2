"""What a run costs over its arithmetic: `make bench-speed`, or `python benchmarks/speed/run.py --parts attack epoch`.

Each part is compared side by side in this process, turn by turn, and written to benchmarks/results/speed_<part>.json with
medians, spread and machine. Nothing here asserts a time. `others.py` is separate: it needs the other projects' code.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import cyclopts
import torch

sys.path.insert(0, str(Path(__file__).parent))
from expunge.records.atomic_files import write_json
from expunge.records.record import machine

PARTS = ("saliency", "selection", "masked_step", "epoch", "attack", "scaling", "processes")
MORE = ("floor",)  # not run unless asked for: they need what not every machine has


@cyclopts.Parameter(name="*", consume_multiple=True)
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and where to write it."""

    parts: tuple[str, ...] = PARTS
    out: Path = field(default_factory=lambda: Path(__file__).parents[1] / "results")
    threads: int = 1  # of torch; one is steadier on a shared machine
    quick: bool = False  # smallest sizes, to see that it runs; written nowhere
    note: str = ""  # what else the machine was doing
    # begin nothing after these; the same command goes on with what is left of `floor`
    minutes: float | None = None


def main(options: Options = Options()) -> None:
    """Measure the parts one after another."""
    torch.set_num_threads(options.threads)
    for name in options.parts:
        if name not in (*PARTS, *MORE):
            raise SystemExit(f"there is no part '{name}'; known: {', '.join((*PARTS, *MORE))}.")
    end = None if options.minutes is None else time.time() + 60 * options.minutes
    for name in options.parts:
        print(f"{name} ...", flush=True)
        part, pieces = importlib.import_module(name), options.out / f"speed_{name}.pieces"
        resumes = name in MORE and not options.quick
        found = part.run(False, pieces, end) if resumes else part.run(options.quick)
        if found is None:
            raise SystemExit("the time is over: give the same command again to go on")
        record = {
            "part": name, "command": f"python benchmarks/speed/run.py --parts {name} --threads {options.threads}",
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "note": options.note, "machine": machine(),
            "results": found,
        }  # fmt: skip
        print(json.dumps(short(found), indent=1))
        if not options.quick:
            write_json(options.out / f"speed_{name}.json", record)
            pieces.unlink(missing_ok=True)


def short(value: object) -> object:
    """The results without the single values, rounded."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items() if k != "all"}
    if isinstance(value, list):
        return [short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    cyclopts.run(main)
