"""ResNet-18 on CIFAR-10-sized images over its arithmetic floor, on a GPU: what Retrain and SalUn take, and where it goes.

    python benchmarks/speed/run.py --parts floor          # needs a CUDA device; --quick tries every line on a CPU

The floor of a run is its counted multiply-adds (`torch.utils.flop_counter`: forward and backward of every step, and the
mask's) over the rate at which this device multiplies large matrices in the same precision, measured beside it. Whole
runs of the paper's length: 182 epochs of Retrain, 10 of SalUn, batch 256, 45,000 training images; each after a run of one
epoch, whose seconds (compilation among them) stand beside. Also the masked step beside the plain one, and the selection
beside an argsort there. Pieces that are done are kept beside the result, so a run that was cut off goes on: on the same kind
of device, with the same torch and source.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from epoch import samples
from saliency import argsort
from timing import beside, ratio
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).parents[1]))
from identity import made_of, refuse_other

from expunge import Classification, Compute, Retrain, SalUn, Split, execute, masked, random_mask
from expunge.masks.topk import top_k
from expunge.models import build
from expunge.records.atomic_files import write_json

STEPS = 20  # between two looks at the clock: a run does not wait for the device at each step either


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
    """The masked step beside the plain one."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, 3, 32, 32, device=device), torch.randint(0, 10, (batch,), device=device)
    models = [
        build("resnet18", num_classes=10).to(device, memory_format=torch.channels_last) for _ in range(2)
    ]
    optimizers = [torch.optim.SGD(m.parameters(), 1e-3, momentum=0.9, fused=device != "cpu") for m in models]

    def steps(place: int) -> Callable[[], None]:
        def some() -> None:
            for _ in range(STEPS if device != "cpu" else 1):
                optimizers[place].zero_grad()
                with torch.autocast(torch.device(device).type, torch.bfloat16):
                    loss = torch.nn.functional.cross_entropy(models[place](x), y)
                loss.backward()
                optimizers[place].step()
            clock(device)

        return some

    with masked(optimizers[1], models[1], random_mask(models[1], 0.5)):
        taken = beside({"plain": steps(0), "masked": steps(1)}, rounds, warm=2)
    return {
        "batch": batch, "steps_a_turn": STEPS, "seconds": taken,
        "masked_over_plain": ratio(taken["masked"], taken["plain"]),
    }  # fmt: skip


def selection(device: str, size: int, rounds: int) -> dict[str, Any]:
    """The mask of half of `size` weights on the device: streaming selection beside an argsort; extra memory of both."""
    draw = torch.Generator(device).manual_seed(0)
    scores = {str(k): torch.randn(size // 8, generator=draw, device=device).mul_(10.0**-k) for k in range(8)}
    half = sum(s.numel() for s in scores.values()) // 2

    def select() -> dict[str, torch.Tensor]:
        return top_k(scores, [half])[0]

    def sort() -> dict[str, torch.Tensor]:
        return argsort(scores, 0.5)

    same = all(torch.equal(a, b) for a, b in zip(select().values(), sort().values(), strict=True))
    extra = {n: extra_bytes(device, part) for n, part in (("select", select), ("argsort", sort))}
    waited = {
        n: lambda part=part: (part(), clock(device)) for n, part in (("select", select), ("argsort", sort))
    }
    taken = beside(waited, rounds)
    return {
        "weights": size, "same_answer": same, "seconds": taken, "times_faster": ratio(taken["argsort"], taken["select"]),
        "extra_share": {n: None if e is None else e / (4 * size) for n, e in extra.items()},
    }  # fmt: skip


def extra_bytes(device: str, part: Callable[[], dict[str, torch.Tensor]]) -> int | None:
    """The most that `part` held on a GPU above what there was and what it gives."""
    if device == "cpu":
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    answer = sum(t.nbytes for t in part().values())
    return torch.cuda.max_memory_allocated() - before - answer


def timed(method: Retrain | SalUn, split: Split, model: torch.nn.Module, compute: Compute) -> dict[str, Any]:
    """Seconds of a whole run and of a first one of one epoch, and the ten kernels that took most of another of one."""
    device, task, short = str(next(model.parameters()).device), Classification(10), replace(method, epochs=1)
    start = clock(device)
    execute(model, split, short, task, compute=compute)
    first = clock(device) - start
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    with profile(activities=kinds) as found:
        execute(model, split, short, task, compute=compute)
    start = clock(device)
    run = execute(model, split, method, task, compute=compute)
    seconds = clock(device) - start
    seen = len(split.retain) if isinstance(method, Retrain) else len(split.forget) + len(split.retain)
    passes = method.epochs * seen + (0 if isinstance(method, Retrain) else len(split.forget))
    key = "self_device_time_total" if device != "cpu" else "self_cpu_time_total"
    top = sorted(found.key_averages(), key=lambda e: -getattr(e, key))[:10]
    return {
        "method": method.name(), "epochs": method.epochs, "compile": compute.compile, "ended": run.ended, "seconds": seconds,
        "first_run_of_one_epoch_seconds": first, "sample_passes": passes, "milliseconds_a_step": 1e3 * seconds / run.step,
        "peak_memory": run.peak_memory, "top_of_one_epoch": {e.key: getattr(e, key) / 1e6 for e in top},
    }  # fmt: skip


def pieces(device: str, quick: bool) -> dict[str, Callable[[], Any]]:
    """Everything there is to measure, by name, the short ones first."""
    count, batch = (64, 16) if quick else (50_000, 256)
    split = Split.random(samples(count, 0), samples(16 if quick else 10_000, 1), share=0.1, validation=0.1)
    torch.manual_seed(0)
    model = build("resnet18", num_classes=10).to(device)
    salun = SalUn(epochs=1 if quick else 10, batch_size=batch, max_drop=101)
    retrain = Retrain(epochs=1 if quick else 182, batch_size=batch, max_drop=101)
    found: dict[str, Callable[[], Any]] = {
        "matrix_flops_a_second": lambda: matrix_rate(device, 256 if quick else 8192, 1 if quick else 5),
        "flops_a_sample": lambda: flops_a_sample(device),
        "step": lambda: step_overhead(device, batch, 1 if quick else 20),
    }
    for size in (20_000,) if quick else (100_000_000, 1_000_000_000):
        found[f"selection_{size}"] = lambda size=size: selection(device, size, 1 if quick else 5)  # type: ignore[misc]
    for method in (salun, retrain):
        for compiled in (False,) if quick else (False, True):
            compute = Compute(amp="bf16", channels_last=True, compile=compiled)
            name = f"{method.name()}{'_compiled' * compiled}"
            found[name] = lambda m=method, c=compute: timed(m, split, model, c)  # type: ignore[misc]
    return found


def run(quick: bool, keep: Path | None = None, end: float | None = None) -> dict[str, Any] | None:
    """Everything on one device; None where the time `end` came first: pieces done are in `keep`. Raises `SystemExit` without
    a CUDA device, unless it is only tried."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        raise SystemExit("the part 'floor' needs a CUDA device; --quick tries its lines on a CPU")
    about = made_of(*sorted(Path(__file__).parent.glob("*.py")), quick=quick)
    done: dict[str, Any] = {}
    if keep is not None and keep.exists():
        done = json.loads(keep.read_text())
        refuse_other(done.pop("made of", {}), about, keep)
    for name, piece in pieces(device, quick).items():
        if name in done:
            continue
        if end is not None and time.time() > end:
            return None
        print(f"  {name}", flush=True)
        done[name] = piece()
        if keep is not None:
            write_json(keep, {"made of": about, **done})
    for found in done.values():
        if isinstance(found, dict) and "sample_passes" in found:
            floor = found["sample_passes"] * done["flops_a_sample"] / done["matrix_flops_a_second"]
            found |= {"floor_seconds": floor, "times_the_floor": found["seconds"] / floor}
    return {"device": about["device"], "training_images": 64 if quick else 50_000, **done}
