"""Measure feature matrices: probes, neighbours, CKA, scatter and the distance of distributions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..tasks.predictions import PredictedSets
from .roc import auc

# Ridge penalty, as a share of the mean squared feature.
RIDGE = 1e-3
# Fewest samples of each kind for the member probe.
MIN_SAMPLES = 10
# Largest number of retain samples for probes and neighbours.
MAX_RETAIN = 20_000


def fewer_retained(count: int, seed: int) -> Tensor:
    """Return sorted positions of at most 20,000 of `count` retain samples, chosen by the seed."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:MAX_RETAIN].sort().values


def fit_probe(x: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Fit a linear probe: ridge regression on one-hot labels, with equal total weight for every class.

    Args:
        x: Features (N, D).
        y: Labels (N,).
        num_classes: Number of classes K.

    Returns:
        Weights (D + 1, K). The last row is the bias.
    """
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    weight = 1.0 / torch.bincount(y, minlength=num_classes).clamp(min=1).double()[y]
    xw = x * weight[:, None]
    gram = xw.T @ x
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram, xw.T @ nn.functional.one_hot(y, num_classes).double())


def apply_probe(weights: Tensor, x: Tensor) -> Tensor:
    """Return the outputs (N, K) of a probe on features (N, D)."""
    return torch.cat([x, torch.ones(len(x), 1)], 1).double() @ weights


def probe_accuracy(sets: PredictedSets) -> dict[str, float]:
    """Return the accuracy of a linear probe of the features on unseen samples, in percent.

    The probe is fitted to the features of all training samples, forgotten ones included, and weighs classes equally.

    Args:
        sets: Predictions with features, also on unseen samples of forgotten and of retained classes.

    Returns:
        "forgotten": accuracy on unseen samples of the forgotten classes. "retained": accuracy on those of the others.
    """
    weights = fit_probe(*training_features(sets), sets.forget.logits.shape[1])
    unseen = {"forgotten": sets.test_forgotten, "retained": sets.test}
    return {
        name: 100 * (apply_probe(weights, p.features).argmax(1) == p.labels).double().mean().item()
        for name, p in unseen.items()
    }


def training_features(sets: PredictedSets) -> tuple[Tensor, Tensor]:
    """Return features (N, D) and labels (N,) of forget and retain set."""
    both = (sets.forget, sets.retain)
    return torch.cat([p.features for p in both]), torch.cat([p.labels for p in both])


def member_probe(forget: Tensor, unseen: Tensor) -> float | None:
    """Return how well a linear probe separates the features of forget samples from those of unseen ones.

    Two probes are fitted, each on every other sample. Each one scores the other half.

    Args:
        forget: Features (n, D) of the forget set.
        unseen: Features (m, D) of unseen samples of the same kind.

    Returns:
        Mean AUC of the two probes, in [0, 1]. None below 10 samples of either kind.
    """
    if len(unseen) < MIN_SAMPLES or len(forget) < MIN_SAMPLES:
        return None
    aucs = []
    for half in (0, 1):
        fitted_on = [t[half::2] for t in (forget, unseen)]
        y = torch.cat([torch.ones(len(fitted_on[0])), torch.zeros(len(fitted_on[1]))]).long()
        weights = fit_probe(torch.cat(fitted_on), y, 2)
        outputs = [apply_probe(weights, t[1 - half :: 2]) for t in (forget, unseen)]
        positive, negative = (o[:, 1] - o[:, 0] for o in outputs)
        aucs.append(auc(positive.numpy(), negative.numpy()))
    return float(np.mean(aucs))


def nearest_classes(train: Tensor, labels: Tensor, x: Tensor, num_classes: int, k: int = 5) -> Tensor:
    """Return the majority class of the nearest training features by cosine similarity.

    Args:
        train: Training features (N, D).
        labels: Training labels (N,).
        x: Features (n, D) to classify.
        num_classes: Number of classes.
        k: Number of neighbours. The nearer neighbours decide a tie.

    Returns:
        Classes (n,).
    """
    a, b = (nn.functional.normalize(t.double(), dim=1) for t in (train, x))
    k = min(k, len(a))
    votes = torch.zeros(len(b), num_classes, dtype=torch.float64)
    for start in range(0, len(b), 1024):
        near = (b[start : start + 1024] @ a.T).topk(k, dim=1)
        # a nearer neighbour's vote weighs slightly more, so it decides a tie
        weight = 1 + 1e-3 * near.values.clamp(-1, 1)
        votes[start : start + 1024].scatter_add_(1, labels[near.indices], weight)
    return votes.argmax(1)


def cka(a: Tensor, b: Tensor) -> float:
    """Return the linear centred kernel alignment of two feature matrices of the same samples.

    Args:
        a: Features (n, D).
        b: Features (n, E).

    Returns:
        A value in [0, 1]. 1 means equal up to rotation and scale. NaN if one matrix is constant.

    Source: Kornblith et al., ICML 2019, arXiv:1905.00414, equation 5.
    """
    a, b = a.double() - a.double().mean(0), b.double() - b.double().mean(0)
    top = (a.T @ b).square().sum()
    return float(top / ((a.T @ a).norm() * (b.T @ b).norm()))


def scatter_ratio(x: Tensor, y: Tensor, classes: list[int]) -> float:
    """Return how far the samples of some classes lie from the others: Fisher's ratio with traces.

    The ratio is the squared distance of the two means over the mean squared distance of samples to their class mean.

    Args:
        x: Features (N, D).
        y: Labels (N,).
        classes: The classes to compare with all others.

    Returns:
        The ratio, or NaN if one of the two sides has no samples.
    """
    x, of_classes = x.double(), torch.isin(y, torch.tensor(classes))
    if not of_classes.any() or of_classes.all():
        return float("nan")
    between = (x[of_classes].mean(0) - x[~of_classes].mean(0)).square().sum()
    within = torch.cat([(x[y == k] - x[y == k].mean(0)).square().sum(1) for k in y.unique()]).mean()
    return float(between / within)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Return the total variation distance of two distributions (K,): half the sum of |p - q|, in [0, 1]."""
    return float((p - q).abs().sum() / 2)
