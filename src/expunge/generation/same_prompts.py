"""Find prompts that differ as words but not for the pipeline: an erasure of one would erase the other, or nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from .concepts import Erasure
from .prompted import Prompted

# Embeddings of equal tokens may differ in their last bits on a GPU.
ROUNDING = 1e-6


def same_prompt_problems(model: Prompted, erasure: Erasure) -> list[str]:
    """Return a sentence for each anchor, kept concept or other concept that is the concept itself to the pipeline.

    Args:
        model: The denoiser with the conditions `erasure.prompts(...)`, in order.
        erasure: The words.
    """
    plain = model.labels is not None
    prompts, mine = erasure.prompts(plain), erasure.concepts(plain)
    paired = 2 * len(mine)
    problems: dict[tuple[str, str], str] = {}
    for one in mine:
        for other in range(len(prompts)):
            pair = _word(erasure, one, plain), _word(erasure, other, plain)
            # a concept that is another one is named once
            if (
                other == one
                or pair in problems
                or pair[::-1] in problems
                or (other in mine and pair[0] == pair[1])
            ):
                continue
            if reason := _sameness(model, one, other):
                role = (
                    "the concept" if other in mine else "the anchor" if other < paired else "the kept concept"
                )
                shown = f"'{_short(prompts[one])}' and '{_short(prompts[other])}'"
                problems[pair] = (
                    f"the concept '{_short(pair[0])}' and {role} '{_short(pair[1])}' are the same to the pipeline: {shown} "
                    f"{reason}, so one cannot be erased while the other stays. Name other words."
                )
    return list(problems.values())


def _word(erasure: Erasure, condition: int, plain: bool) -> str:
    """Return the concept, anchor or kept concept that a condition is made of."""
    paired = 2 * len(erasure.concepts(plain))
    if condition >= paired:
        return erasure.keep[(condition - paired) // (1 if plain else len(erasure.templates))]
    of_kind = erasure.anchors if condition % 2 else erasure.words
    return of_kind[condition // 2 % len(erasure.words)]


def _sameness(model: Prompted, one: int, other: int) -> str:
    """Return in which respect two conditions are equal. Empty if they differ."""
    if model.labels is not None:
        return "are one class" if model.labels[one] == model.labels[other] else ""
    if model.token_ids and model.token_ids[one] == model.token_ids[other]:
        return "have equal tokens"
    tables = [table for table in (model.prompts, model.pooled) if table is not None]
    return "have equal embeddings" if all(_equal(t[one], t[other]) for t in tables) else ""


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= ROUNDING * torch.maximum(one.abs().max(), other.abs().max()))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
