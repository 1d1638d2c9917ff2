"""Generate images of prompts with an original and an erased pipeline, and judge them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..audit.image_distances import network_features
from ..audit.image_judge import Judge
from ..tasks.diffusion import Diffusion
from ..tasks.predictions import Predictions
from ..tasks.sampling import Sampler

if TYPE_CHECKING:
    from .erased import Erased

# Largest number of kept images that distances are measured from.
REFERENCE = 512


@dataclass(frozen=True, eq=False)
class JudgedPrompts:
    """Hold the judge's predictions on some images, and their features by the name of the network that gives them."""

    predictions: Predictions
    features: dict[str, Tensor]

    @property
    def percent_correct(self) -> float:
        """Percentage of images that show what was asked for."""
        return 100 * self.predictions.correct.double().mean().item()

    def percent_without(self, concept: int) -> float:
        """Percentage of images that show what was asked for, if the judge may not answer with `concept`."""
        logits = self.predictions.logits.clone()
        logits[:, concept] = -torch.inf
        return replace(self, predictions=Predictions(logits, self.predictions.labels)).percent_correct


@dataclass(frozen=True, kw_only=True, eq=False)
class ErasureJudge:
    """Generate images of prompts before and after an erasure, and judge them.

    Args:
        erased: The result of `erase`.
        judge: The judge.
        sampler: The sampler.
        count: Number of images of each prompt.
        seed: Seed of the starting noise.
        network: A further network that gives features (B, D) for distances.
        name: Name of the network.
    """

    erased: Erased
    judge: Judge
    sampler: Sampler
    count: int
    seed: int = 0
    network: nn.Module | None = None
    name: str = "network"

    def judge_images(self, images: Tensor, labels: Tensor) -> JudgedPrompts:
        """Judge images (N, C, H, W) in [0, 1] that should show the judge's classes `labels`."""
        predictions = self.judge.predict(images, labels)
        assert predictions.features is not None
        features = {"judge": predictions.features}
        if self.network is not None:
            features[self.name] = network_features(self.network, images)
        return JudgedPrompts(predictions, features)

    def judge_prompts(self, prompts: list[str], judge_class: int) -> dict[str, JudgedPrompts]:
        """Judge what the original ("before") and the erased model ("after") generate from the same noise."""
        loaded = self.erased.loaded
        original = loaded.prompted(prompts)
        # the text encoders are no longer needed
        loaded.offload()
        task: Diffusion = loaded.task(len(prompts))
        y = torch.arange(len(prompts)).repeat_interleave(self.count)
        after = original.with_denoiser(self.erased.model.denoiser)
        judged = {}
        for when, model in (("before", original), ("after", after)):
            latents = self.sampler(model, task, y, loaded.shape, seed=self.seed)
            images = loaded.decode(latents, self.sampler.batch_size)
            judged[when] = self.judge_images(images, torch.full_like(y, judge_class))
        return judged

    def reference_features(self) -> dict[str, Tensor]:
        """Return features (N, D) by network of at most 512 kept images of the run."""
        erased, batch_size = self.erased, self.sampler.batch_size
        retain = erased.run.split.retain
        with_prompt = torch.tensor([k for k, prompt in enumerate(erased.prompts) if prompt])
        kept = retain.take(torch.isin(retain.labels, with_prompt))
        kept = kept.take(torch.linspace(0, len(kept) - 1, min(REFERENCE, len(kept))).round().long())
        features = [
            self.judge_images(erased.loaded.decode(Diffusion.images(b), batch_size), b.y).features
            for b in kept.batches(batch_size)
        ]
        return {name: torch.cat([f[name] for f in features]) for name in (features[0] if features else ())}
