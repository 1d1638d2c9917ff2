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

from ..data.tensors import TensorData
from ..errors import ExpungeError, ModelError, raise_all
from ..tasks.diffusion import Diffusion
from .prompted import Prompted

SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}


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
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.denoiser.parameters()).device

    def rest(self) -> None:
        """Leave the device to the denoiser: all else goes to the CPU until something asks for it."""
        for module in self.pipeline.components.values():
            if isinstance(module, nn.Module) and module is not self.denoiser:
                module.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def size(self) -> int:
        """Side of the latents."""
        return int(self.denoiser.config.sample_size)  # type: ignore[union-attr, arg-type]

    def task(self, count: int, condition_drop: float = 0.1) -> Diffusion:
        """The task for `count` prompts, with the noise levels that the pipeline was trained with.

        Levels of its own (`trained_betas`, or rescaled to end without signal) are taken from the scheduler as they are.
        Raises `ModelError` for schedulers without betas, as of flow matching.
        """
        scheduler, config = self.pipeline.scheduler, self.pipeline.scheduler.config
        own = config.get("trained_betas") is not None or bool(config.get("rescale_betas_zero_snr"))
        named = {} if own else {"beta_schedule": SCHEDULES}
        kinds = ("epsilon", "v_prediction", "sample")
        problems = [
            f"the scheduler's {k} is {config.get(k)!r}; known: {', '.join(known)}."
            for k, known in {**named, "prediction_type": kinds}.items()
            if config.get(k) not in known
        ]
        levels = tuple(scheduler.alphas_cumprod.tolist()) if own else None
        if levels and levels[-1] <= 2**-24 and config.get("prediction_type") == "epsilon":
            problems.append(
                "the scheduler's last step keeps no signal (rescale_betas_zero_snr), where predicted noise says nothing of the "
                "image; such pipelines predict v: correct prediction_type or rescale_betas_zero_snr in its config."
            )
        raise_all(problems, ModelError)
        common: dict[str, Any] = {"condition_drop": condition_drop, "pixels": False}
        common["prediction"] = config.prediction_type
        if levels:
            return Diffusion(count, steps=len(levels), levels=levels, **common)
        return Diffusion(
            count,
            steps=config.num_train_timesteps,
            beta_start=config.beta_start,
            beta_end=config.beta_end,
            beta_schedule=SCHEDULES[config.beta_schedule],  # type: ignore[arg-type]
            **common,
        )

    @torch.no_grad()
    def prompted(self, prompts: Sequence[str], words: str = "") -> Prompted:
        """The denoiser with the embeddings of `prompts` and of the null condition; `words` are marked where they stand in them.

        Null is what the pipeline itself guides away from: the empty prompt, and zeros for an XL that is made so.
        Raises `ExpungeError` for names that a DiT has no class for, all at once.
        """
        if self.kind == "dit":
            return Prompted(self.denoiser, labels=self._labels(prompts))
        rows = [self._encode(p) for p in [*prompts, ""]]
        if self.kind == "xl" and self.pipeline.config.get("force_zeros_for_empty_prompt"):
            rows[-1] = (torch.zeros_like(rows[-1][0]), torch.zeros_like(rows[-1][1]))
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
        for part in ("text_encoder", "text_encoder_2"):
            if (encoder := getattr(self.pipeline, part, None)) is not None:
                encoder.to(self.device)
        found = self.pipeline.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return found[0], found[2] if self.kind == "xl" else torch.empty(0)

    def _labels(self, names: Sequence[str]) -> Tensor:
        known, count = self.pipeline.labels, int(self.denoiser.config.num_embeds_ada_norm)  # type: ignore[union-attr, arg-type]
        known = {**known, "": count}  # no word, no class: null
        found = [known.get(n, int(n) if n.isdigit() and int(n) < count else None) for n in names]
        if missing := [n for n, k in zip(names, found, strict=True) if k is None]:
            raise ExpungeError(
                f"the pipeline has no classes {missing}; known: {list(known)[:-1][:10] or 'no names'}, or numbers below {count}."
            )
        return torch.tensor([*found, count], device=self.device)

    @torch.no_grad()
    def encode(self, images: Tensor, batch_size: int = 16) -> Tensor:
        """Latents (N, c, h, w) of images (N, 3, H, W) in [0, 1]: the mean of the encoder's answer, scaled, on the CPU."""
        vae = self.pipeline.vae.to(self.device)
        place = next(vae.parameters())
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        done = [vae.encode(x.to(place) * 2 - 1).latent_dist.mean.cpu() for x in images.split(batch_size)]
        return ((torch.cat(done) - shift) * vae.config.scaling_factor).float()

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = 16) -> Tensor:
        """Images (N, 3, H, W) in [0, 1], on the CPU, of latents."""
        vae = self.pipeline.vae.to(self.device)
        place = next(vae.parameters())
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        done = [
            vae.decode(z.to(place) / vae.config.scaling_factor + shift).sample.cpu()
            for z in latents.split(batch_size)
        ]
        return (torch.cat(done).float() / 2 + 0.5).clamp(0, 1)

    def data(self, images: Tensor, conditions: Tensor, name: str) -> TensorData:
        """Images (N, 3, H, W) in [0, 1], one prompt's number each (N,), as latents that every step reuses."""
        return TensorData(self.encode(images), conditions, name=name)
