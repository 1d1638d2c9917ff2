"""Concept erasure: read a pipeline folder, unlearn a concept, write a pipeline folder.

The sampled images of the concept's prompts change; the images of kept prompts should not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch

from ..errors import UnlearningFailed, WriteError
from ..pipeline.outcome import record_of
from ..records.record import Record
from ..records.together import staged, together
from ..torch_utils.gradients import with_gradients
from ..training.method import GradientMethod, Method
from ..training.run import Row, Run
from .before_after import grids
from .concepts import Erasure, split_of
from .erase_checks import check
from .erase_setup import Setup, latents_file, needs_images, open_pipeline, training_latents
from .erase_training import Trained, epochs_for, hash_trained, round_as_stored, train, with_anchor
from .erased import RECORD, Erased
from .options import EraseOptions
from .pipeline_config import scheduler_config
from .pipeline_index import read_index
from .pipelines import files_left_out, save
from .schedulers import few_step_doubt
from .training_images import Progress, image_files, no_images


@with_gradients
def erase(
    folder: str | Path,
    erasure: Erasure,
    method: Method,
    options: EraseOptions | None = None,
    *,
    out: str | Path | None = None,
    on_row: Callable[[Row], None] | None = None,
    on_progress: Progress | None = None,
    state_file: str | Path | None = None,
    command: str = "",
) -> Erased:
    """Erase a concept from a pipeline folder and write the result to a new pipeline folder.

    With `method.density` below 1 only the salient part of the parameters in `options.weights` trains. With
    `options.lora` the output folder holds only the LoRA adapters.

    A call with a `state_file` resumes an interrupted one. The training latents lie beside the state, in
    `latents_file(state_file)`, each batch from the moment it is made. Both files are removed once `out` is written;
    without `out` they stay. An interruption after that loses only pictures in the record that are not yet made.

    Args:
        folder: Pipeline folder that `save_pretrained` wrote. It is only read.
        erasure: What to erase and what to keep.
        method: The unlearning method; `erase_presets.settings` gives published settings.
        options: Training images, trainable parameters and length of the training.
        out: Folder to write. It must not exist, and not lie in a folder that is read.
        on_row: Called with every row of the training curve.
        on_progress: Called with what is made, how many are made, and how many there will be: of training images, and of
            pictures before and after.
        state_file: File of the resumable training state.
        command: Command line to store in the record.

    Returns:
        The erased model with its record and what an audit needs.

    Raises:
        UnlearningFailed: If the run diverged or changed nothing. Its attribute `run` has the curves. `out` is not written.
        WriteError: If the folder cannot be written. `state_file` stays, so the same call resumes.
        ExpungeError: If a setting, the method or a folder cannot be used, or `state_file` belongs to another call.

    Example:
        >>> concept = Erasure(concept="garbage truck", anchor="bicycle", keep=("church",))
        >>> erased = erase("pipeline", concept, settings("salun"), EraseOptions(steps=600), out="erased")
    """
    options = options or EraseOptions()
    check(erasure, method, options, folder, out, state_file)
    # before the images are read
    read_index(folder)
    if doubt := few_step_doubt(Path(folder) / "scheduler", scheduler_config(Path(folder))):
        warnings.warn(doubt, stacklevel=3)
    files = {} if options.images is None else image_files(Path(options.images), erasure)
    setup = open_pipeline(folder, erasure, method, options, on_progress or (lambda what, done, total: None))
    with_images = needs_images(method, options)
    if with_images:
        data = training_latents(setup, erasure, files, state_file)
    else:
        data = no_images(setup.loaded, len(setup.prompts))
    setup.loaded.offload()
    split = split_of(data, erasure.concepts(setup.plain), len(setup.prompts), erasure.title, with_images)
    method = with_anchor(method, erasure, split)
    if options.steps is not None and isinstance(method, GradientMethod):
        run = Run(setup.original, split, setup.task)
        method = replace(method, epochs=epochs_for(method, run, options.steps))
    trained = train(setup, split, method, on_row, state_file)
    stored = round_as_stored(trained.run, setup)
    record = _record(setup, erasure, method, trained, command)
    record.details["trained"] |= stored
    erased = Erased(trained.run, record, None, setup.loaded, setup.original, erasure, setup.prompts)
    if not trained.run.has_result:
        _give_up(erased, setup, out, state_file)
    if out is not None:
        _deliver(erased, setup, Path(out))
        _remove_state(state_file)
    _add_pictures(erased, setup)
    return erased


def _deliver(erased: Erased, setup: Setup, out: Path) -> None:
    """Write the folder with its record, to `options.spill` if it cannot be written to its place."""
    spill = setup.options.spill
    try:
        _write(erased, setup, out)
    except WriteError as error:
        if spill is None:
            raise
        _write(erased, setup, Path(spill) / out.name)
        warnings.warn(
            f"{error} The folder is in {spill} instead; move it where you need it.",
            RuntimeWarning,
            stacklevel=4,
        )


def _write(erased: Erased, setup: Setup, out: Path) -> None:
    """Write the folder and the record in it together."""
    with together(out):
        save(setup.loaded, erased.model, out, lora=bool(setup.options.lora))
        if not setup.options.lora:
            erased.record.details["left_out"] = files_left_out(setup.loaded.folder, staged(out))
        erased.record.save(staged(out) / RECORD)
    erased.out = out


def _give_up(erased: Erased, setup: Setup, out: str | Path | None, state_file: str | Path | None) -> NoReturn:
    """Raise `UnlearningFailed`. The state is removed: the same call would end in the same way."""
    what = ""
    if out is not None:
        what = f" {out} was not written"
        if setup.options.keep_failed:
            failed = Path(out).with_name(f"{Path(out).name}.failed")
            _write(erased, setup, failed)
            what += f"; the model is in {failed}"
        what += "."
        _remove_state(state_file)
    raise UnlearningFailed(f"{erased.record.method} {erased.record.status}{what}", erased.run)


def _record(setup: Setup, erasure: Erasure, method: Method, trained: Trained, command: str) -> Record:
    options, run = setup.options, trained.run
    names = {
        "model": type(setup.loaded.pipeline).__name__,
        "data": run.split.forget.data.name,
        "classes": setup.prompts,
    }
    record = record_of("erase", run, method, before=trained.hash_before, command=command, names=names)
    # both hashes are of the same tensors
    record.model["hash_after"] = hash_trained(run.model, options.lora)
    words = {"concept": erasure.words, "anchor": erasure.anchors, "keep": erasure.keep}
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


def _add_pictures(erased: Erased, setup: Setup) -> None:
    """Add samples of before and after to the record, which is already saved without them."""
    options, pictures = setup.options, []
    try:
        for grid in grids(erased, setup.sampler, seed=options.seed, safe=options.safe):
            pictures.append(grid)
            setup.progress("pictures", len(pictures), 3 if options.safe else 2)
            # an interruption loses only what is not yet made
            erased.record.details["images"] = pictures
            erased.save_record()
    except torch.OutOfMemoryError as error:
        warnings.warn(
            f"the pictures of before and after could not be sampled: {error}. The written model is complete; "
            "sample with a smaller batch_size to get the pictures.",
            RuntimeWarning,
            stacklevel=4,
        )
