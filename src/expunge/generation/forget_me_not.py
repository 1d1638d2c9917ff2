"""Forget-Me-Not: minimise the cross-attention to the concept's words.

Published: minimise the norm of the cross-attention maps at the concept's tokens, on noised images of the concept, in
all cross-attention layers. 35 steps at learning rate 2e-6.

Ours: the loss is the mean over layers, heads and positions of the squared attention to all tokens of the concept
together.

The method serves only models that attend to words (`Prompted` with `tokens`), so it is not in `methods/`. Use it with
`erase`.

Source: Zhang, Wang, Xu, Wang, Shi, "Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models",
arXiv:2303.17591.
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
from .cross_attention import text_layers
from .prompted import Prompted

if TYPE_CHECKING:
    from ..tasks.diffusion import Diffusion


class _RecordingProcessor:
    """Cross-attention processor of diffusers that appends its maps (B * heads, positions, tokens) to a list."""

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
def attention_maps(model: Prompted) -> Iterator[list[Tensor]]:
    """Collect the attention maps of every layer that attends to the text when the model is called inside the block.

    Args:
        model: The denoiser with its conditions.

    Yields:
        A list that grows by one map (B * heads, positions, tokens) per layer and call.
    """
    layers: list[Any] = [model.get_submodule(name) for name in text_layers(model)]
    processors = [m.processor for m in layers]
    maps: list[Tensor] = []
    for layer in layers:
        layer.processor = _RecordingProcessor(maps)
    try:
        yield maps
    finally:
        for layer, processor in zip(layers, processors, strict=True):
            layer.processor = processor


@dataclass(frozen=True, kw_only=True)
class ForgetMeNot(GradientMethod):
    """Minimise the cross-attention to the concept's words."""

    epochs: int = 4
    lr: float = 2e-6
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_size: int = 8

    needs: ClassVar = ("noise",)
    data: ClassVar = ("forget",)
    schedule: ClassVar = "forget"

    def prepare(self, run: Run) -> None:
        """Check the model.

        Raises:
            ModelError: If the model has no cross-attention or its prompts do not mark the concept's words.
        """
        raise_all(self.unmet(run.model, run.split.forget_classes), ModelError)

    @staticmethod
    def unmet(model: nn.Module, concepts: Sequence[int]) -> list[str]:
        """Return the reasons why the method cannot erase the conditions `concepts` of the model."""
        problems = []
        if not isinstance(model, Prompted) or not text_layers(model):
            problems.append(
                "the model has no cross-attention, which this method minimises; use esd or concept_ablation."
            )
        elif any(getattr(model.get_submodule(n), "add_k_proj", None) is not None for n in text_layers(model)):
            problems.append(
                "the layers that attend to the text also attend to the image (add_k_proj), and this method cannot tell their "
                "maps apart; use esd or concept_ablation."
            )
        tokens: Any = getattr(model, "tokens", None)
        if tokens is None:
            problems.append(
                "the model does not mark the tokens of the concept (`tokens`); make it with "
                "`Loaded.prompted(prompts, words)`."
            )
        elif unmarked := [k for k in concepts if not tokens[k].any()]:
            problems.append(
                f"the concept's words are not among the tokens of prompts {unmarked}; separate them by spaces, as in "
                "'a photo of a {}'."
            )
        if any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
            problems.append(
                "gradient checkpointing discards the attention maps that Forget-Me-Not minimises; turn it off. "
                "To save memory, use a smaller batch_size or accumulate."
            )
        return problems

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None
        task: Diffusion = run.task  # type: ignore[assignment]
        noisy = task.add_random_noise(task.images(forget))
        with attention_maps(run.model) as maps:  # type: ignore[arg-type]
            task.predict(run.model, noisy.x, noisy.t, forget.y)
        tokens: Tensor = run.model.tokens[forget.y].float()  # type: ignore[index, union-attr, assignment]
        return torch.stack([self.at_words(m, tokens).square().mean() for m in maps]).mean()

    @staticmethod
    def at_words(maps: Tensor, tokens: Tensor) -> Tensor:
        """Sum the attention over the marked tokens.

        Args:
            maps: Attention maps (B * heads, positions, L).
            tokens: Marks (B, L), true at the concept's tokens.

        Returns:
            The attention (B, heads, positions).
        """
        by_sample = maps.float().unflatten(0, (len(tokens), -1))
        return (by_sample * tokens[:, None, None, :]).sum(-1)
