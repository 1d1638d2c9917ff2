"""What the JSON files of a pipeline folder say. Reading them imports neither torch nor diffusers, so a refusal takes no time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import CheckpointError, raise_all
from .schedulers import few_step_advice, scheduler_problems

Kind = Literal["unet", "xl", "dit"]

KINDS: dict[str, Kind] = {
    "StableDiffusionPipeline": "unet",
    "StableDiffusionXLPipeline": "xl",
    "DiTPipeline": "dit",
}
_TEXT = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
PARTS: dict[Kind, tuple[str, ...]] = {
    "unet": _TEXT,
    "xl": ("tokenizer_2", "text_encoder_2", *_TEXT),
    "dit": ("transformer", "vae", "scheduler"),
}
# classes of the denoiser; folders of DiT by old versions of diffusers name the second one
DENOISERS = ("UNet2DConditionModel", "DiTTransformer2DModel", "Transformer2DModel")
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "stable_diffusion_xl")
# files of a tokenizer, of which one group must be there
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_ADVICE = {
    "Img2Img": "open it as a text-to-image pipeline (AutoPipelineForText2Image.from_pipe) and save that",
    "Inpaint": "its denoiser takes a mask and an image as inputs; use the pipeline that it was made from",
    "LatentConsistency": few_step_advice("it"),
}


class PipelineConfig(NamedTuple):
    """What `model_index.json` says of a folder.

    Args:
        class_name: Class of the pipeline.
        kind: Its type: "unet" (Stable Diffusion 1.x and 2.x), "xl" or "dit".
        parts: Names of its parts that are folders.
        entries: The whole file.
    """

    class_name: str
    kind: Kind
    parts: tuple[str, ...]
    entries: dict[str, Any]


def denoiser_of(kind: Kind) -> str:
    """Return the name of the part that is unlearned."""
    return "transformer" if kind == "dit" else "unet"


def read_config(folder: str | Path) -> PipelineConfig:
    """Read `model_index.json`, and check that the parts it names are there.

    Raises:
        CheckpointError: The pipeline is not supported, or parts are missing.
    """
    path = Path(folder)
    if not (path / "model_index.json").is_file():
        raise CheckpointError(
            f"{path} is no pipeline folder: it lacks model_index.json; name a folder that `save_pretrained` wrote."
        )
    index = _read_json(path / "model_index.json")
    kind = _kind(path, index.get("_class_name"))
    raise_all(_part_problems(path, index, kind), CheckpointError)
    parts = tuple(n for n, value in index.items() if _is_part(value) and (path / n).is_dir())
    return PipelineConfig(index["_class_name"], kind, parts, index)


def check_config(folder: str | Path) -> None:
    """Check everything that the JSON files tell.

    Raises:
        CheckpointError: With every reason why the pipeline cannot be unlearned.
    """
    raise_all(config_problems(Path(folder), read_config(folder)), CheckpointError)


def config_problems(path: Path, read: PipelineConfig) -> list[str]:
    """Return what in the configurations of denoiser, autoencoder and scheduler no erasure can serve."""
    denoiser = _read_json(path / denoiser_of(read.kind) / "config.json")
    vae = _read_json(path / "vae" / "config.json")
    names = (read.entries.get("_name_or_path"), denoiser.get("_name_or_path"))
    return [
        *_denoiser_problems(path / denoiser_of(read.kind), read.kind, denoiser, vae),
        *(_latent_problems(path / "vae", vae) if read.kind == "xl" else ()),
        *scheduler_problems(path / "scheduler", read.entries["scheduler"][1], scheduler_config(path), names),
    ]


def scheduler_config(path: Path) -> dict[str, Any]:
    """Read the configuration of the scheduler of a pipeline folder. Raises `CheckpointError` if there is none."""
    return _read_json(path / "scheduler" / "scheduler_config.json")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read as JSON: {error}; copy or download it again."
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} holds no JSON object; copy or download it again.")
    return value


def _kind(path: Path, name: Any) -> Kind:
    known = ", ".join(KINDS)
    if not isinstance(name, str):
        what = "names no class" if name is None else f"names code of its own ({name})"
        raise CheckpointError(f"{path} cannot be opened: model_index.json {what}; known: {known}.")
    if name not in KINDS:
        advice = next((f" It cannot be erased from: {text}." for k, text in _ADVICE.items() if k in name), "")
        raise CheckpointError(f"{path} is a {name}, which is not supported; known: {known}.{advice}")
    return KINDS[name]


def _is_part(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)


def _part_problems(path: Path, index: dict[str, Any], kind: Kind) -> list[str]:
    """Return the parts that are missing, that need code of their own, or whose tokenizer has no words."""
    problems = []
    for name in PARTS[kind]:
        part, value = path / name, index.get(name)
        if not _is_part(value):
            problems.append(
                f"{path} has no {name}: model_index.json does not name one; use a complete pipeline."
            )
        elif value[0] not in LIBRARIES:  # type: ignore[index]
            problems.append(f"the {name} of {path} is code of its own ({'.'.join(value)}), which is not run.")  # type: ignore[arg-type]
        elif not part.is_dir():
            problems.append(f"{path} lacks the folder {name}; copy or download it again.")
        elif name.startswith("tokenizer") and not any(
            all((part / f).is_file() for f in files) for files in TOKENIZER_FILES
        ):
            problems.append(f"{part} has no words: it needs tokenizer.json, or vocab.json and merges.txt.")
    return problems


def _denoiser_problems(part: Path, kind: Kind, config: dict[str, Any], vae: dict[str, Any]) -> list[str]:
    latents = vae.get("latent_channels", 4)
    problems = []
    if (name := config.get("_class_name")) not in DENOISERS:
        problems.append(f"the denoiser in {part} is a {name}; known: {', '.join(DENOISERS)}.")
    if config.get("time_cond_proj_dim") is not None:
        problems.append(
            f"the denoiser in {part} takes the guidance as an input (time_cond_proj_dim): {few_step_advice('it')}."
        )
    if config.get("in_channels", 4) != latents:
        problems.append(
            f"the denoiser in {part} takes {config.get('in_channels', 4)} channels, but latents have {latents}: it is made for "
            "inpainting or for editing images; use a text-to-image pipeline."
        )
    # what diffusers takes where there is no entry
    size = config.get("sample_size", 32 if kind == "dit" else None)
    if size is None:
        problems.append(f"{part}/config.json has no sample_size; write the side of the latents there.")
    elif not _is_size(size):
        problems.append(
            f"sample_size in {part}/config.json is {size!r}; it must be the side of the latents, or [height, width], from 1 up."
        )
    extra = {k: config[k] for k in ("addition_embed_type", "class_embed_type") if config.get(k) is not None}
    if kind == "unet" and extra:
        problems.append(
            f"the denoiser in {part} takes inputs that Stable Diffusion 1.x and 2.x have not: {extra}."
        )
    return problems


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides)


def _latent_problems(part: Path, vae: dict[str, Any]) -> list[str]:
    """Return the problems of the mean and standard deviation of each channel of the latents, which an XL may have."""
    given = {name: vae.get(name) for name in ("latents_mean", "latents_std")}
    if any(value is None for value in given.values()):
        # diffusers uses them together or not at all
        return []
    count = vae.get("latent_channels", 4)
    return [
        f"{name} in {part}/config.json is {value!r}; it must be {count} numbers, one for each channel of the latents"
        f"{', above 0' if name == 'latents_std' else ''}."
        for name, value in given.items()
        if not isinstance(value, list)
        or len(value) != count
        or not all(
            type(v) in (int, float) and math.isfinite(v) and (v > 0 or name == "latents_mean") for v in value
        )
    ]
