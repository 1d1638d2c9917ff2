"""Read from the JSON files of a pipeline folder what it holds, before diffusers is imported or parameters are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, raise_all
from .pipeline_config import PARTS, Kind, config_problems, denoiser_of, read_config
from .weight_files import dtypes, stored, variants


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
        return denoiser_of(self.kind)

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
    config = read_config(path)
    read = PipelineIndex(path, config.class_name, config.kind, config.parts, _variant(path, config.kind))
    raise_all(_weight_problems(read) + config_problems(path, config), CheckpointError)
    return read


def _variant(path: Path, kind: Kind) -> str | None:
    """Return the variant to read: none if the denoiser has files without one, else the only one."""
    part = path / denoiser_of(kind)
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
                f"{part} has an adapter such as LoRA attached, and diffusers cannot load such a folder; load the base pipeline, "
                "attach the file of the LoRA with `pipeline.load_lora_weights(...)`, merge it with `pipeline.fuse_lora()` and "
                "`pipeline.unload_lora_weights()`, save the pipeline, and give that folder."
            )
    return problems


def _is_adapter(name: str) -> bool:
    return ".base_layer." in name or "lora_" in name or "_lora" in name
