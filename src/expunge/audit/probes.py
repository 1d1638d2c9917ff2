"""Measures on feature matrices: tensors in, tensors and floats out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RIDGE = 1e-3  # of the mean squared feature


def probe(x: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """A linear probe (D + 1, K) of features (N, D): ridge regression on one-hot labels, every class
    weighing the same.
    """
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    weight = 1.0 / torch.bincount(y, minlength=num_classes).clamp(min=1).double()[y]
    xw = x * weight[:, None]
    gram = xw.T @ x
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram, xw.T @ nn.functional.one_hot(y, num_classes).double())


def probed(weights: Tensor, x: Tensor) -> Tensor:
    """The probe's outputs (N, K)."""
    return torch.cat([x, torch.ones(len(x), 1)], 1).double() @ weights


def neighbours(train: Tensor, labels: Tensor, x: Tensor, num_classes: int, k: int = 5) -> Tensor:
    """The majority class (n,) of the `k` nearest training features by cosine; ties go to the nearer ones."""
    a, b = (nn.functional.normalize(t.double(), dim=1) for t in (train, x))
    k = min(k, len(a))
    votes = torch.zeros(len(b), num_classes, dtype=torch.float64)
    for start in range(0, len(b), 1024):
        near = (b[start : start + 1024] @ a.T).topk(k, dim=1)
        # a vote and a little more for the nearer one
        weight = 1 + 1e-3 * near.values.clamp(-1, 1)
        votes[start : start + 1024].scatter_add_(1, labels[near.indices], weight)
    return votes.argmax(1)


def cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of two feature matrices of the same samples, in [0, 1] (Kornblith et
    al., ICML 2019, arXiv:1905.00414, equation 5): 1 for equal up to rotation and scale. NaN where one is
    constant."""
    a, b = a.double() - a.double().mean(0), b.double() - b.double().mean(0)
    top = (a.T @ b).square().sum()
    return float(top / ((a.T @ a).norm() * (b.T @ b).norm()))


def scatter_ratio(x: Tensor, y: Tensor, classes: list[int]) -> float:
    """How far the samples of `classes` stand from the others: distance between the two means squared, over
    the mean squared distance to the own class's mean (Fisher's ratio with traces)."""
    x, is_one = x.double(), torch.isin(y, torch.tensor(classes))
    if not is_one.any() or is_one.all():
        return float("nan")
    between = (x[is_one].mean(0) - x[~is_one].mean(0)).square().sum()
    within = torch.cat([(x[y == k] - x[y == k].mean(0)).square().sum(1) for k in y.unique()]).mean()
    return float(between / within)
