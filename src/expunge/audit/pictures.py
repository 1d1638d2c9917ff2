"""What a record keeps to be drawn: pictures as PNG in base64, some samples with what each model says, features in a plane."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.samples import Samples
from ..errors import MissingExtra

if TYPE_CHECKING:
    from .accuracy import Judged

SHOWN = {"forget": 150, "retain": 300, "test": 150}  # points of the 2-D picture
EXAMPLES = 12


def few(count: int, n: int) -> Tensor:
    """At most `n` of `count` positions, evenly spread and the same at each call."""
    return (
        torch.linspace(0, count - 1, min(n, count)).round().long()
        if count
        else torch.empty(0, dtype=torch.long)
    )


def embeddings(models: dict[str, Judged]) -> dict[str, Any]:
    """Penultimate features of some samples in the plane of their two largest principal components, for each model."""
    found: dict[str, Any] = {"label": [], "set": []}
    for number, (name, judged) in enumerate(models.items()):
        sets = {s: getattr(judged, s) for s in SHOWN}
        picked = {s: few(len(p.labels), SHOWN[s]) for s, p in sets.items()}
        if any(p.features is None for p in sets.values()):
            continue
        x = torch.cat([p.features[picked[s]] for s, p in sets.items()]).double()
        if not x.isfinite().all():  # of a model or of data that is broken: the scores show it
            continue
        _, _, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        plane = ((x - x.mean(0)) @ v[:2].T).round(decimals=3)
        if plane.shape[1] < 2:
            continue
        found[name] = {"x": plane[:, 0].tolist(), "y": plane[:, 1].tolist()}
        if not number:
            found["label"] = torch.cat([p.labels[picked[s]] for s, p in sets.items()]).tolist()
            found["set"] = [s for s in sets for _ in picked[s]]
    return found


def examples(models: dict[str, Judged]) -> list[dict[str, Any]]:
    """Some forget samples as pictures (where they are images) with what each model takes them for."""
    first = next(iter(models.values()))
    chosen = few(len(first.forget.labels), EXAMPLES)
    images = pictures(first.split.forget.take(chosen))
    names = first.split.forget.take(chosen).ids
    rows = []
    for place, image, name in zip(chosen.tolist(), images, names, strict=True):
        row: dict[str, Any] = {"png": image, "label": int(first.forget.labels[place]), "id": name}
        for which, judged in models.items():
            p = judged.forget.probabilities[place]
            row[which] = {"class": int(p.argmax()), "confidence": float(p.max())}
        rows.append(row)
    return rows


def pictures(samples: Samples) -> list[str | None]:
    """PNGs in base64 of image samples in [0, 1], or normalised by their data; None for anything else."""
    x = next(iter(samples.batches(len(samples)))).x
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] not in (1, 3):
        return [None] * len(samples)
    if samples.data.normalize is not None:
        x = samples.data.normalize.undo(x)
    return [png(image[None], 1) for image in x]


def png(images: Tensor, columns: int, gap: int = 1) -> str:
    """Images (N, C, H, W) in [0, 1], one or three channels, as one PNG in base64, `columns` to a row."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("drawing a picture", "images") from error
    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.full((c, rows * (h + gap) - gap, columns * (w + gap) - gap), 0.5)
    for k, image in enumerate(images):
        top, left = k // columns * (h + gap), k % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = image
    pixels = (sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if c == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
