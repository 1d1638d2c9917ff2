"""Text-to-image pipelines of diffusers as models for the training loop.

The denoiser of a pipeline (the UNet of Stable Diffusion 1.x, 2.x or XL, or a class-conditional DiT) becomes a
`Prompted` model. Masks, methods and attacks work on it as on a class-conditional model. Prompts and latents are encoded
once and reused. Pipeline folders are those of `save_pretrained`. Nothing is downloaded.
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
from .tokens import token_ids

SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, eq=False)
class Loaded:
    """Hold a loaded pipeline and turn it into a model and a task.

    Args:
        pipeline: The diffusers pipeline.
        kind: Its type: "unet" (Stable Diffusion 1.x and 2.x), "xl" or "dit".
        folder: The folder that it was read from.

    Example:
        >>> loaded = load("pipeline")
        >>> model, task = loaded.prompted(["a photo of a dress"]), loaded.task(1)
    """

    pipeline: Any
    kind: Literal["unet", "xl", "dit"]
    folder: Path

    @property
    def denoiser(self) -> nn.Module:
        """The network that is unlearned."""
        return self.pipeline.transformer if self.kind == "dit" else self.pipeline.unet

    @property
    def device(self) -> torch.device:
        """The device of the denoiser."""
        return next(self.denoiser.parameters()).device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (channels, height, width) of the latents."""
        config: Any = self.denoiser.config
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return int(config.in_channels), int(height), int(width)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        factor = 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)
        return self.shape[1] * factor, self.shape[2] * factor

    def offload(self) -> None:
        """Move every network but the denoiser to the CPU. `encode`, `decode` and `prompted` move back what they use."""
        for module in self.pipeline.components.values():
            if isinstance(module, nn.Module) and module is not self.denoiser:
                module.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def task(self, count: int, condition_drop: float = 0.1) -> Diffusion:
        """Return the task with the noise levels of the pipeline's scheduler.

        Args:
            count: Number of prompts.
            condition_drop: Share of conditions that become null in a training step.

        Raises:
            ModelError: If the scheduler has no betas, as in flow matching, or has unknown settings.
        """
        scheduler, config = self.pipeline.scheduler, self.pipeline.scheduler.config
        custom = config.get("trained_betas") is not None or bool(config.get("rescale_betas_zero_snr"))
        levels = tuple(scheduler.alphas_cumprod.tolist()) if custom else None
        raise_all(self._scheduler_problems(levels), ModelError)
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

    def _scheduler_problems(self, levels: tuple[float, ...] | None) -> list[str]:
        """Return the settings of the scheduler that no task can express. `levels` replace a named schedule."""
        config = self.pipeline.scheduler.config
        known: dict[str, Any] = {} if levels else {"beta_schedule": SCHEDULES}
        known["prediction_type"] = PREDICTIONS
        problems = [
            f"the scheduler's {name} is {config.get(name)!r}; known: {', '.join(values)}."
            for name, values in known.items()
            if config.get(name) not in values
        ]
        if levels and levels[-1] <= 2**-24 and config.get("prediction_type") == "epsilon":
            problems.append(
                "the scheduler's last step keeps no signal (rescale_betas_zero_snr), so the predicted noise does not "
                "determine the image; such pipelines predict v. Correct prediction_type or rescale_betas_zero_snr in "
                "the scheduler's config."
            )
        return problems

    @torch.no_grad()
    def prompted(self, prompts: str | Sequence[str], words: str | Sequence[str] = ()) -> Prompted:
        """Return the denoiser with the embeddings of `prompts` and of the null condition.

        The null condition is the one that the pipeline guides away from: the empty prompt, or zeros for an XL with
        `force_zeros_for_empty_prompt`.

        Args:
            prompts: Prompts, or class names or numbers for a DiT. One text is one prompt.
            words: A concept whose tokens to mark in the prompts, as `Prompted.tokens`, or several.

        Raises:
            ExpungeError: With every name that is not a class of the DiT.
        """
        prompts = (prompts,) if isinstance(prompts, str) else prompts
        if self.kind == "dit":
            return Prompted(self.denoiser, labels=self._labels(prompts))
        encoded = [self._encode(p) for p in [*prompts, ""]]
        if self.kind == "xl" and self.pipeline.config.get("force_zeros_for_empty_prompt"):
            encoded[-1] = (torch.zeros_like(encoded[-1][0]), torch.zeros_like(encoded[-1][1]))
        embeddings = torch.cat([e[0] for e in encoded])
        tokens = None
        if words:
            concepts = (words,) if isinstance(words, str) else words
            marked = [torch.stack([self._mark(p, word) for word in concepts]).any(0) for p in [*prompts, ""]]
            tokens = torch.stack(marked).to(embeddings.device)
        if self.kind == "unet":
            return self._with_ids(Prompted(self.denoiser, prompts=embeddings, tokens=tokens), prompts)
        height, width = self.image_size
        # original size, crop, and target size
        times = torch.tensor([height, width, 0, 0, height, width]).to(embeddings)
        pooled = torch.cat([e[1] for e in encoded])
        model = Prompted(self.denoiser, prompts=embeddings, pooled=pooled, times=times, tokens=tokens)
        return self._with_ids(model, prompts)

    def _with_ids(self, model: Prompted, prompts: Sequence[str]) -> Prompted:
        """Add the token ids of the prompts to a model."""
        model.token_ids = token_ids(self.pipeline, prompts)
        return model

    def _mark(self, prompt: str, words: str) -> Tensor:
        """Return bool (L,), true at the tokens of one concept in the prompt."""
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
        # without the start and end tokens
        word_ids = tokenizer(words).input_ids[1:-1]
        marked = torch.zeros(length, dtype=torch.bool)
        for k in range(length - len(word_ids) + 1):
            if ids[k : k + len(word_ids)] == word_ids:
                marked[k : k + len(word_ids)] = True
        return marked

    def _encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return the embeddings of a prompt, and the pooled embedding of an XL (else empty)."""
        for name in ("text_encoder", "text_encoder_2"):
            if (encoder := getattr(self.pipeline, name, None)) is not None:
                encoder.to(self.device)
        encoded = self.pipeline.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return encoded[0], encoded[2] if self.kind == "xl" else torch.empty(0)

    def _labels(self, names: Sequence[str]) -> Tensor:
        """Return the classes of a DiT by name or number, and the null class last."""
        count = int(self.denoiser.config.num_embeds_ada_norm)  # type: ignore[union-attr, arg-type]
        # no words: the null class
        known = {**self.pipeline.labels, "": count}
        labels = [known.get(n, int(n) if n.isdigit() and int(n) < count else None) for n in names]
        if missing := [n for n, label in zip(names, labels, strict=True) if label is None]:
            raise ExpungeError(
                f"the pipeline has no classes {missing}; known: {list(known)[:-1][:10] or 'no names'}, "
                f"or numbers below {count}."
            )
        return torch.tensor([*labels, count], device=self.device)

    @torch.no_grad()
    def encode(self, images: Tensor, batch_size: int = 16) -> Tensor:
        """Encode images as latents: the scaled mean of the encoder's distribution.

        Args:
            images: Images (N, 3, H, W) in [0, 1].
            batch_size: Images to encode at once.

        Returns:
            Latents (N, c, h, w), float32 on the CPU.
        """
        vae = self.pipeline.vae.to(self.device)
        parameter, (mean, std) = next(vae.parameters()), self._mean_and_std()
        means = [vae.encode(x.to(parameter) * 2 - 1).latent_dist.mean.cpu() for x in images.split(batch_size)]
        return ((torch.cat(means) - mean) / std).float()

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = 16) -> Tensor:
        """Decode latents to images (N, 3, H, W) in [0, 1] on the CPU, `batch_size` at once."""
        vae = self.pipeline.vae.to(self.device)
        parameter, (mean, std) = next(vae.parameters()), self._mean_and_std()
        images = [
            vae.decode((z.cpu() * std + mean).to(parameter)).sample.cpu() for z in latents.split(batch_size)
        ]
        return (torch.cat(images).float() / 2 + 0.5).clamp(0, 1)

    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation (1, c or 1, 1, 1) that the latents of the denoiser take away from the encoder's.

        As the pipelines of diffusers: only an XL has those of each channel (`latents_mean`, `latents_std`), and none a
        `shift_factor`.
        """
        config = self.pipeline.vae.config
        given = [getattr(config, name, None) for name in ("latents_mean", "latents_std")]
        mean, std = ([0.0], [1.0]) if self.kind != "xl" or None in given else given
        mean, std = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
        return mean, std / config.scaling_factor

    def data(self, images: Tensor, conditions: Tensor, name: str) -> TensorData:
        """Encode images (N, 3, H, W) in [0, 1] with their conditions (N,) as training data named `name`."""
        return TensorData(self.encode(images), conditions, name=name)
