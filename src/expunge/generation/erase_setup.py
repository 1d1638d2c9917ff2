"""Open the pipeline of an erasure: its prompts, the model to train and the training latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from ..data.tensors import TensorData
from ..errors import ModelError, raise_all
from ..records.hashing import state_hash
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..training.method import Method
from .concepts import Erasure
from .erase_checks import check_loaded
from .options import PER_PROMPT, EraseOptions
from .pipelines import load
from .prompted import Prompted
from .quiet import quiet
from .text_to_image import Loaded
from .tokens import long_prompt_problems
from .training_images import Make, Progress, contents, kept_latents, read_latents, sampled_latents


class Setup(NamedTuple):
    """The opened pipeline and what is trained on it."""

    loaded: Loaded
    original: Prompted
    task: Diffusion
    prompts: list[str]
    plain: bool
    options: EraseOptions
    sampler: Sampler
    encode_batch: int
    progress: Progress


def latents_file(state_file: str | Path) -> Path:
    """Return the file in which a resumable `erase` keeps its training latents."""
    return Path(state_file).with_suffix(".latents")


def open_pipeline(
    folder: str | Path, erasure: Erasure, method: Method, options: EraseOptions, progress: Progress
) -> Setup:
    """Load the pipeline, encode the prompts and check that the method can train this denoiser."""
    in_memory = max(1, getattr(method, "batch_size", 8) // options.compute.accumulate)
    encode_batch = min(8, in_memory)
    compute = replace(options.compute, eval_batch=min(options.compute.eval_batch, in_memory))
    sampler = options.sampler or Sampler(steps=50, guidance=6.5, batch_size=encode_batch)
    loaded = load(folder, device=options.device)
    plain = loaded.kind == "dit"
    if options.gradient_checkpointing:
        loaded.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    prompts = erasure.prompts(plain)
    if not plain:
        raise_all(long_prompt_problems(loaded.pipeline, prompts), ModelError)
    original, task = loaded.prompted(prompts, erasure.words), loaded.task(len(prompts))
    check_loaded(original, task, method, options, erasure, sampler)
    loaded.offload()
    if options.half:
        # diffusers warns of parts that must stay in float32, and names none
        with quiet(notes=True):
            original.denoiser.to(torch.bfloat16)
    options = replace(options, compute=compute)
    return Setup(loaded, original, task, prompts, plain, options, sampler, encode_batch, progress)


def needs_images(method: Method, options: EraseOptions) -> bool:
    """Return whether the method reads training images, or whether the user asks for some.

    A method that draws its own noisy images reads only the conditions.
    """
    given = options.images is not None or options.per_prompt is not None
    return given or getattr(method, "source", "data") != "model" or getattr(method, "density", 1.0) < 1


def training_latents(
    setup: Setup,
    erasure: Erasure,
    files: Mapping[str, Sequence[Path]],
    state_file: str | Path | None,
) -> TensorData:
    """Encode the training images, or sample them. What an interrupted call made is not made again."""
    loaded, original, task, prompts, _, options, sampler, encode_batch, progress = setup
    make: Make
    source: tuple[object, ...]
    if options.images is not None:
        make = partial(read_latents, loaded, files, erasure, prompts, encode_batch, progress)
        source = (contents(files),)
    else:
        per_prompt = options.per_prompt or PER_PROMPT
        conditions = torch.arange(len(prompts)).repeat_interleave(per_prompt)
        make = partial(sampled_latents, loaded, original, task, conditions, sampler, options.seed, progress)
        # the batch size of the sampler changes no image
        source = (repr(replace(sampler, batch_size=1)), per_prompt, options.seed)
    if state_file is None:
        return kept_latents(None, (), make)
    hashes = (state_hash(module.state_dict()) for module in (original, loaded.pipeline.vae))
    return kept_latents(latents_file(state_file), (*hashes, repr(task), prompts, *source), make)
