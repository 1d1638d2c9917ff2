"""Audit a class-conditional generator: what a judge recognises in its images, and how far these are from real ones.

UA means nothing alone: a generator of black squares has a UA of 100. RA, `FID_judge`, `KID_judge` and `diversity` of the
retained classes always stand beside it. Every model starts from the same noise. Images are clamped to [0, 1], and no
image is rescaled by itself.

Source: UA and entropy by a classifier are from Heng and Soh, arXiv:2305.10120, and Fan et al., arXiv:2310.12508. Their
distances use Inception features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..tasks.diffusion import Diffusion
from ..tasks.predictions import Predictions
from ..tasks.sampling import Sampler
from .image_distances import distances
from .image_judge import Judge
from .pictures import png
from .result import AuditResult
from .standard import worst_class

# Largest number of images of a class in a picture.
COLUMNS = 12


@dataclass(frozen=True, eq=False)
class JudgedImages:
    """Hold the images that a model generated, and what the judge recognises in them.

    Args:
        images: Images (N, C, H, W) in [0, 1].
        labels: The class (N,) that each image should show.
        predictions: The judge's predictions on the images.
        split: The split that the model unlearned.
        real_features: The judge's features (R, D) of real images of retained classes.
        real_labels: The classes (R,) of the real images.
    """

    images: Tensor
    labels: Tensor
    predictions: Predictions
    split: Split
    real_features: Tensor
    real_labels: Tensor

    @property
    def forgotten(self) -> Tensor:
        """Mask (N,) of the images that should show a forgotten class."""
        return torch.isin(self.labels, torch.tensor(self.split.forget_classes))

    @cached_property
    def scores(self) -> dict[str, Any]:
        """UA, RA, FID_judge, KID_judge, diversity, entropy and confidence.

        UA is 100 - share of images that should show a forgotten class and that the judge recognises as it. RA is the
        share of images of retained classes that the judge recognises as asked. The distances are of retained classes.
        Diversity is the variance of the judge's features within retained classes, in percent of real images'. Entropy
        (nats) and confidence (percent) are the judge's on images that should show a forgotten class.
        """
        forgotten, predictions = self.forgotten, self.predictions
        p = predictions.probabilities[forgotten]
        asked = p.gather(1, self.labels[forgotten, None])[:, 0]
        scores = {
            "UA": 100 - 100 * predictions.correct[forgotten].double().mean().item(),
            "RA": 100 * predictions.correct[~forgotten].double().mean().item(),
        }
        assert predictions.features is not None
        retained = predictions.features[~forgotten]
        scores |= distances(self.real_features, retained)
        variance = self._variance(retained, self.labels[~forgotten])
        scores["diversity"] = 100 * variance / self._variance(self.real_features, self.real_labels)
        scores["entropy"] = -(p * p.clamp_min(1e-30).log()).sum(1).mean().item()
        scores["confidence"] = 100 * asked.mean().item()
        return scores

    @staticmethod
    def _variance(features: Tensor, labels: Tensor) -> float:
        """Return the mean over classes of the summed variance of features (N, D). Skip classes with one image."""
        groups = [features[labels == k] for k in labels.unique()]
        return torch.stack([g.double().var(0).sum() for g in groups if len(g) > 1]).mean().item()

    @property
    def per_class(self) -> list[float | None]:
        """Share of images of each class that the judge recognises as asked, in percent."""
        correct = self.predictions.correct.double()
        return [
            100 * correct[self.labels == k].mean().item() if (self.labels == k).any() else None
            for k in range(self.split.num_classes)
        ]

    @property
    def redistribution(self) -> list[float]:
        """Share of the images that should show a forgotten class and that the judge recognises as each class."""
        forgotten = self.forgotten
        return Predictions(self.predictions.logits[forgotten], self.labels[forgotten]).shares.tolist()

    def grid(self, columns: int = COLUMNS) -> str:
        """Encode some images as one PNG in base64: one row for each class, one column for each seed."""
        width = min(columns, int(self.labels.bincount()[self.labels.unique()].min()))
        return png(torch.cat([self.images[self.labels == k][:width] for k in self.labels.unique()]), width)


def generate_and_judge(
    model: nn.Module,
    split: Split,
    task: Diffusion,
    judge: Judge,
    *,
    sampler: Sampler | None = None,
    per_class: int = 50,
    seed: int = 0,
    decode: Callable[[Tensor], Tensor] | None = None,
    images: Tensor | None = None,
) -> JudgedImages:
    """Generate images of every class with a model, and judge them.

    Args:
        model: The generator.
        split: The split that the model unlearned.
        task: The diffusion task.
        judge: The judge.
        sampler: The sampler. The default is `Sampler()`.
        per_class: Number of images of each class.
        seed: Seed of the starting noise.
        decode: Turns latents into images, for a model of latents.
        images: Images that the model generated before, class after class. They are judged, and none are generated.

    Returns:
        The images with the judge's predictions.

    Example:
        >>> generate_and_judge(model, split, Diffusion(10), judge, per_class=50).scores["UA"]
        98.0
    """
    decoded = decode if decode is not None else (lambda x: x)
    first = next(split.retain.take(torch.arange(1)).batches(1))
    shape = tuple(task.images(first).shape[1:])
    labels = torch.arange(split.num_classes).repeat_interleave(per_class)
    if images is None:
        images = decoded((sampler or Sampler())(model, task, labels, shape, seed=seed))
    batches = [(task.images(b), b.y) for b in split.retain.batches(512)]
    real, real_labels = torch.cat([decoded(x) for x, _ in batches]), torch.cat([y for _, y in batches])
    real_features = judge.predict(real, real_labels).features
    assert real_features is not None
    return JudgedImages(images, labels, judge.predict(images, labels), split, real_features, real_labels)


def audit_generator(
    unlearned: JudgedImages,
    judge: Judge,
    *,
    original: JudgedImages | None = None,
    retrained: JudgedImages | None = None,
    names: dict[str, str] | None = None,
) -> AuditResult:
    """Audit an unlearned generator beside the original and a retrained one.

    Args:
        unlearned: Judged images of the unlearned model.
        judge: The judge.
        original: Judged images of the original.
        retrained: Judged images of a model that was trained without the forgotten class. Without it, there is no gap.
        names: Titles of the pictures: {"original": ..., "unlearned": ..., "retrained": ...}.

    Returns:
        Scores, pictures and figures for the report, and limits.

    Example:
        >>> print(audit_generator(after, judge, original=before, retrained=reference))
    """
    models = (("original", original), ("unlearned", unlearned), ("retrained", retrained))
    given = {name: images for name, images in models if images is not None}
    scores = dict(unlearned.scores)
    limits = [
        f"The judge is a classifier. It recognises {judge.accuracy:.1f} % of real test images. UA and RA depend on it.",
        "FID_judge and KID_judge use the judge's features. They cannot be compared with published FIDs.",
    ]
    if retrained is not None:
        gap = {k: abs(scores[k] - retrained.scores[k]) for k in ("UA", "RA")}
        scores["gap"] = {**gap, "avg": sum(gap.values()) / len(gap)}
    else:
        limits.append(
            "No retrained model was given. The audit cannot tell what a model that never saw the class generates for it."
        )
    details: dict[str, Any] = {
        "images": _pictures(given, names or {}),
        "per_class": {name: images.per_class for name, images in given.items()},
        "redistribution": {name: images.redistribution for name, images in given.items()},
        "judge": {
            "accuracy": judge.accuracy,
            "images": len(unlearned.labels),
            "real": len(unlearned.real_features),
        },
        "limits": limits,
    }
    if original is not None:
        details["worst_class"] = worst_class(
            original.per_class, unlearned.per_class, unlearned.split.forget_classes
        )
    return AuditResult(scores, details, limits)


def _pictures(given: dict[str, JudgedImages], names: dict[str, str]) -> list[dict[str, str]]:
    """Return a picture of each model's images, with a title and a note."""
    titles = {"original": "before", "unlearned": "after", "retrained": "retrained without the class", **names}
    split = next(iter(given.values())).split
    classes = split.forget.data.classes or list(map(str, range(split.num_classes)))
    forgotten = ", ".join(classes[k] for k in split.forget_classes)
    note = (
        f"one row for each class, forgotten: {forgotten}; one column for each seed, the same in every picture"
    )
    return [{"title": titles[name], "png": images.grid(), "note": note} for name, images in given.items()]
