"""Labels that number no classes, and labels that begin at 1: what they are, and how to number them from 0."""

from __future__ import annotations

import torch
from torch import Tensor

from .samples import Data


def class_label_problems(data: Data) -> list[str]:
    """Return one sentence if the labels of data are no class numbers (N,).

    Args:
        data: The data of a classifier.

    Example:
        >>> from .tensors import TensorData
        >>> class_label_problems(TensorData(torch.zeros(2, 3), torch.eye(2)))[0]
        'labels are one-hot, of shape (2, 2); give the number of the class of each sample, labels.argmax(1), shape (N,).'
    """
    if data.has_classes:
        return []
    labels = data.labels
    shape = tuple(labels.shape)
    if _is_one_hot(labels):
        return [
            f"labels are one-hot, of shape {shape}; give the number of the class of each sample, labels.argmax(1), shape (N,)."
        ]
    start = f"labels are {labels.dtype} of shape {shape}; give one whole number per sample, its class"
    if labels.ndim == 1 and not labels.is_complex() and torch.equal(labels.double(), labels.double().round()):
        return [f"{start}: labels.long(), shape (N,)."]
    return [f"{start}, shape (N,)."]


def begins_at_one(data: Data) -> str:
    """Return the sentence on labels from 1 on without class names. Class 0 has no samples then, which a model may well have."""
    if not data.has_classes or data.classes or not len(data) or int(data.labels.min()) != 1:
        return ""
    highest = int(data.labels.max())
    return (
        f"labels begin at 1 and go up to {highest}, so they are taken for {highest + 1} classes, of which class 0 has no sample; if the "
        f"model has {highest} classes, number them from 0: labels - 1."
    )


def _is_one_hot(labels: Tensor) -> bool:
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.is_complex():
        return False
    return bool(((labels == 0) | (labels == 1)).all()) and bool(((labels == 1).sum(1) == 1).all())
