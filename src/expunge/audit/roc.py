"""Measure how well scores separate two sets: the area under the ROC curve, and its left end.

Own code: the area takes four lines, and scipy or scikit-learn would save one. `rankdata` adds the import of scipy.stats,
and `roc_auc_score` refuses infinite scores.
"""

from __future__ import annotations

import numpy as np


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the exact area under the ROC curve.

    The area is the probability that a positive scores above a negative. A tie counts one half.

    Args:
        positive: Scores (n,) of the positives.
        negative: Scores (m,) of the negatives.

    Returns:
        The area, in [0, 1]. 0.5 means that the scores do not separate the two sets.
    """
    order = np.sort(np.asarray(negative))
    below = np.searchsorted(order, positive, side="left").astype(np.float64)
    ties = np.searchsorted(order, positive, side="right") - below
    return float((below + ties / 2).mean() / len(order))


def tpr_at_fpr(positive: np.ndarray, negative: np.ndarray, fpr: float) -> float:
    """Return the largest true-positive rate of any threshold whose false-positive rate is at most `fpr`.

    This shows what an attack achieves when it may raise few false alarms.

    Args:
        positive: Scores (n,) of the positives.
        negative: Scores (m,) of the negatives.
        fpr: Allowed false-positive rate, in [0, 1].

    Returns:
        The true-positive rate, in [0, 1].

    Source: Carlini et al., IEEE S&P 2022, arXiv:2112.03570.
    """
    allowed = int(np.floor(fpr * len(negative) + 1e-12))
    order = np.sort(np.asarray(negative))[::-1]
    if allowed >= len(order):
        return 1.0
    return float((np.asarray(positive) > order[allowed]).mean())
