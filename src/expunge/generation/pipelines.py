"""Read and write pipeline folders, and choose the parameters of the denoiser that train."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..errors import CheckpointError, MissingExtra, ModelError, raise_all
from ..records.atomic_files import atomic, write_json
from .text_to_image import Loaded, Prompted

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

Weights = Literal["full", "cross_attention", "not_cross_attention"]


def load(folder: str | Path, *, device: str = "cpu") -> Loaded:
    """Load a pipeline folder of Stable Diffusion 1.x, 2.x, XL or DiT.

    Args:
        folder: Folder that `save_pretrained` wrote.
        device: Device of the denoiser. The other networks stay on the CPU until they are used.

    Raises:
        CheckpointError: If the folder holds no such pipeline.
        MissingExtra: If diffusers is not installed.

    Example:
        >>> loaded = load("pipeline", device="cuda")
    """
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise MissingExtra("a text-to-image pipeline", "diffusion") from error
    path = Path(folder)
    if not (path / "model_index.json").is_file():
        raise CheckpointError(
            f"{path} is no pipeline folder: it lacks model_index.json; name a folder that `save_pretrained` wrote."
        )
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            str(path), local_files_only=True, dtype=torch.float32, **_variant(path)
        )
    # diffusers raises many types of errors, and the user needs the reason
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be opened as a diffusers pipeline: {type(error).__name__}: {error}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    name = type(pipeline).__name__
    kinds = {"StableDiffusionPipeline": "unet", "StableDiffusionXLPipeline": "xl", "DiTPipeline": "dit"}
    if name not in kinds:
        raise CheckpointError(f"{path} is a {name}; known: {', '.join(kinds)}.")
    loaded = Loaded(pipeline, kinds[name], path)  # type: ignore[arg-type]
    loaded.denoiser.to(device)
    return loaded


def _variant(folder: Path) -> dict[str, str]:
    """Return the variant to load if the folder has no other files, as `save_pretrained(variant="fp16")` writes them."""
    names = [f.name for part in ("unet", "transformer") for f in (folder / part).glob("*.safetensors")]
    variants = {n.split(".")[1] for n in names if n.count(".") == 2}
    if len(variants) == 1 and all(n.count(".") == 2 for n in names):
        return {"variant": variants.pop()}
    return {}


def choose_weights(model: nn.Module, which: Weights) -> int:
    """Let only some parameters of the denoiser train. The others need no gradient and no optimizer state.

    Args:
        model: The denoiser, or a model that contains it.
        which: The parameters that train. Cross-attention is the module that diffusers calls `attn2`.

    Returns:
        The number of trainable parameters.

    Raises:
        ModelError: If the model has no such parameters, as a DiT has no cross-attention.
    """
    raise_all(weights_problems(model, which), ModelError)
    count = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_chosen(name, which))
        count += parameter.numel() * parameter.requires_grad
    return count


def weights_problems(model: nn.Module, which: Weights) -> list[str]:
    """Return the reasons why these parameters cannot train."""
    if any(_chosen(name, which) for name, _ in model.named_parameters()):
        return []
    return [f"the model has no {which.replace('_', ' ')} weights; use weights='full'."]


def _chosen(name: str, which: Weights) -> bool:
    return which == "full" or (".attn2." in name) == (which == "cross_attention")


def add_lora(denoiser: Any, rank: int, weights: Weights = "full") -> int:
    """Freeze the denoiser and add LoRA adapters to its attention layers.

    Args:
        denoiser: The network of the pipeline.
        rank: Rank of the adapters.
        weights: "full" adapts all attention layers, "cross_attention" only cross-attention.

    Returns:
        The number of trainable parameters.

    Raises:
        ModelError: If the rank is below 1 or `weights` is "not_cross_attention".
        MissingExtra: If peft is not installed.
    """
    raise_all(lora_problems(rank, weights), ModelError)
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtra("LoRA", "diffusion") from error
    denoiser.requires_grad_(False)
    layers = r"(to_k|to_q|to_v|to_out\.0)"
    pattern = rf".*\.attn2\.{layers}" if weights == "cross_attention" else rf".*\.{layers}"
    # lora_alpha = rank means scale 1: the file of the adapters cannot store another scale
    denoiser.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=pattern))
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    # the adapters train in float32 even if the frozen parameters are bfloat16
    for parameter in trained:
        parameter.data = parameter.data.float()
    return sum(p.numel() for p in trained)


def lora_problems(rank: int, weights: Weights) -> list[str]:
    """Return the reasons why LoRA cannot train with this rank on these parameters."""
    problems = []
    if rank < 1:
        problems.append(
            f"the rank of LoRA is {rank}; it must be at least 1. To train without LoRA, leave it out."
        )
    if weights == "not_cross_attention":
        problems.append(
            "LoRA adapts only attention layers, so it cannot train not_cross_attention; "
            "use weights full or cross_attention with LoRA, or leave LoRA out."
        )
    return problems


def save(loaded: Loaded, model: Prompted, out: str | Path, *, lora: bool = False) -> Path:
    """Write the pipeline with the denoiser of `model` to a new folder.

    The folder appears only when it is complete.

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
    with atomic(path, folder=True) as part:
        if lora:
            from peft.utils import get_peft_model_state_dict

            type(loaded.pipeline).save_lora_weights(
                str(part), unet_lora_layers=get_peft_model_state_dict(model.denoiser)
            )
        else:
            name = "transformer" if loaded.kind == "dit" else "unet"
            original = getattr(loaded.pipeline, name)
            setattr(loaded.pipeline, name, model.denoiser)
            try:
                loaded.pipeline.save_pretrained(str(part))
            finally:
                setattr(loaded.pipeline, name, original)
            _copy_class_names(loaded.folder, part)
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


def _copy_class_names(source: Path, part: Path) -> None:
    """Copy the class names of a DiT: diffusers reads them from model_index.json but does not write them."""
    names = json.loads((source / "model_index.json").read_text(encoding="utf-8")).get("id2label")
    written = json.loads((part / "model_index.json").read_text(encoding="utf-8"))
    if names and "id2label" not in written:
        write_json(part / "model_index.json", {**written, "id2label": names})
