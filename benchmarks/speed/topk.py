"""The exact global top-k beside `np.partition`: both on one thread, turn by turn, on the same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from saliency import gradients
from timing import beside
from torch import Tensor

from expunge.masks.topk import top_k


def partitioned(scores: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Concatenate the magnitudes, find the smallest one to keep by `np.partition`, and compare with it.

    Ties at that value are all kept, so the mask may hold more than `count` parameters.
    """
    flat = np.concatenate([s.numpy().ravel() for s in scores.values()])
    np.abs(flat, out=flat)
    least = np.partition(flat, len(flat) - count)[len(flat) - count]
    return {n: s.abs() >= float(least) for n, s in scores.items()}


def measure(size: int, rounds: int, density: float = 0.5) -> dict[str, Any]:
    """Time one mask of `size` parameters by each of the two ways, after one turn that does not count."""
    scores, count = gradients(size), round(density * size)
    seconds = beside(
        {"selection": lambda: top_k(scores, [count]), "np.partition": lambda: partitioned(scores, count)},
        rounds,
    )
    mask, other = top_k(scores, [count])[0], partitioned(scores, count)
    lowest = {name: clock["wall"]["low"] for name, clock in seconds.items()}
    return {
        "parameters": size,
        "density": density,
        "rounds": rounds,
        "same_answer": all(torch.equal(mask[n], other[n]) for n in mask),
        "lowest_seconds": lowest,
        "times_faster": lowest["np.partition"] / lowest["selection"],
        "seconds": seconds,
    }


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure 11 M and 50 M parameters."""
    return [measure(1_000_000, 3)] if quick else [measure(11_000_000, 15), measure(50_000_000, 9)]
