"""Open the pipeline of an erasure: its prompts, the model to train and the training latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from ..data.tensors import TensorData
from ..records.hashing import state_hash
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..training.method import Method
from .concepts import Erasure, contents, kept_latents, read_latents, sampled_latents
from .erase_checks import check_loaded
from .options import EraseOptions
from .pipelines import load
from .prompted import Prompted
from .text_to_image import Loaded


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


def latents_file(state_file: str | Path) -> Path:
    """Return the file in which a resumable `erase` keeps its training latents."""
    return Path(state_file).with_suffix(".latents")


def open_pipeline(folder: str | Path, erasure: Erasure, method: Method, options: EraseOptions) -> Setup:
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
    original, task = loaded.prompted(prompts, erasure.concept), loaded.task(len(prompts))
    check_loaded(original, task, method, options, erasure, sampler)
    loaded.offload()
    if options.half:
        original.denoiser.to(torch.bfloat16)
    options = replace(options, compute=compute)
    return Setup(loaded, original, task, prompts, plain, options, sampler, encode_batch)


def training_latents(
    setup: Setup,
    erasure: Erasure,
    files: Mapping[str, Sequence[Path]],
    state_file: str | Path | None,
) -> TensorData:
    """Encode the training images, or sample them, or read the latents of an interrupted call."""
    loaded, original, task, prompts, _, options, sampler, encode_batch = setup
    make: Callable[[], TensorData]
    if options.images is not None:
        make = partial(read_latents, loaded, Path(options.images), erasure, prompts, encode_batch)
    else:
        make = partial(
            sampled_latents,
            loaded,
            original,
            task,
            len(prompts),
            sampler,
            options.per_prompt,
            options.seed,
        )
    if state_file is None:
        return make()
    # the batch size of the sampler changes no image
    source: tuple[object, ...] = (
        (contents(files),)
        if options.images is not None
        else (repr(replace(sampler, batch_size=1)), options.per_prompt, options.seed)
    )
    hashes = (state_hash(module.state_dict()) for module in (original, loaded.pipeline.vae))
    return kept_latents(latents_file(state_file), (*hashes, repr(task), prompts, *source), make)
