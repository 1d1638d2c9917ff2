"""Concept erasure: read a pipeline folder, unlearn a concept, write a pipeline folder.

The sampled images of the concept's prompts change; the images of kept prompts should not.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ..data.split import Split
from ..data.tensors import TensorData
from ..methods.concept_ablation import ConceptAblation
from ..pipeline.outcome import record_of
from ..records.hashing import state_hash
from ..records.record import Record
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import seeded
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Row, Run
from .before_after import grids
from .concepts import Erasure, contents, image_files, kept_latents, read_latents, sampled_latents, split_of
from .erase_checks import check, check_loaded
from .erased import Erased
from .options import EraseOptions
from .pipelines import Weights, add_lora, choose_weights, files_left_out, load, save
from .prompted import Prompted
from .text_to_image import Loaded


class _Setup(NamedTuple):
    """The opened pipeline and what is trained on it."""

    loaded: Loaded
    original: Prompted
    task: Diffusion
    prompts: list[str]
    plain: bool
    options: EraseOptions
    sampler: Sampler
    encode_batch: int


class _Trained(NamedTuple):
    """The finished run, the hash of what it started from, and the number of trained parameters."""

    run: Run
    hash_before: str
    parameter_count: int


def erase(
    folder: str | Path,
    erasure: Erasure,
    method: Method,
    options: EraseOptions | None = None,
    *,
    out: str | Path | None = None,
    on_row: Callable[[Row], None] | None = None,
    state_file: str | Path | None = None,
    command: str = "",
) -> Erased:
    """Erase a concept from a pipeline folder and write the result to a new pipeline folder.

    With `method.density` below 1 only the salient part of the parameters in `options.weights` trains. With
    `options.lora` the output folder holds only the LoRA adapters.

    A call with a `state_file` resumes an interrupted one. The training latents lie beside the state, in
    `latents_file(state_file)`. Both files are removed once `out` is written; without `out` they stay. An
    interruption after that loses only the pictures in the record.

    Args:
        folder: Pipeline folder that `save_pretrained` wrote. It is only read.
        erasure: What to erase and what to keep.
        method: The unlearning method; `erase_presets.settings` gives published settings.
        options: Training images, trainable parameters and length of the training.
        out: Folder to write. It must not exist.
        on_row: Called with every row of the training curve.
        state_file: File of the resumable training state.
        command: Command line to store in the record.

    Returns:
        The erased model with its record and what an audit needs.

    Raises:
        ExpungeError: If a setting, the method or a folder cannot be used, or `state_file` belongs to another call.

    Example:
        >>> concept = Erasure(concept="garbage truck", anchor="bicycle", keep=("church",))
        >>> erased = erase("pipeline", concept, settings("salun"), EraseOptions(steps=600), out="erased")
    """
    options = options or EraseOptions()
    check(erasure, method, options, out)
    files = {} if options.images is None else image_files(Path(options.images), erasure)
    setup = _open(folder, erasure, method, options)
    data = _training_latents(setup, erasure, files, state_file)
    setup.loaded.offload()
    split = split_of(data, erasure.concepts(setup.plain), len(setup.prompts), erasure.concept)
    method = _with_anchor(method, erasure, split)
    if options.steps is not None and isinstance(method, GradientMethod):
        run = Run(setup.original, split, setup.task)
        method = replace(method, epochs=_epochs_for(method, run, options.steps))
    trained = _train(setup, split, method, on_row, state_file)
    record = _record(setup, erasure, method, trained, command)
    erased = Erased(trained.run, record, None, setup.loaded, setup.original, erasure, setup.prompts)
    if out is not None:
        erased.out = save(setup.loaded, erased.model, out, lora=bool(options.lora))
        if not options.lora:
            erased.record.details["left_out"] = files_left_out(folder, erased.out)
        erased.save_record()
        _remove_state(state_file)
    _add_pictures(erased, setup)
    return erased


def latents_file(state_file: str | Path) -> Path:
    """Return the file in which a resumable `erase` keeps its training latents."""
    return Path(state_file).with_suffix(".latents")


def _open(folder: str | Path, erasure: Erasure, method: Method, options: EraseOptions) -> _Setup:
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
    return _Setup(loaded, original, task, prompts, plain, options, sampler, encode_batch)


def _training_latents(
    setup: _Setup,
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


def _train(
    setup: _Setup,
    split: Split,
    method: Method,
    on_row: Callable[[Row], None] | None,
    state_file: str | Path | None,
) -> _Trained:
    options = setup.options
    with _sharing(setup.original):
        # LoRA adapters have random initial values
        with seeded(options.seed, setup.loaded.device):
            start, count = _trainable(setup.original, options.lora, options.weights)
        hash_before = _hash(start, options.lora)
        run = execute(
            start,
            split,
            method,
            setup.task,
            seed=options.seed,
            compute=options.compute,
            on_row=on_row,
            state_file=state_file,
        )
    _stop_sharing(run, start)
    return _Trained(run, hash_before, count)


def _record(setup: _Setup, erasure: Erasure, method: Method, trained: _Trained, command: str) -> Record:
    options, run = setup.options, trained.run
    names = {
        "model": type(setup.loaded.pipeline).__name__,
        "data": "images" if options.images is not None else "drawn by the pipeline",
        "classes": setup.prompts,
    }
    record = record_of("erase", run, method, before=trained.hash_before, command=command, names=names)
    # both hashes are of the same tensors
    record.model["hash_after"] = _hash(run.model, options.lora)
    words = {k: v for k, v in asdict(erasure).items() if k != "templates"}
    record.details["erasure"] = {**words, "prompts": setup.prompts}
    record.details["trained"] = {
        "weights": options.weights,
        "lora": options.lora,
        "count": trained.parameter_count,
        "steps": run.step,
    }
    return record


def _remove_state(state_file: str | Path | None) -> None:
    """Remove the resumable state. Nothing can resume once the output folder exists."""
    if state_file is not None:
        for path in (Path(state_file), latents_file(state_file)):
            path.unlink(missing_ok=True)


def _add_pictures(erased: Erased, setup: _Setup) -> None:
    """Add samples of before and after to the record, which is already saved without them."""
    options = setup.options
    try:
        erased.record.details["images"] = grids(erased, setup.sampler, seed=options.seed, safe=options.safe)
    except torch.OutOfMemoryError as error:
        warnings.warn(
            f"the pictures of before and after could not be sampled: {error}. The written model is complete; "
            "sample with a smaller batch_size to get the pictures.",
            RuntimeWarning,
            stacklevel=3,
        )
    erased.save_record()


def _with_anchor(method: Method, erasure: Erasure, split: Split) -> Method:
    """Point concept ablation to the null condition if the anchor has no words and no images."""
    if not isinstance(method, ConceptAblation) or erasure.anchor or method.anchor != 1:
        return method
    return method if (split.retain.labels == 1).any() else replace(method, anchor=-1)


def _epochs_for(method: GradientMethod, run: Run, steps: int) -> int:
    """Return the smallest number of epochs with at least `steps` steps."""
    return -(-steps // max(1, replace(method, epochs=1).steps(run)))


def _trainable(original: Prompted, lora: int | None, weights: Weights) -> tuple[Prompted, int]:
    """Return the model to train and its number of trainable parameters.

    With LoRA the model is a copy that shares the frozen parameters of the original.
    """
    if not lora:
        return original, choose_weights(original, weights)
    original.requires_grad_(False)
    start = copy.deepcopy(original)
    return start, add_lora(start.denoiser, lora, weights)


def _hash(model: nn.Module, lora: int | None) -> str:
    """Hash what the output folder holds: the denoiser, or its LoRA adapters."""
    state = model.denoiser.state_dict()  # type: ignore[union-attr, operator]
    return state_hash({k: v for k, v in state.items() if not lora or "lora_" in k})


@contextmanager
def _sharing(model: Prompted) -> Iterator[None]:
    """Let copies of `model` share its frozen parameters inside the block."""
    model.shares = True
    try:
        yield
    finally:
        model.shares = False


def _stop_sharing(run: Run, start: Prompted) -> None:
    """Make later copies complete, because an attack may train every parameter of a copy."""
    for model in (run.model, start, run._original):
        if isinstance(model, Prompted):
            model.shares = False
