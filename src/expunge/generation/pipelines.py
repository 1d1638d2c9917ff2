"""Read and write pipeline folders."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch

from ..errors import CheckpointError, MissingExtra, raise_all
from ..records.atomic_files import atomic
from .pipeline_index import PipelineIndex, read_index
from .prompted import Prompted
from .quiet import quiet
from .text_to_image import Loaded
from .tokens import limit_tokens
from .weight_files import dtypes, write_like

# suffixes of files that hold parameters
PARAMETER_FILES = (
    ".safetensors",
    ".bin",
    ".ckpt",
    ".pt",
    ".pth",
    ".h5",
    ".msgpack",
    ".onnx",
    ".pb",
    ".gguf",
    ".npz",
)


def load(folder: str | Path, *, device: str = "cpu") -> Loaded:
    """Load a pipeline folder of Stable Diffusion 1.x, 2.x, XL or DiT.

    Args:
        folder: Folder that `save_pretrained` wrote.
        device: Device of the denoiser. The other networks stay on the CPU until they are used.

    Raises:
        CheckpointError: If the folder holds no such pipeline. Unsupported ones are refused before parameters are read.
        MissingExtra: If diffusers is not installed.

    Example:
        >>> loaded = load("pipeline", device="cuda")
    """
    index = read_index(folder)
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtra("a text-to-image pipeline", "diffusion") from error
    path = index.folder
    try:
        with quiet(notes=True):
            # the import names image processors that no erasure uses
            pipeline_class = getattr(diffusers, index.class_name)
        with quiet():
            pipeline = pipeline_class.from_pretrained(
                str(path), local_files_only=True, dtype=torch.float32, variant=index.variant
            )
    # diffusers raises many types of errors, and the user needs the reason
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be opened as a diffusers pipeline: {type(error).__name__}: {error}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    loaded = Loaded(pipeline, index.kind, path)
    raise_all(_unmatched(loaded, index), CheckpointError)
    limit_tokens(pipeline)
    loaded.denoiser.to(device)
    return loaded


def _unmatched(loaded: Loaded, index: PipelineIndex) -> list[str]:
    """Return the parameters of the denoiser that the files lack, and those that the denoiser lacks."""
    files = index.files(index.denoiser)
    stored, own = set(dtypes(files)), set(loaded.denoiser.state_dict())
    return [
        f"{files[0].parent} does not fit its config.json: {what} {len(names)} parameters, such as {min(names)}; use the files of "
        "one model."
        for what, names in (("the files lack", own - stored), ("the denoiser does not have", stored - own))
        if names
    ]


def save(loaded: Loaded, model: Prompted, out: str | Path, *, lora: bool = False) -> Path:
    """Write the pipeline with the denoiser of `model` to a new folder.

    The folder appears only when it is complete. Files of parameters keep their names, types, variant and shards. All other files
    are copied.

    Args:
        loaded: The pipeline that was read.
        model: The model whose denoiser to write.
        out: Folder to write. `DiffusionPipeline.from_pretrained` reads it.
        lora: Write only the LoRA weights, for `pipeline.load_lora_weights`.

    Returns:
        The path of the folder.

    Raises:
        CheckpointError: If `out` exists.
    """
    path = Path(out)
    if os.path.lexists(path):
        raise CheckpointError(f"{path} exists and is not replaced; name another folder.")
    index = read_index(loaded.folder)
    with atomic(path, folder=True) as part:
        if lora:
            from peft.utils import get_peft_model_state_dict

            type(loaded.pipeline).save_lora_weights(
                str(part), unet_lora_layers=get_peft_model_state_dict(model.denoiser)
            )
        else:
            copy_untouched(index, part)
            state = model.denoiser.state_dict()  # type: ignore[union-attr, operator]
            for file in index.files(index.denoiser):
                write_like(file, part / index.denoiser / file.name, state)
    return path


def files_left_out(folder: str | Path, out: str | Path) -> list[str]:
    """Return the files of parameters in a pipeline folder that the written folder does not have.

    `save` writes only what the pipeline read. Averages (`unet_ema`, `non_ema`) and other variants (`fp16`) of the old
    parameters stay behind, and so do checkpoints that lie beside them.

    Args:
        folder: The folder that was read.
        out: The folder that was written.

    Returns:
        Paths inside `folder`, in order of their names.
    """
    source, written = Path(folder), Path(out)
    files = (f.relative_to(source) for f in source.rglob("*") if f.suffix in PARAMETER_FILES and f.is_file())
    return sorted(f.as_posix() for f in files if not (written / f).exists())


def copy_untouched(index: PipelineIndex, out: Path) -> None:
    """Copy a pipeline folder without the parameters of the denoiser, byte by byte.

    Files of parameters are copied only where they belong to another part of the pipeline. Whatever else is in the folder may hold
    the old denoiser: averages, single-file checkpoints, hidden folders of version control.
    """
    others = {name for name in index.parts if name != index.denoiser}
    for place in sorted(index.folder.iterdir()):
        if place.name.startswith(".") and place.is_dir():
            continue
        files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if f.is_file())
        parameters = [f for f in files if f.suffix in PARAMETER_FILES]
        if parameters and place.is_dir() and place.name not in index.parts:
            continue
        for file in files:
            if file in parameters and place.name not in others:
                continue
            # the index of shards of another variant
            if place.name == index.denoiser and ".index." in file.name and not _indexes(file, index):
                continue
            target = out / file.relative_to(index.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _indexes(file: Path, index: PipelineIndex) -> bool:
    """Return whether a file lists the shards that are read."""
    names = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    return names == {f.name for f in index.files(index.denoiser)}
