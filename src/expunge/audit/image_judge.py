"""Who says what a generated image shows: a classifier trained here on the real images, named as such, and its features.

Inception features are what published FIDs rest on; where their weights are not at hand, distances in the judge's own
features say the same kind of thing on another scale, and are called `FID_judge` and `KID_judge`, never FID.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..data.tensors import TensorData
from ..errors import ExpungeError, MissingExtra
from ..methods.retrain import Retrain
from ..tasks.classification import Classification, Predictions
from ..torch_utils.module_state import evaluating
from ..training.execute import execute


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of the real images: `accuracy` in percent on real test images, on which its word rests."""

    model: nn.Module
    task: Classification
    accuracy: float
    name: str = "judge"

    def predict(self, images: Tensor, labels: Tensor, batch_size: int = 512) -> Predictions:
        """Logits and features of images (N, C, H, W) in [0, 1], with what was asked for (N,)."""
        samples = TensorData(images, labels).samples()
        return self.task.predict(self.model, samples, features=True, batch_size=batch_size)


def train_judge(
    split: Split,
    factory: Callable[[], nn.Module],
    recipe: Retrain,
    *,
    seed: int = 0,
    least: float = 80.0,
    **options: Any,
) -> Judge:
    """A judge trained on forget and retain set together, and tested on all test samples, the forgotten class among them.

    `options` are those of `execute`, such as compute and state_file. Raises `ExpungeError` if it is too weak to be believed,
    at under `least` percent of real test images.
    """
    task = Classification(split.num_classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = factory()
    run = execute(model, split.for_original, recipe, task, seed=seed, factory=lambda: model, **options)
    right = torch.cat(
        [task.predict(run.model, s).correct for s in (split.test, split.test_forgotten) if len(s)]
    )
    judge = Judge(run.model.requires_grad_(False), task, 100 * right.double().mean().item())
    if judge.accuracy < least:
        raise ExpungeError(
            f"the judge recognises only {judge.accuracy:.1f} % of real test images; train it longer, or give a better one: "
            f"below {least:g} % it can't tell whether a class was forgotten."
        )
    return judge


class _Given(nn.Module):
    """Hands features through: the metrics of torchmetrics want a network, and ours has already looked."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def distances(
    real: Tensor, drawn: Tensor, *, subsets: int = 50, subset_size: int = 100, seed: int = 0
) -> dict[str, float]:
    """Frechet and kernel distance of features (N, D) of real and (M, D) of drawn images, by torchmetrics.

    Heusel et al., arXiv:1706.08500; Binkowski et al., arXiv:1801.01401 (cubic kernel, mean over random subsets). Raises
    `ExpungeError` for fewer than two images.
    """
    if min(len(real), len(drawn)) < 2:
        raise ExpungeError(
            f"{len(real)} real and {len(drawn)} drawn images came; distances of distributions need at least two of each."
        )
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ImportError as error:
        raise MissingExtra("the distance of drawn to real images", "diffusion") from error
    size = min(subset_size, len(real), len(drawn))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Metric `Kernel Inception Distance`"
        )  # of its memory: these are features, not images
        found: dict[str, Any] = {
            "FID_judge": FrechetInceptionDistance(feature=_Given(real.shape[1])),
            "KID_judge": KernelInceptionDistance(
                feature=_Given(real.shape[1]), subsets=subsets, subset_size=size
            ),
        }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for metric in found.values():
            metric.update(real.float(), real=True)
            metric.update(drawn.float(), real=False)
        fid, kid = found["FID_judge"].compute(), found["KID_judge"].compute()[0]
    return {"FID_judge": float(fid), "KID_judge": float(kid)}


def network_features(network: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """Features (N, D) of images (N, C, H, W) in [0, 1], on the CPU."""
    with evaluating(network), torch.inference_mode():
        found = [network(x.to(_place(network))).flatten(1).float().cpu() for x in images.split(batch_size)]
    return torch.cat(found)


def _place(network: nn.Module) -> torch.device:
    return next((t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu"))


def network_distances(
    real: Tensor, drawn: Tensor, network: nn.Module, name: str, batch_size: int = 64, **options: Any
) -> dict[str, float]:
    """Frechet and kernel distance of images (N, C, H, W) in [0, 1] in a network's features, as `FID_name` and `KID_name`.

    `network` gives features (B, D); with the Inception network that published FIDs use, if you have its weights, these
    are FID and KID as published (for the same numbers of images: both depend on them). `options` as for `distances`.
    """
    both = [network_features(network, x, batch_size) for x in (real, drawn)]
    return named_distances(both[0], both[1], name, **options)


def named_distances(real: Tensor, drawn: Tensor, name: str, **options: Any) -> dict[str, float]:
    """`distances` of features, called by the name of what gave them: `FID_name` and `KID_name`."""
    found = distances(real, drawn, **options)
    return {key.replace("judge", name): value for key, value in found.items()}
