"""A pipeline's denoiser with a table of prompts, callable as every conditional diffusion model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Prompted(nn.Module):
    """Call a denoiser with the number of a prompt: `model(x_t, t, y)` gives the prediction (B, C, H, W).

    Row `y` of each table belongs to condition `y`. The last row is the null condition.

    Args:
        denoiser: The network of the pipeline.
        prompts: Text embeddings (K + 1, L, D). None for a DiT.
        pooled: Pooled text embeddings (K + 1, P) of Stable Diffusion XL.
        times: Size and crop (6,) that Stable Diffusion XL takes as a condition.
        labels: Classes (K + 1,) of a DiT.
        tokens: Bool (K + 1, L), true at the tokens of the concept's words.

    Attributes:
        token_ids: Token ids of each condition from every tokenizer. Empty for a DiT, and where they are unknown.
        text_layers: Names of the attention layers that attend to the text, once `text_layers` has found them.
        shares: While true, a deep copy shares the frozen parameters of this model. One copy of parameters that
            nobody trains is enough.
    """

    token_ids: Sequence[tuple[tuple[int, ...], ...]] = ()
    shares: bool = False
    text_layers: tuple[str, ...] | None = None

    prompts: Tensor | None
    pooled: Tensor | None
    times: Tensor | None
    labels: Tensor | None
    tokens: Tensor | None

    def __init__(
        self,
        denoiser: nn.Module,
        *,
        prompts: Tensor | None = None,
        pooled: Tensor | None = None,
        times: Tensor | None = None,
        labels: Tensor | None = None,
        tokens: Tensor | None = None,
    ):
        super().__init__()
        self.denoiser = denoiser
        tables = {"prompts": prompts, "pooled": pooled, "times": times, "labels": labels, "tokens": tokens}
        for name, value in tables.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict for noisy latents `x` (B, C, H, W), time steps `t` (B,) and conditions `y` (B,)."""
        # bfloat16 if the frozen parameters are held in it
        dtype = next(self.denoiser.parameters()).dtype
        x = x.to(dtype)
        if self.labels is not None:
            return self.denoiser(x, timestep=t, class_labels=self.labels[y]).sample
        assert self.prompts is not None
        conditions = {}
        if self.pooled is not None and self.times is not None:
            conditions["added_cond_kwargs"] = {
                "text_embeds": self.pooled[y].to(dtype),
                "time_ids": self.times.expand(len(y), -1),
            }
        return self.denoiser(x, t, encoder_hidden_states=self.prompts[y].to(dtype), **conditions).sample

    def with_denoiser(self, denoiser: nn.Module) -> Prompted:
        """Return another denoiser with the same prompts."""
        return Prompted(
            denoiser,
            prompts=self.prompts,
            pooled=self.pooled,
            times=self.times,
            labels=self.labels,
            tokens=self.tokens,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Prompted:
        if self.shares:
            memo.update((id(p), p) for p in self.parameters() if not p.requires_grad)
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone

    def train(self, mode: bool = True) -> Prompted:
        """Set the training mode, but keep a DiT's label dropout off: the task drops conditions."""
        super().train(mode)
        for module in self.modules():
            if type(module).__name__ == "LabelEmbedding":
                module.training = False
        return self
