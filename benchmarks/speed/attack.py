"""The SVM attack on true-class confidences beside scikit-learn's SVC."""

from __future__ import annotations

from typing import Any

import numpy as np
from timing import beside, ratio

from expunge.audit.mia import svm_attack


def confidences(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members, non-members and a forget set like those of a trained classifier: most near 1, non-members less so."""
    draw = np.random.default_rng(seed)
    sure = lambda n, sharp: 1 / (1 + np.exp(-draw.normal(sharp, 2.5, n)))  # noqa: E731
    return sure(size, 5.0), sure(size, 3.5), sure(size // 4, 4.0)


def measure(size: int, rounds: int) -> dict[str, Any]:
    """`size` members and as many non-members."""
    scores = confidences(size)
    parts = {
        "ours": lambda: svm_attack(*scores),
        "scikit-learn": lambda: svm_attack(*scores, solver="sklearn"),
    }
    seconds = beside(parts, rounds, warm=0)
    return {
        "samples": 2 * size, "seconds": seconds, "times_faster": ratio(seconds["scikit-learn"], seconds["ours"]),
        "percent": {n: part() for n, part in parts.items()},
    }  # fmt: skip


def run(quick: bool) -> list[dict[str, Any]]:
    """2,000 and 20,000 scores."""
    return [measure(500, 2)] if quick else [measure(1000, 5), measure(10_000, 3)]
