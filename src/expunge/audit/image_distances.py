"""Measure the distance of generated images from real ones: Fréchet and kernel distance of features.

Published FIDs use features of an Inception network. If its parameters are not at hand, distances in the judge's features
say the same kind of thing on another scale. They are called `FID_judge` and `KID_judge`, never FID.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExpungeError, MissingExtra
from ..torch_utils.module_state import evaluating
from ..torch_utils.random_state import torch_seeded


class _GivenFeatures(nn.Module):
    """Return its input. torchmetrics wants a network, but the features are computed already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def distances(
    real: Tensor, generated: Tensor, *, subsets: int = 50, subset_size: int = 100, seed: int = 0
) -> dict[str, float]:
    """Compute the Fréchet and the kernel distance of features, with torchmetrics.

    Args:
        real: Features (N, D) of real images.
        generated: Features (M, D) of generated images.
        subsets: Number of random subsets for the kernel distance.
        subset_size: Number of images in a subset.
        seed: Seed of the subsets.

    Returns:
        "FID_judge" and "KID_judge". Both depend on the number of images.

    Raises:
        ExpungeError: If there are fewer than two real or generated images.
        MissingExtra: If torchmetrics is not installed.

    Source: Heusel et al., arXiv:1706.08500, for the Fréchet distance. Binkowski et al., arXiv:1801.01401, for the
    kernel distance (cubic kernel, mean over random subsets).
    """
    if min(len(real), len(generated)) < 2:
        raise ExpungeError(
            f"there are {len(real)} real and {len(generated)} generated images; give at least two of each, because the "
            "distance compares distributions."
        )
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ImportError as error:
        raise MissingExtra("the distance of generated to real images", "diffusion") from error
    size = min(subset_size, len(real), len(generated))
    with warnings.catch_warnings():
        # torchmetrics warns of the memory for images, but these are features
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")
        metrics: dict[str, Any] = {
            "FID_judge": FrechetInceptionDistance(feature=_GivenFeatures(real.shape[1])),
            "KID_judge": KernelInceptionDistance(
                feature=_GivenFeatures(real.shape[1]), subsets=subsets, subset_size=size
            ),
        }
    with torch_seeded(seed):
        for metric in metrics.values():
            metric.update(real.float(), real=True)
            metric.update(generated.float(), real=False)
        fid, kid = metrics["FID_judge"].compute(), metrics["KID_judge"].compute()[0]
    return {"FID_judge": float(fid), "KID_judge": float(kid)}


def named_distances(real: Tensor, generated: Tensor, name: str, **options: Any) -> dict[str, float]:
    """Compute `distances` and call them `FID_<name>` and `KID_<name>`, after the network that gave the features."""
    values = distances(real, generated, **options)
    return {key.replace("judge", name): value for key, value in values.items()}


def network_distances(
    real: Tensor, generated: Tensor, network: nn.Module, name: str, batch_size: int = 64, **options: Any
) -> dict[str, float]:
    """Compute the distances of images in the features of a network.

    With the Inception network of published FIDs, the results are FID and KID as published, for the same numbers of
    images.

    Args:
        real: Real images (N, C, H, W) in [0, 1].
        generated: Generated images (M, C, H, W) in [0, 1].
        network: Gives features (B, D) of images.
        name: Name of the network. The results are called `FID_<name>` and `KID_<name>`.
        batch_size: Number of images in one forward pass.
        **options: Options of `distances`.

    Returns:
        The two distances.

    Raises:
        ExpungeError: As `distances` does.

    Example:
        >>> network_distances(real, generated, inception, "inception")
        {'FID_inception': 12.3, 'KID_inception': 0.004}
    """
    features = [network_features(network, images, batch_size) for images in (real, generated)]
    return named_distances(features[0], features[1], name, **options)


def network_features(network: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """Return the features (N, D) of images (N, C, H, W) in [0, 1], on the CPU."""
    device = next((t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu"))
    with evaluating(network), torch.inference_mode():
        features = [network(x.to(device)).flatten(1).float().cpu() for x in images.split(batch_size)]
    return torch.cat(features)
