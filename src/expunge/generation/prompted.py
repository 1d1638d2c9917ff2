"""A denoiser with a table of prompts, called as every conditional diffusion model here is."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


class Prompted(nn.Module):
    """A denoiser with a table of prompts: `model(x_t, t, y)` looks up row `y` and gives the prediction (B, C, H, W).

    `prompts` (K + 1, L, D) holds text embeddings, the last row that of the empty prompt; `pooled` (K + 1, P) and `times`
    (6,) are what XL wants besides; `labels` (K + 1,) are a DiT's classes, and then `prompts` is absent. `tokens` (K + 1, L)
    marks the words of a concept. While `shares` is true, copies hold the very same frozen weights instead of copies of them:
    of a network that nobody trains one is enough.
    """

    shares: bool = False

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
        given = {"prompts": prompts, "pooled": pooled, "times": times, "labels": labels, "tokens": tokens}
        for name, value in given.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        kind = next(self.denoiser.parameters()).dtype  # bfloat16 where frozen weights are held so
        x = x.to(kind)
        if self.labels is not None:
            return self.denoiser(x, timestep=t, class_labels=self.labels[y]).sample
        assert self.prompts is not None
        more = {}
        if self.pooled is not None and self.times is not None:
            more["added_cond_kwargs"] = {
                "text_embeds": self.pooled[y].to(kind),
                "time_ids": self.times.expand(len(y), -1),
            }
        return self.denoiser(x, t, encoder_hidden_states=self.prompts[y].to(kind), **more).sample

    def with_denoiser(self, denoiser: nn.Module) -> Prompted:
        """The same prompts before another denoiser."""
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
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def train(self, mode: bool = True) -> Prompted:
        """As every module; but a DiT's own dropping of labels stays off, since the task drops conditions where it should."""
        super().train(mode)
        for module in self.modules():
            if type(module).__name__ == "LabelEmbedding":
                module.training = False
        return self
