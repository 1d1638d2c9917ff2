"""What an erased pipeline draws beside what it drew before, prompt by prompt and from the same noise."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import torch

from ..audit.pictures import png
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import SafeSampler, Sampler

if TYPE_CHECKING:
    from .erase import Erased


def grids(
    erased: Erased, sampler: Sampler, *, count: int = 6, seed: int = 0, safe: bool = False
) -> list[dict[str, str]]:
    """Before and after: a row a prompt, a column a seed, the same in all pictures; `safe` adds safe latent diffusion's."""
    task: Diffusion = erased.run.task  # type: ignore[assignment]
    y = torch.arange(len(erased.prompts)).repeat_interleave(count)
    shape = tuple(task.images(next(erased.run.split.retain.take(torch.arange(1)).batches(1))).shape[1:])
    note = "rows: " + ", ".join(f"“{p}”" for p in erased.prompts)
    rows = [
        ("before", erased.original, sampler),
        (f"after {erased.record.method}", erased.model, sampler),
    ]
    if safe:
        rows.append(("before, drawn by safe latent diffusion", erased.original, filtered(sampler)))
    made = {title: tool(model, task, y, shape, seed=seed) for title, model, tool in rows}
    picture = lambda z: png(erased.loaded.decode(z, sampler.batch_size), count)  # noqa: E731
    return [{"title": title, "png": picture(z), "note": note} for title, z in made.items()]


def filtered(sampler: Sampler, concept: int = 0) -> SafeSampler:
    """The same sampler as safe latent diffusion that stays away from a condition."""
    return SafeSampler(concept=concept, **{f.name: getattr(sampler, f.name) for f in fields(Sampler)})
