"""The token ids of prompts, as the tokenizers of a pipeline cut them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

TokenIds = tuple[tuple[int, ...], ...]


def _tokenizers(pipeline: Any) -> Iterator[Any]:
    for name in ("tokenizer", "tokenizer_2"):
        if (tokenizer := getattr(pipeline, name, None)) is not None:
            yield tokenizer


def limit_tokens(pipeline: Any) -> None:
    """Limit each tokenizer to the positions of its text encoder. Without its configuration a tokenizer has no limit."""
    for end in ("", "_2"):
        tokenizer, encoder = (getattr(pipeline, f"{n}{end}", None) for n in ("tokenizer", "text_encoder"))
        if tokenizer is not None and encoder is not None:
            positions = encoder.config.max_position_embeddings
            tokenizer.model_max_length = min(tokenizer.model_max_length, positions)


def token_ids(pipeline: Any, prompts: Sequence[str]) -> list[TokenIds]:
    """Return the ids of each prompt from every tokenizer of a pipeline, cut to what its text encoder takes."""

    def ids(tokenizer: Any, prompt: str) -> tuple[int, ...]:
        length = tokenizer.model_max_length
        return tuple(tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids)

    return [tuple(ids(t, prompt) for t in _tokenizers(pipeline)) for prompt in prompts]


def long_prompt_problems(pipeline: Any, prompts: Sequence[str]) -> list[str]:
    """Return a sentence for each prompt whose end the pipeline would cut off."""
    problems = []
    for prompt in dict.fromkeys(prompts):
        for tokenizer in _tokenizers(pipeline):
            count, limit = len(tokenizer(prompt, verbose=False).input_ids), tokenizer.model_max_length
            if count > limit:
                shown = prompt if len(prompt) <= 60 else f"{prompt[:57]}..."
                problems.append(
                    f"the prompt '{shown}' has {count} tokens, and the pipeline cuts it after {limit}; shorten the words or the "
                    "template."
                )
                break
    return problems
