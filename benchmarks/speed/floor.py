"""ResNet-18 on CIFAR-10-sized images over its arithmetic floor, on a GPU: what Retrain and SalUn take, and where it goes.

    python benchmarks/speed/run.py --parts floor          # needs a CUDA device; --quick tries every line on a CPU

The floor of a run is its counted multiply-adds (`torch.utils.flop_counter`: forward and backward of every step, and the
mask's) over the rate at which this device multiplies large matrices in the same precision, measured beside it. Whole
runs of the paper's length: 182 epochs of Retrain, 10 of SalUn, batch 256, 45,000 training images.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from epoch import samples
from timing import beside, ratio
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from expunge import Classification, Compute, Retrain, SalUn, Split, execute, masked, random_mask
from expunge.models import build


def matrix_rate(device: str, size: int, rounds: int) -> float:
    """Floating-point operations a second of a bfloat16 product of two square matrices; the best of `rounds`."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(rounds):
        start = clock(device)
        for _ in range(10):
            a @ b
        best = max(best, 10 * 2 * size**3 / (clock(device) - start))
    return best


def clock(device: str) -> float:
    """Seconds, after all that the device has been given is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def flops_a_sample(device: str) -> float:
    """Operations of one sample's forward and backward pass."""
    model, batch = build("resnet18", num_classes=10).to(device), 8
    x, y = torch.randn(batch, 3, 32, 32, device=device), torch.zeros(batch, dtype=torch.int64, device=device)
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(model(x), y).backward()
    return counter.get_total_flops() / batch


def step_overhead(device: str, batch: int, rounds: int) -> dict[str, Any]:
    """The masked step beside the plain one, and what the mask's copies take."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, 3, 32, 32, device=device), torch.randint(0, 10, (batch,), device=device)
    models = [
        build("resnet18", num_classes=10).to(device, memory_format=torch.channels_last) for _ in range(2)
    ]
    optimizers = [torch.optim.SGD(m.parameters(), 1e-3, momentum=0.9, fused=device != "cpu") for m in models]

    def step(place: int) -> Callable[[], None]:
        def once() -> None:
            optimizers[place].zero_grad()
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(models[place](x), y)
            loss.backward()
            optimizers[place].step()
            clock(device)

        return once

    with masked(optimizers[1], models[1], random_mask(models[1], 0.5)):
        taken = beside({"plain": step(0), "masked": step(1)}, rounds, warm=3)
    return {"batch": batch, "seconds": taken, "masked_over_plain": ratio(taken["masked"], taken["plain"])}


def timed(
    method: Retrain | SalUn, split: Split, model: torch.nn.Module, compute: Compute, rate: float, each: float
) -> dict[str, Any]:
    """Seconds of a whole run, its floor, and the ten kernels that took most of a run of one epoch."""
    device, task = str(next(model.parameters()).device), Classification(10)
    start = clock(device)
    run = execute(model, split, method, task, compute=compute)
    seconds = clock(device) - start
    seen = len(split.retain) if isinstance(method, Retrain) else len(split.forget) + len(split.retain)
    passes = method.epochs * seen + (0 if isinstance(method, Retrain) else len(split.forget))
    short = copy.copy(method)
    object.__setattr__(short, "epochs", 1)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    with profile(activities=kinds) as found:
        execute(model, split, short, task, compute=compute)
    key = "self_device_time_total" if device != "cpu" else "self_cpu_time_total"
    top = sorted(found.key_averages(), key=lambda e: -getattr(e, key))[:10]
    return {
        "method": method.name(), "epochs": method.epochs, "seconds": seconds, "floor_seconds": passes * each / rate,
        "times_the_floor": seconds / (passes * each / rate), "peak_memory": run.peak_memory,
        "top_of_one_epoch": {e.key: getattr(e, key) / 1e6 for e in top},
    }  # fmt: skip


def run(quick: bool) -> dict[str, Any]:
    """Everything on one device. Raises `SystemExit` without a CUDA device, unless it is only tried."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        raise SystemExit("the part 'floor' needs a CUDA device; --quick tries its lines on a CPU")
    rate, each = matrix_rate(device, 256 if quick else 8192, 1 if quick else 5), flops_a_sample(device)
    count, batch = (64, 16) if quick else (50_000, 256)
    split = Split.random(samples(count, 0), samples(16 if quick else 10_000, 1), share=0.1, validation=0.1)
    torch.manual_seed(0)
    model = build("resnet18", num_classes=10).to(device)
    runs = []
    for compiled in (False,) if quick else (False, True):
        compute = Compute(amp="bf16", channels_last=True, compile=compiled)
        for method in (
            SalUn(epochs=1 if quick else 10, batch_size=batch, max_drop=101),
            Retrain(epochs=1 if quick else 182, batch_size=batch),
        ):
            runs.append({"compile": compiled, **timed(method, split, model, compute, rate, each)})
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "matrix_flops_a_second": rate,
        "flops_a_sample": each, "training_images": count, "runs": runs,
        "step": step_overhead(device, batch, 1 if quick else 30),
    }  # fmt: skip
