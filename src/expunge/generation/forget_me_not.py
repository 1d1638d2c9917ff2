"""Forget-Me-Not: take the attention away from the concept's words.

Zhang, Wang, Xu, Wang, Shi, "Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models", arXiv:2303.17591.

Published: on images of the concept, noised, the norm of the cross-attention maps at the concept's tokens is minimised, in all
cross-attention layers; 35 steps at 2e-6. Ours: the mean over layers, heads and places of the squared attention that the
concept's tokens get together. It lies outside of `methods/`, since it serves only models that attend to words
(`text_to_image.Prompted` with its `tokens`); use it by `erase`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError, raise_all
from ..training.method import GradientMethod
from ..training.run import Run

if TYPE_CHECKING:
    from ..tasks.diffusion import Diffusion


class _Seen:
    """A cross-attention processor of diffusers that also keeps its maps (B * heads, places, tokens)."""

    def __init__(self, maps: list[Tensor]):
        self.maps = maps

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        words = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(f(x))
            for f, x in ((attn.to_q, hidden_states), (attn.to_k, words), (attn.to_v, words))
        )
        self.maps.append(attn.get_attention_scores(query, key, attention_mask))
        out = attn.to_out[0](attn.batch_to_head_dim(torch.bmm(self.maps[-1], value)))
        out = attn.to_out[1](out)
        return (out + hidden_states if attn.residual_connection else out) / attn.rescale_output_factor


@contextmanager
def attention_maps(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside the block, the maps of every cross-attention layer (`attn2`), one after the other, as the model is called."""
    layers: list[Any] = [m for n, m in model.named_modules() if n.endswith(".attn2")]
    kept = [m.processor for m in layers]
    maps: list[Tensor] = []
    for layer in layers:
        layer.processor = _Seen(maps)
    try:
        yield maps
    finally:
        for layer, processor in zip(layers, kept, strict=True):
            layer.processor = processor


@dataclass(frozen=True, kw_only=True)
class ForgetMeNot(GradientMethod):
    """Forget-Me-Not: minimise the cross-attention that the concept's words get."""

    epochs: int = 4
    lr: float = 2e-6
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 8

    needs: ClassVar = ("noise",)
    data: ClassVar = ("forget",)
    schedule: ClassVar = "forget"

    def prepare(self, run: Run) -> None:
        """Raise `ModelError` for models without cross-attention, or with prompts in which the concept's words aren't marked."""
        raise_all(self.unmet(run.model, run.split.forget_classes), ModelError)

    @staticmethod
    def unmet(model: nn.Module, concepts: Sequence[int]) -> list[str]:
        """What the method lacks to erase these conditions of the model, a sentence each."""
        problems = []
        if not any(n.endswith(".attn2") for n, _ in model.named_modules()):
            problems.append(
                "the model has no cross-attention (attn2), so there is none to take away; use esd or concept_ablation."
            )
        tokens: Any = getattr(model, "tokens", None)
        if tokens is None:
            problems.append(
                "the model does not say which tokens are the concept's (`tokens`); open it by `Loaded.prompted(prompts, words)`."
            )
        elif bare := [k for k in concepts if not tokens[k].any()]:
            problems.append(
                f"the concept's words don't stand in prompts {bare} as the tokenizer reads them, so there is no attention to take "
                "away; write them as words of their own, as in 'a photo of a {}'."
            )
        if any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
            problems.append(
                "Forget-Me-Not reads the attention of the forward pass, which gradient checkpointing throws away; leave "
                "checkpointing out, and take a smaller batch_size or accumulate."
            )
        return problems

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        task: Diffusion = run.task  # type: ignore[assignment]
        noisy = task.draw(task.images(forget))
        with attention_maps(run.model) as maps:
            task.predict(run.model, noisy.x, noisy.t, forget.y)
        tokens: Tensor = run.model.tokens[forget.y].float()  # type: ignore[index, union-attr, assignment]
        return torch.stack([self.at_words(m, tokens).square().mean() for m in maps]).mean()

    @staticmethod
    def at_words(maps: Tensor, tokens: Tensor) -> Tensor:
        """Attention (B, heads, places) that the tokens marked in (B, L) get together, from maps (B * heads, places, L)."""
        split = maps.float().unflatten(0, (len(tokens), -1))
        return (split * tokens[:, None, None, :]).sum(-1)
