"""The token ids of prompts, as the tokenizers of a pipeline cut them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TokenIds = tuple[tuple[int, ...], ...]


def token_ids(pipeline: Any, prompts: Sequence[str]) -> list[TokenIds]:
    """Return the ids of each prompt from every tokenizer of a pipeline, cut to what its text encoder takes."""
    tokenizers = [getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2")]

    def ids(tokenizer: Any, prompt: str) -> tuple[int, ...]:
        length = tokenizer.model_max_length
        return tuple(tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids)

    return [tuple(ids(t, prompt) for t in tokenizers if t is not None) for prompt in prompts]
