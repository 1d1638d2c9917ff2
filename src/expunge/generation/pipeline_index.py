"""Read from the JSON files of a pipeline folder what it holds, before diffusers is imported or parameters are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError, raise_all
from .weight_files import dtypes, stored, variants

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
    "LatentConsistency": "it is distilled to a few steps, which the loss of a diffusion model would undo; erase from the "
    "pipeline that it was distilled from",
}


@dataclass(frozen=True)
class PipelineIndex:
    """What a pipeline folder holds.

    Args:
        folder: The folder.
        class_name: Class of the pipeline.
        kind: Its type: "unet" (Stable Diffusion 1.x and 2.x), "xl" or "dit".
        parts: Names of its parts that are folders.
        variant: Variant of the files to read, for example "fp16". None for files without one.
    """

    folder: Path
    class_name: str
    kind: Kind
    parts: tuple[str, ...]
    variant: str | None = None

    @property
    def denoiser(self) -> str:
        """Name of the part that is unlearned."""
        return "transformer" if self.kind == "dit" else "unet"

    def files(self, part: str) -> list[Path]:
        """Return the files of parameters that diffusers reads for a part."""
        folder = self.folder / part
        return stored(folder, self.variant) or stored(folder)


def read_index(folder: str | Path) -> PipelineIndex:
    """Read what a pipeline folder holds, from its JSON files and the headers of its files of parameters.

    Raises:
        CheckpointError: With every reason why the pipeline cannot be unlearned.
    """
    path = Path(folder)
    if not (path / "model_index.json").is_file():
        raise CheckpointError(
            f"{path} is no pipeline folder: it lacks model_index.json; name a folder that `save_pretrained` wrote."
        )
    index = _read_json(path / "model_index.json")
    kind = _kind(path, index.get("_class_name"))
    parts = tuple(n for n, value in index.items() if _is_part(value) and (path / n).is_dir())
    raise_all(_part_problems(path, index, kind), CheckpointError)
    read = PipelineIndex(path, index["_class_name"], kind, parts, _variant(path, kind))
    raise_all(_weight_problems(read) + _denoiser_problems(read), CheckpointError)
    return read


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


def _variant(path: Path, kind: Kind) -> str | None:
    """Return the variant to read: none if the denoiser has files without one, else the only one."""
    part = path / ("transformer" if kind == "dit" else "unet")
    having = variants(part)
    if None in having or not having:
        return None
    if len(having) > 1:
        raise CheckpointError(
            f"{part} has only variants, and more than one: {', '.join(sorted(map(str, having)))}; leave the files of one."
        )
    return having.pop()


def _weight_problems(index: PipelineIndex) -> list[str]:
    """Return the parts without all of their parameters, and those with an adapter."""
    problems = []
    for name in PARTS[index.kind]:
        if name.startswith("tokenizer") or name == "scheduler":
            continue
        part = index.folder / name
        if not (files := index.files(name)):
            which = f" of the variant {index.variant}" if index.variant else ""
            problems.append(
                f"{part} has no complete file of parameters{which} (safetensors or bin, with all its shards); copy or "
                "download the missing files."
            )
        elif (part / "adapter_config.json").exists() or any(map(_is_adapter, dtypes(files))):
            problems.append(
                f"{part} has an adapter such as LoRA attached; merge it with `pipeline.fuse_lora()` and "
                "`pipeline.unload_lora_weights()`, save the pipeline, and give that folder."
            )
    return problems


def _is_adapter(name: str) -> bool:
    return ".base_layer." in name or "lora_" in name or "_lora" in name


def _denoiser_problems(index: PipelineIndex) -> list[str]:
    """Return what in the configuration of the denoiser no erasure can serve."""
    part = index.folder / index.denoiser
    config = _read_json(part / "config.json")
    latents = _read_json(index.folder / "vae" / "config.json").get("latent_channels", 4)
    problems = []
    if (name := config.get("_class_name")) not in DENOISERS:
        problems.append(f"the denoiser in {part} is a {name}; known: {', '.join(DENOISERS)}.")
    if config.get("time_cond_proj_dim") is not None:
        problems.append(
            f"the denoiser in {part} takes the guidance as an input (time_cond_proj_dim). {_ADVICE['LatentConsistency']}."
        )
    if config.get("in_channels", 4) != latents:
        problems.append(
            f"the denoiser in {part} takes {config.get('in_channels', 4)} channels, but latents have {latents}: it is made for "
            "inpainting or for editing images; use a text-to-image pipeline."
        )
    if config.get("sample_size", 1) is None:
        problems.append(f"{part}/config.json has no sample_size; write the side of the latents there.")
    extra = {k: config[k] for k in ("addition_embed_type", "class_embed_type") if config.get(k) is not None}
    if index.kind == "unet" and extra:
        problems.append(
            f"the denoiser in {part} takes inputs that Stable Diffusion 1.x and 2.x have not: {extra}."
        )
    return problems
