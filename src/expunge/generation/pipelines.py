"""Pipeline folders in and out, and which weights of a pipeline's denoiser may train."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..errors import CheckpointError, MissingExtra, ModelError, raise_all
from ..records.atomic_files import write_json
from .text_to_image import Loaded, Prompted

Weights = Literal["full", "cross_attention", "not_cross_attention"]


def load(folder: str | Path, *, device: str = "cpu") -> Loaded:
    """Open a `save_pretrained` folder of Stable Diffusion 1.x, 2.x, XL or DiT. Raises `CheckpointError` for anything else.

    The denoiser is put on `device`; the rest stays on the CPU until it is asked for something.
    """
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise MissingExtra("a text-to-image pipeline", "diffusion") from error
    place = Path(folder)
    if not (place / "model_index.json").is_file():
        raise CheckpointError(
            f"{place} is no pipeline folder: it lacks model_index.json; give one that `save_pretrained` wrote."
        )
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            str(place), local_files_only=True, dtype=torch.float32, **_variant(place)
        )
    except Exception as error:  # diffusers raises many kinds; the user needs the reason
        raise CheckpointError(
            f"{place} can't be opened as a diffusers pipeline: {type(error).__name__}: {error}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    name = type(pipeline).__name__
    kinds = {"StableDiffusionPipeline": "unet", "StableDiffusionXLPipeline": "xl", "DiTPipeline": "dit"}
    if name not in kinds:
        raise CheckpointError(f"{place} is a {name}; known are {', '.join(kinds)}.")
    loaded = Loaded(pipeline, kinds[name], place)  # type: ignore[arg-type]
    loaded.denoiser.to(device)
    return loaded


def _variant(place: Path) -> dict[str, str]:
    """How the folder's weights are told apart where it has only those of a variant, as `save_pretrained(variant="fp16")` makes."""
    names = [f.name for part in ("unet", "transformer") for f in (place / part).glob("*.safetensors")]
    marks = {n.split(".")[1] for n in names if n.count(".") == 2}
    return {"variant": marks.pop()} if len(marks) == 1 and all(n.count(".") == 2 for n in names) else {}


def choose_weights(model: nn.Module, which: Weights) -> int:
    """Let only these weights of the denoiser train, and say how many; the others need no gradient and no optimizer state.

    Cross-attention is what diffusers calls `attn2`. Raises `ModelError` if none is left, as in a DiT without text.
    """
    raise_all(weights_problems(model, which), ModelError)
    count = 0
    for name, weight in model.named_parameters():
        weight.requires_grad_(_chosen(name, which))
        count += weight.numel() * weight.requires_grad
    return count


def weights_problems(model: nn.Module, which: Weights) -> list[str]:
    """What speaks against training these weights of the denoiser, a sentence each."""
    if any(_chosen(name, which) for name, _ in model.named_parameters()):
        return []
    return [f"the model has no {which.replace('_', ' ')} weights; use weights='full'."]


def _chosen(name: str, which: Weights) -> bool:
    return which == "full" or (".attn2." in name) == (which == "cross_attention")


def add_lora(denoiser: Any, rank: int, weights: Weights = "full") -> int:
    """Freeze the denoiser and give its attention, or its cross-attention alone, low-rank additions to train (peft).

    Says how many weights train. Raises `ModelError` for a rank below 1 and for weights outside the cross-attention.
    """
    raise_all(lora_problems(rank, weights), ModelError)
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtra("LoRA", "diffusion") from error
    denoiser.requires_grad_(False)
    layers = r"(to_k|to_q|to_v|to_out\.0)"
    where = rf".*\.attn2\.{layers}" if weights == "cross_attention" else rf".*\.{layers}"
    denoiser.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, target_modules=where)
    )  # scale 1: the file has no place for another
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    for weight in trained:
        weight.data = weight.data.float()  # whatever the frozen ones are held in
    return sum(p.numel() for p in trained)


def lora_problems(rank: int, weights: Weights) -> list[str]:
    """What speaks against low-rank additions of this rank to these weights, a sentence each."""
    problems = []
    if rank < 1:
        problems.append(f"the rank of LoRA is {rank}; it must be at least 1, or leave LoRA out.")
    if weights == "not_cross_attention":
        problems.append(
            "low-rank additions are made to attention alone, so they can't train what lies outside the cross-attention; "
            "use weights full or cross_attention with LoRA, or leave LoRA out."
        )
    return problems


def save(loaded: Loaded, model: Prompted, out: str | Path, *, lora: bool = False) -> Path:
    """Write the pipeline with the model's denoiser to a new folder, whole or not at all; or only its LoRA weights.

    A LoRA folder is for `pipeline.load_lora_weights(folder)`. Raises `CheckpointError` if `out` exists.
    """
    place = Path(out)
    if place.exists():
        raise CheckpointError(f"{place} exists and is not replaced; name another folder.")
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
    try:
        if lora:
            from peft.utils import get_peft_model_state_dict

            type(loaded.pipeline).save_lora_weights(
                str(part), unet_lora_layers=get_peft_model_state_dict(model.denoiser)
            )
        else:
            name = "transformer" if loaded.kind == "dit" else "unet"
            kept = getattr(loaded.pipeline, name)
            setattr(loaded.pipeline, name, model.denoiser)
            try:
                loaded.pipeline.save_pretrained(str(part))
            finally:
                setattr(loaded.pipeline, name, kept)
            _keep_names(loaded.folder, part)
        part.chmod(0o755)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def _keep_names(source: Path, part: Path) -> None:
    """A DiT's class names, which diffusers reads from model_index.json but leaves out when it writes one."""
    names = json.loads((source / "model_index.json").read_text(encoding="utf-8")).get("id2label")
    written = json.loads((part / "model_index.json").read_text(encoding="utf-8"))
    if names and "id2label" not in written:
        write_json(part / "model_index.json", {**written, "id2label": names})
