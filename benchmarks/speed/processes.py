"""How the cost falls with the number of processes: one epoch of SalUn, its batches divided by `Compute(processes=True)`.

Each count is a `torchrun` of its own, in turn; every process has one thread, and the slowest one's clock counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import ratio, summary

SAMPLES, BATCH = 2000, 128


def worker(out: Path, size: int) -> None:
    """Wall seconds of the run in this process, the mask among them."""
    import torch
    import torch._dynamo  # the first optimizer imports it otherwise, for 1.5 s of the clock
    import torch.distributed as dist
    from epoch import samples

    from expunge import Classification, Compute, SalUn, Split, execute, keep_freed_memory
    from expunge.models import build

    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = build("resnet20", num_classes=10)
    split = Split.random(samples(size, 0), samples(500, 1), share=0.1, validation=0.1)
    method = SalUn(epochs=1, batch_size=BATCH, lr=1e-4, max_drop=101)
    dist.barrier()
    start = time.perf_counter()
    execute(model, split, method, Classification(10), compute=Compute(processes=dist.get_world_size() > 1))
    (out / f"{dist.get_rank()}.json").write_text(json.dumps(time.perf_counter() - start))
    dist.destroy_process_group()


def seconds(count: int, size: int) -> float:
    """The slowest process of a run by `count`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(count),
        ]
        done = subprocess.run(
            [*command, __file__, folder, str(size)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{count} processes ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return max(json.loads(f.read_text()) for f in Path(folder).glob("*.json"))


def run(quick: bool) -> dict[str, Any]:
    """One and two processes: this machine has two cores."""
    rounds, size = (1, 256) if quick else (3, SAMPLES)
    taken = [(seconds(1, size), seconds(2, size)) for _ in range(rounds)]
    walls = [{"wall": summary([t[k] for t in taken])} for k in range(2)]
    return {
        "samples": size, "batch": BATCH, "one_process_seconds": walls[0]["wall"], "two_process_seconds": walls[1]["wall"],
        "times_faster": ratio(walls[0], walls[1]),
    }  # fmt: skip


if __name__ == "__main__":
    worker(Path(sys.argv[1]), int(sys.argv[2]))
