"""How well a generator forgot: what a judge sees in the images it draws, and how far those of kept classes are from real.

UA = 100 - share of the images asked for as a forgotten class that the judge takes for it; RA = share of the images of kept
classes that the judge takes for what was asked (both percent). UA alone means nothing, a generator of black squares has
100: beside it always stand RA, `FID_judge` and `KID_judge` of the kept classes, and `diversity`, the spread of the judge's
features within kept classes as a percentage of that of real images. Published: UA and entropy by a classifier in Heng and
Soh (arXiv:2305.10120) and Fan et al. (arXiv:2310.12508); distances there are Inception's.

Every model draws from the same starting noise. Images are clamped to [0, 1]; nothing is rescaled image by image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..generation.sampling import Sampler
from ..tasks.classification import Predictions
from ..tasks.diffusion import Diffusion
from .accuracy import AuditResult, worst_class
from .image_judge import Judge, distances
from .pictures import png

COLUMNS = 12  # images of a condition in a grid


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a model drew: `images` (N, C, H, W) in [0, 1], asked for as `labels` (N,), and what the judge says of them."""

    images: Tensor
    labels: Tensor
    said: Predictions
    split: Split
    real: Tensor  # the judge's features of real images of kept classes (R, D)
    real_labels: Tensor

    @property
    def forgotten(self) -> Tensor:
        """Which images were asked for as a forgotten class (N,), bool."""
        return torch.isin(self.labels, torch.tensor(self.split.forget_classes))

    @cached_property
    def scores(self) -> dict[str, Any]:
        """UA, RA, and what keeps them honest; see this file's head."""
        gone, said = self.forgotten, self.said
        p = said.probabilities[gone]
        asked = p.gather(1, self.labels[gone, None])[:, 0]
        found = {
            "UA": 100 - 100 * said.correct[gone].double().mean().item(),
            "RA": 100 * said.correct[~gone].double().mean().item(),
        }
        assert said.features is not None
        kept = said.features[~gone]
        found |= distances(self.real, kept)
        spread, real = self._spread(kept, self.labels[~gone]), self._spread(self.real, self.real_labels)
        found["diversity"] = 100 * spread / real
        found["entropy"] = -(p * p.clamp_min(1e-30).log()).sum(1).mean().item()
        found["confidence"] = 100 * asked.mean().item()
        return found

    @staticmethod
    def _spread(features: Tensor, labels: Tensor) -> float:
        """Mean over classes of the summed variance of features (N, D); classes of fewer than two images are left out."""
        groups = [features[labels == k] for k in labels.unique()]
        return torch.stack([g.double().var(0).sum() for g in groups if len(g) > 1]).mean().item()

    @property
    def per_class(self) -> list[float | None]:
        """Share of images that the judge takes for what was asked, each class (percent)."""
        right = self.said.correct.double()
        return [
            100 * right[self.labels == k].mean().item() if (self.labels == k).any() else None
            for k in range(self.split.num_classes)
        ]

    @property
    def redistribution(self) -> list[float]:
        """Share of the images asked for as forgotten that the judge takes for each class."""
        gone = self.forgotten
        return Predictions(self.said.logits[gone], self.labels[gone]).shares.tolist()

    def grid(self, columns: int = COLUMNS) -> str:
        """Some images of each class as a PNG in base64: a row a class, a column a seed."""
        width = min(columns, int(self.labels.bincount()[self.labels.unique()].min()))
        return png(torch.cat([self.images[self.labels == k][:width] for k in self.labels.unique()]), width)


def draw(
    model: nn.Module,
    split: Split,
    task: Diffusion,
    judge: Judge,
    *,
    sampler: Sampler | None = None,
    per_class: int = 50,
    seed: int = 0,
    decode: Any = None,
    images: Tensor | None = None,
) -> Drawn:
    """`per_class` images of every class from `model`, judged. `decode` makes images of what a model of latents draws.

    `images` are what it drew before, class after class; then nothing is drawn.
    """
    first = next(split.retain.take(torch.arange(1)).batches(1))
    shape = tuple(task.images(first).shape[1:])
    labels = torch.arange(split.num_classes).repeat_interleave(per_class)
    if images is None:
        images = (sampler or Sampler())(model, task, labels, shape, seed=seed)
        images = images if decode is None else decode(images)
    kept = split.retain
    batches = [(task.images(b), b.y) for b in kept.batches(512)]
    real = torch.cat([decode(x) if decode is not None else x for x, _ in batches])
    y = torch.cat([y for _, y in batches])
    seen = judge.predict(real, y)
    assert seen.features is not None
    return Drawn(images, labels, judge.predict(images, labels), split, seen.features, y)


def audit_generator(
    drawn: Drawn,
    judge: Judge,
    *,
    original: Drawn | None = None,
    retrained: Drawn | None = None,
    names: dict[str, str] | None = None,
) -> AuditResult:
    """Scores, pictures and limits of what an unlearned model drew, beside the original's and a retrained model's images.

    `names` may rename the pictures: {"original": ..., "unlearned": ..., "retrained": ...}.
    """
    models = (("original", original), ("unlearned", drawn), ("retrained", retrained))
    given = {k: d for k, d in models if d is not None}
    scores = dict(drawn.scores)
    limits = [
        f"The judge is a classifier that recognises {judge.accuracy:.1f} % of real test images; UA and RA are its word.",
        "FID_judge and KID_judge are taken in the judge's features: they do not compare with published FIDs.",
    ]
    if retrained is not None:
        gap = {k: abs(scores[k] - retrained.scores[k]) for k in ("UA", "RA")}
        scores["gap"] = {**gap, "avg": sum(gap.values()) / len(gap)}
    else:
        limits.append(
            "No retrained model was given: what one that never saw the class draws for it cannot be said."
        )
    details: dict[str, Any] = {
        "images": _pictures(given, names or {}),
        "per_class": {k: d.per_class for k, d in given.items()},
        "redistribution": {k: d.redistribution for k, d in given.items()},
        "judge": {"accuracy": judge.accuracy, "images": len(drawn.labels), "real": len(drawn.real)},
        "limits": limits,
    }
    if original is not None:
        details["worst_class"] = worst_class(original.per_class, drawn.per_class, drawn.split.forget_classes)
    return AuditResult(scores, details, limits)


def _pictures(given: dict[str, Drawn], names: dict[str, str]) -> list[dict[str, str]]:
    """A grid of each model's images, with a title and a note."""
    titles = {"original": "before", "unlearned": "after", "retrained": "retrained without the class", **names}
    split = next(iter(given.values())).split
    classes = split.forget.data.classes or list(map(str, range(split.num_classes)))
    gone = ", ".join(classes[k] for k in split.forget_classes)
    note = f"a row a class, forgotten: {gone}; a column a seed, the same in each picture"
    return [{"title": titles[k], "png": d.grid(), "note": note} for k, d in given.items()]
