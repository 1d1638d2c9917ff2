"""The mask from gradients: streaming selection beside `np.partition` and a full argsort, all with the same answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from saliency import argsort, gradients
from timing import beside
from torch import Tensor

from expunge.masks.topk import top_k

PARAMETERS = (11_000_000, 50_000_000)


def partition(scores: dict[str, Tensor], density: float) -> dict[str, Tensor]:
    """Concatenate, find the threshold with `np.partition`, and give ties to the smaller position."""
    flat = np.abs(np.concatenate([s.numpy().ravel() for s in scores.values()]))
    count = round(density * len(flat))
    threshold = np.partition(flat, len(flat) - count)[len(flat) - count]
    chosen = flat > threshold
    chosen[np.flatnonzero(flat == threshold)[: count - np.count_nonzero(chosen)]] = True
    parts = torch.from_numpy(chosen).split([s.numel() for s in scores.values()])
    return {n: p.view(s.shape) for (n, s), p in zip(scores.items(), parts, strict=True)}


def measure(size: int, rounds: int) -> dict[str, Any]:
    """Time one mask of density 0.5 in interleaved rounds. The times that are compared are the lowest of each part."""
    scores = gradients(size)
    count = round(0.5 * size)
    flat = np.abs(np.concatenate([s.numpy().ravel() for s in scores.values()]))
    ways = {
        "selection": lambda: top_k(scores, [count])[0],
        "np.partition": lambda: partition(scores, 0.5),
        "argsort": lambda: argsort(scores, 0.5),
    }
    masks = [way() for way in ways.values()]
    equal = all(torch.equal(masks[0][n], mask[n]) for mask in masks for n in scores)
    del masks
    # the library call alone: it makes no mask, and the array of all magnitudes is at hand
    threshold_only = {"np.partition alone": lambda: np.partition(flat, size - count)}
    seconds = beside({**ways, **threshold_only}, rounds, warm=0)
    low = {name: clocks["cpu"]["low"] for name, clocks in seconds.items()}
    times = {name: low[name] / low["selection"] for name in low if name != "selection"}
    return {
        "parameters": size, "density": 0.5, "rounds": rounds, "same_answer": equal, "lowest_cpu_seconds": low,
        "times_selection": times, "seconds": seconds,
    }  # fmt: skip


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure both sizes, or a small one to see that it runs."""
    return [measure(size, 1 if quick else 3) for size in ((100_000,) if quick else PARAMETERS)]
