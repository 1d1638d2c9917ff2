"""The label-only attack: question one model by the labels of altered inputs.

A model that hides its confidences is still open to this attack. The result means something only beside Retrain's.

Source: Choquette-Choo et al., ICML 2021, arXiv:2007.14321.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..data.samples import Samples
from ..data.split import Split
from ..data.transforms import CropFlip
from ..errors import ExpungeError
from ..tasks.classification import Classification
from ..torch_utils.module_state import device_of, evaluating
from .mia import members_and_nonmembers, threshold_attack
from .roc import auc

# Standard deviations of the noise, in units of the standard deviation of the inputs.
NOISES = (0.05, 0.1, 0.2, 0.3)


def label_only(
    model: nn.Module, split: Split, task: Classification, *, seed: int = 0, **options: Any
) -> dict[str, float]:
    """Run the label-only attack on one model.

    Args:
        model: The model to attack.
        split: The split of the audit.
        task: The task of the model.
        seed: Seed of the noise, and of the choice of members and non-members.
        **options: Options of `robustness`.

    Returns:
        "nonmember": percentage of the forget set that the attack classifies as non-member. Its threshold is set between
        retain and test samples. "auc": how well robustness separates forget samples from unseen ones. For class-wise
        forgetting, the unseen samples are of the forgotten classes. 0.5 means not at all.

    Raises:
        ExpungeError: If the inputs are not floating-point tensors.

    Example:
        >>> label_only(model, split, task)
        {'nonmember': 12.5, 'auc': 0.51}
    """
    members, nonmembers = members_and_nonmembers(len(split.retain), len(split.test), seed=seed)
    sets = [
        split.retain.take(torch.from_numpy(members)),
        split.test.take(torch.from_numpy(nonmembers)),
        split.forget,
    ]
    if len(split.test_forgotten):
        sets.append(split.test_forgotten)
    scale = deviation(split.retain)
    scores = [robustness(model, s, task, scale=scale, seed=seed, **options) for s in sets]
    unseen = scores[3] if len(scores) > 3 else scores[1]
    return {"nonmember": threshold_attack(*scores[:3]), "auc": auc(scores[2], unseen)}


def robustness(
    model: nn.Module,
    samples: Samples,
    task: Classification,
    *,
    copies: int = 8,
    noises: tuple[float, ...] = NOISES,
    scale: float | None = None,
    seed: int = 0,
    batch_size: int = 1024,
) -> np.ndarray:
    """Return the share of altered copies of each sample that the model still labels correctly.

    Members lie further from the decision boundary, so their share is higher. Copies have Gaussian noise. Copies of
    images are also shifted by up to two pixels. The attack reads only labels.

    Args:
        model: The model to attack.
        samples: The samples to alter.
        task: The task of the model.
        copies: Number of copies for each noise, and number of shifted copies.
        noises: Standard deviations of the noise, in units of `scale`.
        scale: Unit of the noise. By default, the standard deviation of the samples.
        seed: Seed of noise and shifts.
        batch_size: Number of samples in one forward pass.

    Returns:
        Shares (n,), in [0, 1].

    Raises:
        ExpungeError: If the inputs are not floating-point tensors.
    """
    device, generator = device_of(model), torch.Generator().manual_seed(seed)
    unit = scale if scale is not None else deviation(samples)
    shift = CropFlip(pad=2, flip=False)
    shares = []
    with evaluating(model), torch.inference_mode():
        for batch in samples.batches(batch_size, device=device):
            x = _inputs(batch)
            altered = [
                x + s * unit * torch.randn(x.shape, generator=generator).to(x)
                for s in noises
                for _ in range(copies)
            ]
            altered += [shift(x, generator) for _ in range(copies if x.ndim == 4 else 0)]
            correct = torch.stack([task.logits(model, copy).argmax(1) == batch.y for copy in altered])
            shares.append(correct.double().mean(0).cpu())
    return torch.cat(shares).numpy()


def deviation(samples: Samples) -> float:
    """Return the standard deviation of the inputs of the first 1024 samples."""
    return float(_inputs(next(samples.batches(1024))).std())


def _inputs(batch: Batch) -> Tensor:
    if not isinstance(batch.x, Tensor) or not batch.x.is_floating_point():
        raise ExpungeError(
            "the label-only attack adds noise to inputs, but these inputs are not floating-point tensors; "
            "leave out 'label-only'."
        )
    return batch.x
