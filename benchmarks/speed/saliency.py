"""The mask from gradients: streaming selection beside the full argsort of the concatenated gradients."""

from __future__ import annotations

from typing import Any

import torch
from timing import PeakMemory, beside, ratio
from torch import Tensor

from expunge.masks.topk import top_k


def gradients(size: int) -> dict[str, Tensor]:
    """Tensors of very different scales, `size` values together, a tenth of them exactly zero (as of dead units)."""
    draw = torch.Generator().manual_seed(0)
    shares = [0.25, 0.2, 0.2, 0.15, 0.1, 0.05, 0.05]
    found = {}
    for number, share in enumerate(shares):
        found[f"w{number}"] = torch.randn(round(size * share), generator=draw).mul_(10.0**-number)
    found["w1"][: size // 10] = 0
    return found


def argsort(scores: dict[str, Tensor], density: float) -> dict[str, Tensor]:
    """Concatenate, sort everything once, set the first ones: the least that a sort can do."""
    flat = torch.cat([s.flatten() for s in scores.values()]).abs_()
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.argsort(descending=True, stable=True)[: round(density * len(flat))]] = True
    parts = chosen.split([s.numel() for s in scores.values()])
    return {n: p.view(s.shape) for (n, s), p in zip(scores.items(), parts, strict=True)}


def two_argsorts(scores: dict[str, Tensor], density: float) -> dict[str, Tensor]:
    """Ranks by an argsort of an argsort, masks of int64: the operations that SalUn's released code does per density."""
    flat = -torch.cat([s.flatten() for s in scores.values()]).abs_()
    ranks = flat.argsort().argsort()
    mask = (ranks < int(density * len(flat))).long()
    parts = mask.split([s.numel() for s in scores.values()])
    return {n: p.view(s.shape) for (n, s), p in zip(scores.items(), parts, strict=True)}


def measure(size: int, rounds: int, *, sorts: int = 0, warm: int = 1) -> dict[str, Any]:
    """One mask of density 0.5, and, by `sorts`, nine masks from one call (1), one argsort (1), and two (2)."""
    scores = gradients(size)
    half = round(0.5 * size)
    parts = {"select": lambda: top_k(scores, [half])}
    if sorts:
        parts["select nine"] = lambda: top_k(scores, [size * k // 10 for k in range(1, 10)])
        parts["argsort"] = lambda: argsort(scores, 0.5)
    if sorts > 1:
        parts["two argsorts"] = lambda: two_argsorts(scores, 0.5)
    top_k({"w": torch.ones(10)}, [5])  # so that the code itself is in memory
    with PeakMemory() as memory:
        mask = top_k(scores, [half])[0]
    answer = sum(m.numel() for m in mask.values())  # a byte each; not counted as extra
    seconds = beside(parts, rounds, warm)
    extra = max(0, memory.most - answer)
    found: dict[str, Any] = {
        "weights": size, "extra_bytes": extra, "extra_share": extra / (4 * size), "seconds": seconds,
        "nanoseconds_a_weight": 1e9 * seconds["select"]["wall"]["median"] / size,
    }  # fmt: skip
    if sorts:
        with PeakMemory() as memory:
            same = argsort(scores, 0.5)
        found["same_answer"] = all(torch.equal(mask[n], m) for n, m in same.items())
        found["argsort_extra_share"] = (memory.most - answer) / (4 * size)
        for n in ("argsort", "two argsorts")[:sorts]:
            found[f"times_faster_than_{n.replace(' ', '_')}"] = ratio(seconds[n], seconds["select"])
    return found


def run(quick: bool) -> list[dict[str, Any]]:
    """10 M, 100 M and 1,000 M weights; a sort of the last needs 28 GB and is left out."""
    if quick:
        return [measure(1_000_000, 3, sorts=2)]
    return [
        measure(10_000_000, 3, sorts=2),
        measure(100_000_000, 3, sorts=1),
        measure(1_000_000_000, 3),
    ]
