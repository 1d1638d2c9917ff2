"""A thousand small requests on digits, one after the other: do memory, open files and seconds per request stay constant?

    python benchmarks/thousand_requests.py --count 1000

Each request names three ids out of a pool of 300, so requests overlap and the retain set stops shrinking. Each run is audited with
all earlier requests.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge import Classification, Retrain, Split, audit, execute
from expunge.data.past_requests import requests_of
from expunge.methods.random_label import RandomLabel
from expunge.models import build
from expunge.records.atomic_files import write_json
from expunge.records.record import machine, plain
from expunge.sources.loading import load

RESULT = Path(__file__).parent / "results" / "thousand_requests.json"


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Answer the requests, and write the figures of each tenth of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    source, task, generator = load("digits"), Classification(10), np.random.default_rng(0)
    torch.manual_seed(0)
    model = build("mlp", num_classes=10, shape=source.shape)
    split = Split.random(source.train, source.test, 0.1, validation=0)
    model = execute(model, split.for_original, Retrain(epochs=10, lr=0.1, batch_size=64), task).model
    method, rows = RandomLabel(epochs=1, lr=0.02, batch_size=64), []
    for number in range(1, count + 1):
        ids = generator.choice(300, 3, replace=False).tolist()
        start = time.process_time()
        split = Split.by_ids(source.train, source.test, ids, validation=0)
        model = execute(model, split, method, task, seed=number).model
        result = audit(model, split, task)
        seconds = time.process_time() - start
        back = sum(e["came_back"] for e in result.details.get("earlier_requests", ()))
        rows.append(
            {
                "seconds": seconds,
                "MiB": resident(),
                "files": len(os.listdir("/proc/self/fd")),
                "TA": result.scores["TA"],
                "back": back,
            }
        )
        if not number % (count // 10):
            print(number, _mean(rows[-count // 10 :]), flush=True)
    tenths = [_mean(rows[k : k + count // 10]) for k in range(0, count, count // 10)]
    about = {
        "command": f"python benchmarks/thousand_requests.py --count {count}",
        "machine": machine(),
        "known": len(requests_of(model)),
    }
    write_json(
        RESULT,
        plain({**about, "finished": datetime.now(UTC).isoformat(timespec="seconds"), "tenths": tenths}),
    )


def _mean(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means of some rows. Seconds are processor seconds, so other work on the machine does not count."""
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


if __name__ == "__main__":
    main()
