"""Picture grids: samples of a pipeline before and after an erasure, from the same noise."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from ..audit.pictures import png
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import SafeSampler, Sampler
from .erased import Erased


def grids(
    erased: Erased, sampler: Sampler, *, count: int = 6, seed: int = 0, safe: bool = False
) -> list[dict[str, str]]:
    """Sample the original and the erased model on every prompt, from the same noise.

    Args:
        erased: The result of `erase`.
        sampler: The sampler of both models.
        count: Images per prompt.
        seed: Seed of the noise.
        safe: Add a grid of the original under safe latent diffusion.

    Returns:
        One dict per grid: its `title`, the `png` as a data URL, and a `note`. Each row is a prompt.
    """
    task: Diffusion = erased.run.task  # type: ignore[assignment]
    conditions = torch.arange(len(erased.prompts)).repeat_interleave(count)
    batch = next(erased.run.split.retain.take(torch.arange(1)).batches(1))
    shape = tuple(task.images(batch).shape[1:])
    note = "rows: " + ", ".join(f"“{p}”" for p in erased.prompts)
    rows = [
        ("before", erased.original, sampler),
        (f"after {erased.record.method}", erased.model, sampler),
    ]
    if safe:
        rows.append(("before, drawn by safe latent diffusion", erased.original, safe_sampler(sampler)))
    # sample everything before decoding: the autoencoder comes to the device only once
    latents = {title: sample(model, task, conditions, shape, seed=seed) for title, model, sample in rows}

    def picture(samples: Tensor) -> str:
        return png(erased.loaded.decode(samples, sampler.batch_size), count)

    return [{"title": title, "png": picture(z), "note": note} for title, z in latents.items()]


def safe_sampler(sampler: Sampler, concept: int = 0) -> SafeSampler:
    """Return safe latent diffusion with the settings of `sampler`, steering away from condition `concept`."""
    return SafeSampler(concept=concept, **{f.name: getattr(sampler, f.name) for f in fields(Sampler)})
