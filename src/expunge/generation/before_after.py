"""Picture grids: samples of a pipeline before and after an erasure, from the same noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import torch

from ..audit.pictures import png
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import SafeSampler, Sampler
from .erased import Erased


def grids(
    erased: Erased, sampler: Sampler, *, count: int = 6, seed: int = 0, safe: bool = False
) -> Iterator[dict[str, str]]:
    """Sample the original and the erased model on every prompt, from the same noise. A prompt of several conditions has one row.

    Args:
        erased: The result of `erase`.
        sampler: The sampler of both models.
        count: Images per prompt.
        seed: Seed of the noise.
        safe: Add a grid of the original under safe latent diffusion.

    Yields:
        One dict per grid, as soon as it is made: its `title`, the `png` as a data URL, and a `note`. Each row is a prompt.
    """
    task: Diffusion = erased.run.task  # type: ignore[assignment]
    # concepts with one anchor share its prompt
    prompts = list(dict.fromkeys(erased.prompts))
    conditions = torch.tensor([erased.prompts.index(p) for p in prompts]).repeat_interleave(count)
    note = "rows: " + ", ".join(f"“{p}”" for p in prompts)
    rows = [
        ("before", erased.original, sampler),
        (f"after {erased.record.method}", erased.model, sampler),
    ]
    if safe:
        rows.append(("before, drawn by safe latent diffusion", erased.original, safe_sampler(sampler)))
    for title, model, draw in rows:
        latents = draw(model, task, conditions, erased.loaded.shape, seed=seed)
        images = erased.loaded.decode(latents, sampler.batch_size)
        erased.loaded.offload()
        yield {"title": title, "png": png(images, count), "note": note}


def safe_sampler(sampler: Sampler, concept: int = 0) -> SafeSampler:
    """Return safe latent diffusion with the settings of `sampler`, steering away from condition `concept`."""
    return SafeSampler(concept=concept, **{f.name: getattr(sampler, f.name) for f in fields(Sampler)})
