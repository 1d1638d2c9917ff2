"""How `erase` trains, and which images it trains on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..tasks.sampling import Sampler
from ..training.run import Compute
from .trainable import Weights

# images to sample per prompt by default
PER_PROMPT = 64


@dataclass(frozen=True, kw_only=True)
class EraseOptions:
    """Choose the training images, the trainable parameters and the length of an erasure.

    Args:
        images: Folder with one sub-folder of training images per concept. The sub-folder has the name of the
            concept. Without it the pipeline samples the training images.
        per_prompt: Number of images to sample per prompt. Used only without `images`. None: 64, or no images for a method
            that draws its own, such as ESD.
        weights: Parameters of the denoiser that may train: all, only cross-attention, or all but cross-attention.
        lora: Rank of the LoRA adapters to train on the attention layers in place of the denoiser's parameters.
        half: Hold the frozen parameters in bfloat16. Needs `lora` and `compute.amp == "bf16"`.
        steps: Minimum number of training steps, rounded up to whole epochs. Replaces the epochs of the method.
        safe: Also sample images of the original with safe latent diffusion, for comparison.
        sampler: Sampler of all images. The default takes 50 DDIM steps with guidance 6.5.
        seed: Seed of the sampled images, of the adapters' initial values and of the training.
        device: Device of the denoiser, for example "cpu" or "cuda:0".
        compute: Precision, gradient accumulation and batch sizes of the training.
        gradient_checkpointing: Recompute activations in the backward pass. Needs less memory and more time.
        keep_failed: If the run diverged or changed nothing, write its model to the folder `NAME.failed`.
        spill: Folder that gets the output folder if it cannot be written to its place.
    """

    images: str | Path | None = None
    per_prompt: int | None = None
    weights: Weights = "full"
    lora: int | None = None
    half: bool = False
    steps: int | None = None
    safe: bool = False
    sampler: Sampler | None = None
    seed: int = 0
    device: str = "cpu"
    compute: Compute = field(default_factory=Compute)
    gradient_checkpointing: bool = False
    keep_failed: bool = False
    spill: str | Path | None = None
