"""Count the copies of a random tenth of Fashion-MNIST and CIFAR-10, and time the search.

python benchmarks/copies.py
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from expunge import Split
from expunge.records.atomic_files import write_json
from expunge.records.record import machine, plain
from expunge.sources.loading import load
from expunge.sources.spec import locate

RESULT = Path(__file__).parent / "results" / "copies.json"


def main() -> None:
    """Draw each split with and without the search, and write counts and seconds."""
    torch.set_num_threads(1)
    rows = {}
    for name in ("fashion-mnist", "cifar10"):
        source = load(locate(name))
        seconds = {}
        for handling in ("ignore", "report", "report again"):
            start = time.perf_counter()
            split = Split.random(source.train, source.test, 0.1, copies=handling.split()[0])  # type: ignore[arg-type]
            seconds[handling] = round(time.perf_counter() - start, 2)
        rows[name] = {
            "seconds": seconds,
            "found": split.to_dict().get("copies_found"),
            "train": len(source.train),
            "test": len(source.test),
        }
        print(name, json.dumps(plain(rows[name]))[:400], flush=True)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        RESULT,
        plain(
            {
                "command": "python benchmarks/copies.py",
                "seed": 0,
                "machine": machine(),
                "finished": finished,
                "data": rows,
            }
        ),
    )


if __name__ == "__main__":
    main()
