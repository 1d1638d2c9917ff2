"""Text-to-image pipelines of diffusers as models that the toolkit knows: prompts and latents encoded once, then cached.

A pipeline's denoiser (the UNet of Stable Diffusion 1.x, 2.x or XL, or a class-conditional DiT) becomes a `Prompted`
model, called as `model(x_t, t, y)` with `y` the number of a prompt: the same loop, masks, methods and attacks serve it as
serve class-conditional models. Folders are those of `save_pretrained`, in and out. Nothing is fetched from a hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .data import TensorData
from .diffusion import Diffusion
from .errors import ExpungeError, ModelError

SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}


class Prompted(nn.Module):
    """A denoiser with a table of prompts: `model(x_t, t, y)` looks up row `y` and gives the prediction (B, C, H, W).

    `prompts` (K + 1, L, D) holds text embeddings, the last row that of the empty prompt; `pooled` (K + 1, P) and `times`
    (6,) are what XL wants besides; `labels` (K + 1,) are a DiT's classes, and then `prompts` is absent. `tokens` (K + 1, L)
    marks the words of a concept.
    """

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

    def train(self, mode: bool = True) -> Prompted:
        """As every module; but a DiT's own dropping of labels stays off, since the task drops conditions where it should."""
        super().train(mode)
        for module in self.modules():
            if type(module).__name__ == "LabelEmbedding":
                module.training = False
        return self


@dataclass(frozen=True, eq=False)
class Loaded:
    """A pipeline folder, opened: the pipeline, its kind, and the task its scheduler describes."""

    pipeline: Any
    kind: Literal["unet", "xl", "dit"]
    folder: Path

    @property
    def denoiser(self) -> nn.Module:
        """The network that is unlearned."""
        return self.pipeline.transformer if self.kind == "dit" else self.pipeline.unet

    @property
    def size(self) -> int:
        """Side of the latents."""
        return int(self.denoiser.config.sample_size)  # type: ignore[union-attr, arg-type]

    def task(self, count: int, condition_drop: float = 0.1) -> Diffusion:
        """The task for `count` prompts, with the noise levels that the pipeline was trained with.

        Raises `ModelError` for schedulers without betas, as of flow matching.
        """
        config = self.pipeline.scheduler.config
        problems = [
            f"the scheduler's {k} is {config.get(k)!r}; known: {', '.join(known)}."
            for k, known in (
                ("beta_schedule", SCHEDULES),
                ("prediction_type", ("epsilon", "v_prediction", "sample")),
            )
            if config.get(k) not in known
        ]
        if problems:
            raise ModelError(problems)
        return Diffusion(
            count,
            steps=config.num_train_timesteps,
            beta_start=config.beta_start,
            beta_end=config.beta_end,
            beta_schedule=SCHEDULES[config.beta_schedule],  # type: ignore[arg-type]
            prediction=config.prediction_type,  # type: ignore[arg-type]
            condition_drop=condition_drop,
            pixels=False,
        )

    @torch.no_grad()
    def prompted(self, prompts: Sequence[str], words: str = "") -> Prompted:
        """The denoiser with the embeddings of `prompts` and of the empty prompt; `words` are marked where they stand in them.

        Raises `ExpungeError` for names that a DiT has no class for, all at once.
        """
        if self.kind == "dit":
            return Prompted(self.denoiser, labels=self._labels(prompts))
        rows = [self._encode(p) for p in [*prompts, ""]]
        embeddings = torch.cat([r[0] for r in rows])
        marked = (
            torch.stack([self._mark(p, words) for p in [*prompts, ""]]).to(embeddings.device)
            if words
            else None
        )
        if self.kind == "unet":
            return Prompted(self.denoiser, prompts=embeddings, tokens=marked)
        side = float(self.size * self.pipeline.vae_scale_factor)
        times = torch.tensor(
            [side, side, 0.0, 0.0, side, side], dtype=embeddings.dtype, device=embeddings.device
        )
        return Prompted(
            self.denoiser,
            prompts=embeddings,
            pooled=torch.cat([r[1] for r in rows]),
            times=times,
            tokens=marked,
        )

    def _mark(self, prompt: str, words: str) -> Tensor:
        """Which tokens of the prompt (L,) are those of `words`, bool."""
        tokenizer = self.pipeline.tokenizer
        size = tokenizer.model_max_length
        ids = tokenizer(prompt, padding="max_length", max_length=size, truncation=True).input_ids
        own = tokenizer(words).input_ids[1:-1]  # without start and end
        found = torch.zeros(size, dtype=torch.bool)
        for k in range(size - len(own) + 1):
            if ids[k : k + len(own)] == own:
                found[k : k + len(own)] = True
        return found

    def _encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        device = next(self.denoiser.parameters()).device
        found = self.pipeline.encode_prompt(
            prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return found[0], found[2] if self.kind == "xl" else torch.empty(0)

    def _labels(self, names: Sequence[str]) -> Tensor:
        known, count = self.pipeline.labels, int(self.denoiser.config.num_embeds_ada_norm)  # type: ignore[union-attr, arg-type]
        found = [known.get(n, int(n) if n.isdigit() and int(n) < count else None) for n in names]
        if missing := [n for n, k in zip(names, found, strict=True) if k is None]:
            raise ExpungeError(
                f"the pipeline has no classes {missing}; known: {list(known)[:10] or 'no names'}, or numbers below {count}."
            )
        return torch.tensor([*found, count], device=next(self.denoiser.parameters()).device)

    @torch.no_grad()
    def encode(self, images: Tensor, batch_size: int = 16) -> Tensor:
        """Latents (N, c, h, w) of images (N, 3, H, W) in [0, 1]: the mean of the encoder's answer, scaled, on the CPU."""
        vae = self.pipeline.vae
        place = next(vae.parameters())
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        done = [vae.encode(x.to(place) * 2 - 1).latent_dist.mean for x in images.split(batch_size)]
        return ((torch.cat(done) - shift) * vae.config.scaling_factor).float().cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = 16) -> Tensor:
        """Images (N, 3, H, W) in [0, 1], on the CPU, of latents."""
        vae = self.pipeline.vae
        place = next(vae.parameters())
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        done = [
            vae.decode(z.to(place) / vae.config.scaling_factor + shift).sample
            for z in latents.split(batch_size)
        ]
        return (torch.cat(done).float().cpu() / 2 + 0.5).clamp(0, 1)

    def data(self, images: Tensor, conditions: Tensor, name: str) -> TensorData:
        """Images (N, 3, H, W) in [0, 1], one prompt's number each (N,), as latents that every step reuses."""
        return TensorData(self.encode(images), conditions, name=name)
