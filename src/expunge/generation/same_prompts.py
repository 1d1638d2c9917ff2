"""Find prompts that differ as words but not for the pipeline: an erasure of one would erase the other, or nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from .concepts import Erasure
from .prompted import Prompted

# Embeddings of equal tokens may differ in their last bits on a GPU.
ROUNDING = 1e-6


def same_prompt_problems(model: Prompted, erasure: Erasure) -> list[str]:
    """Return a sentence for the anchor and for each kept concept that is the concept itself to the pipeline.

    Args:
        model: The denoiser with the conditions `erasure.prompts(...)`, in order.
        erasure: The words.
    """
    plain = model.labels is not None
    prompts = erasure.prompts(plain)
    templates = 1 if plain else len(erasure.templates)
    of_anchor = [(2 * k + 1, erasure.anchor) for k in range(templates)]
    of_kept = [
        (2 * templates + k * templates + t, w) for k, w in enumerate(erasure.keep) for t in range(templates)
    ]
    problems: dict[str, str] = {}
    for mine in erasure.concepts(plain):
        for other, word in of_anchor + of_kept:
            if word not in problems and (reason := _sameness(model, mine, other)):
                role = "the anchor" if other < 2 * templates else "the kept concept"
                shown = f"'{_short(prompts[mine])}' and '{_short(prompts[other])}'"
                problems[word] = (
                    f"the concept '{_short(erasure.concept)}' and {role} '{_short(word)}' are the same to the pipeline: {shown} "
                    f"{reason}, so one cannot be erased while the other stays. Name other words, or shorten the template."
                )
    return list(problems.values())


def _sameness(model: Prompted, one: int, other: int) -> str:
    """Return in which respect two conditions are equal. Empty if they differ."""
    if model.labels is not None:
        return "are one class" if model.labels[one] == model.labels[other] else ""
    if model.token_ids and model.token_ids[one] == model.token_ids[other]:
        length = len(model.token_ids[one][0])
        return f"have equal tokens (a prompt is cut after {length} tokens)"
    tables = [table for table in (model.prompts, model.pooled) if table is not None]
    return "have equal embeddings" if all(_equal(t[one], t[other]) for t in tables) else ""


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= ROUNDING * torch.maximum(one.abs().max(), other.abs().max()))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
