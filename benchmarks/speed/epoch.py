"""An epoch of unlearning beside the forward, backward and step that it consists of."""

from __future__ import annotations

import copy
import gc
import time
from typing import Any

import torch
import torch.nn.functional as F
from timing import summary

from expunge import Classification, CropFlip, SalUn, Split, TensorData, execute, keep_freed_memory
from expunge.models import build


def samples(count: int, seed: int) -> TensorData:
    """Noise in the shape of CIFAR-10: time does not depend on what is in the pictures."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
    return TensorData(x, torch.randint(0, 10, (count,), generator=draw), augment=CropFlip())


def measure(size: int, batch: int, rounds: int) -> dict[str, Any]:
    """SalUn at density 0.5, one epoch and two: the difference is an epoch with its look at the accuracies, the first also
    has the mask, the copy of the model and the checks. The floor is the same number of plain steps on one batch, laid out
    as augmented batches are (channels last: faster on this processor than the other way)."""
    torch.manual_seed(0)
    model, task = build("resnet20", num_classes=10), Classification(10)
    split = Split.random(samples(size, 0), samples(1000, 1), share=0.1, validation=0.1)
    method = SalUn(epochs=1, batch_size=batch, lr=1e-4, max_drop=101)
    longer = SalUn(epochs=2, batch_size=batch, lr=1e-4, max_drop=101)
    sizes = [min(batch, n - at) for n in (len(split.forget), len(split.retain)) for at in range(0, n, batch)]
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))
    alone = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(alone.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)

    def floor() -> None:
        for n in sizes:
            optimizer.zero_grad()
            F.cross_entropy(alone(x[:n]), y[:n]).backward()
            optimizer.step()

    taken: dict[str, list[tuple[float, float]]] = {"floor": [], "one": [], "two": []}
    floor()
    for _ in range(rounds):
        for name, part in (
            ("floor", floor),
            ("one", lambda: execute(model, split, method, task)),
            ("two", lambda: execute(model, split, longer, task)),
        ):
            gc.collect()
            clock = time.perf_counter(), time.process_time()
            part()
            taken[name].append((time.perf_counter() - clock[0], time.process_time() - clock[1]))
    found: dict[str, Any] = {"samples": size, "batch": batch, "steps": len(sizes)}
    for place, kind in enumerate(("wall", "cpu")):
        base, one, two = ([t[place] for t in taken[n]] for n in ("floor", "one", "two"))
        found[kind] = {
            "floor_seconds": summary(base), "one_epoch_run_seconds": summary(one), "two_epoch_run_seconds": summary(two),
            "epoch_over_floor": summary([(b - a) / f for f, a, b in zip(base, one, two, strict=True)]),
            "run_of_one_over_floor": summary([a / f for f, a in zip(base, one, strict=True)]),
        }  # fmt: skip
    return found


def run(quick: bool) -> list[dict[str, Any]]:
    """A small set, where the look at the accuracies weighs, and a larger one."""
    keep_freed_memory()  # as the command line does
    return [measure(512, 64, 1)] if quick else [measure(2000, 128, 5), measure(6000, 128, 3)]
