"""Read and write pipeline folders."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch

from ..errors import CheckpointError, MissingExtra, raise_all
from ..records.atomic_files import atomic
from ..records.file_names import CARDS, CONFIGS, PREPARATION
from .pipeline_index import PipelineIndex, read_index
from .prompted import Prompted
from .quiet import quiet
from .text_to_image import Loaded
from .tokens import limit_tokens
from .weight_files import dtypes, write_like

# files of a pipeline folder outside of its parts that are copied
TOP_FILES = CARDS | {"model_index.json"}
# files of a part that are copied, besides parameters and their indexes
PART_FILES = CONFIGS | PREPARATION | {"scheduler_config.json"}
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
    """Return the files in a pipeline folder that the written folder does not have, without hidden ones.

    `save` writes only what the pipeline read. Averages (`unet_ema`, `non_ema`) and other variants (`fp16`) of the old
    parameters stay behind, and so do checkpoints, training data and whatever else lies beside them.

    Args:
        folder: The folder that was read.
        out: The folder that was written.

    Returns:
        Paths inside `folder`, in order of their names.
    """
    source, written = Path(folder), Path(out)
    files = (f.relative_to(source) for f in source.rglob("*") if f.is_file())
    shown = (f for f in files if not any(part.startswith(".") for part in f.parts))
    return sorted(f.as_posix() for f in shown if not (written / f).exists())


def copy_untouched(index: PipelineIndex, out: Path) -> None:
    """Copy a pipeline folder without the parameters of the denoiser, byte by byte.

    Only files that diffusers and transformers write are copied, and the card and the licence. Files of parameters are copied only
    where they belong to another part of the pipeline. Whatever else is in the folder may hold the old denoiser (averages,
    single-file checkpoints, hidden folders of version control), training data or secrets.
    """
    for name in sorted(TOP_FILES):
        if (index.folder / name).is_file():
            shutil.copyfile(index.folder / name, out / name)
    for part in sorted(index.parts):
        (out / part).mkdir(exist_ok=True)
        for file in sorted((index.folder / part).iterdir()):
            if file.is_file() and _belongs(file, part, index):
                shutil.copyfile(file, out / part / file.name)


def _belongs(file: Path, part: str, index: PipelineIndex) -> bool:
    """Return whether a file of a part is copied: not the parameters of the denoiser, nor the index of shards of another variant."""
    if ".index." in file.name and file.suffix == ".json":
        return part != index.denoiser or _indexes(file, index)
    if file.suffix in PARAMETER_FILES:
        return part != index.denoiser
    return file.name in PART_FILES


def _indexes(file: Path, index: PipelineIndex) -> bool:
    """Return whether a file lists the shards that are read."""
    names = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    return names == {f.name for f in index.files(index.denoiser)}
