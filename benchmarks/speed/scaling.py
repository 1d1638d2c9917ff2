"""How the cost grows with the forget set, the data, and the weights: processor seconds, and the exponents fitted to them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from epoch import samples
from saliency import gradients
from timing import beside
from torch import nn

from expunge import Classification, SalUn, Split, execute, keep_freed_memory, masked
from expunge.masks.saliency import saliency_scores
from expunge.masks.topk import top_k
from expunge.models import build


def curve(
    what: str, sizes: Sequence[int], make: Callable[[int], Callable[[], Any]], rounds: int
) -> dict[str, Any]:
    """Median processor seconds at each size, and b of the fit seconds = a * size^b by least squares of the logarithms."""
    parts = {str(n): make(n) for n in sizes}
    seconds = beside(parts, rounds)
    middle = [seconds[str(n)]["cpu"]["median"] for n in sizes]
    slope, start = np.polyfit(np.log(sizes), np.log(middle), 1)
    off = [abs(m / (np.exp(start) * n**slope) - 1) for n, m in zip(sizes, middle, strict=True)]
    spread = [seconds[str(n)]["cpu"]["high"] / seconds[str(n)]["cpu"]["low"] for n in sizes]
    return {
        "cost_of": what, "sizes": list(sizes), "cpu_seconds": middle, "exponent": float(slope), "largest_misfit": max(off),
        "median_high_over_low": statistics.median(spread), "clock": seconds,
    }  # fmt: skip


def run(quick: bool) -> list[dict[str, Any]]:
    """Saliency over the forget set, an unlearning epoch over the data, selection and held step over the weights."""
    keep_freed_memory()  # as the command line does
    task, rounds = Classification(10), 1 if quick else 3
    torch.manual_seed(0)
    cnn = build("cnn", num_classes=10)
    pool = samples(8192, 0)
    tests = samples(200, 1)
    scale = 8 if quick else 1

    def saliency(n: int) -> Callable[[], Any]:
        few = pool.samples(torch.arange(n))
        return lambda: saliency_scores(cnn, few, task)

    def epoch(n: int) -> Callable[[], Any]:
        split = Split.random(samples(n, 2), tests, share=0.1, validation=0.1)
        return lambda: execute(cnn, split, SalUn(epochs=1, batch_size=128, lr=1e-4, max_drop=101), task)

    def selection(n: int) -> Callable[[], Any]:
        scores = gradients(n)
        return lambda: top_k(scores, [n // 2])

    def held(n: int) -> Callable[[], Any]:
        width = round((n / 4) ** 0.5)
        model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(4)))
        mask = {k: torch.rand(p.shape) < 0.5 for k, p in model.named_parameters()}
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with masked(optimizer, model, mask) as handle:
            return handle.restore

    return [
        curve("saliency, over samples to forget", [128, 512, 2048, 8192 // scale], saliency, rounds),
        curve("SalUn, one epoch, over samples", [512, 1024, 2048, 4096 // scale], epoch, rounds),
        curve(
            "selection, over weights",
            [100_000, 1_000_000, 10_000_000 // scale, 30_000_000 // scale],
            selection,
            rounds,
        ),
        curve(
            "putting held weights back, over weights", [100_000, 1_000_000, 10_000_000 // scale], held, rounds
        ),
    ]
