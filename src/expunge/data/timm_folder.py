"""Folders that `save_for_hf` of timm wrote: `config.json` says how the model was made, its images prepared and its classes numbered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# entries of `config.json` that decide what the model computes, or what its outputs mean
DECIDES = ("architecture", "num_classes", "model_args", "label_names", "pretrained_cfg")


def timm_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a folder of timm. Empty for any other folder, and for a broken file."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_timm = isinstance(config, dict) and isinstance(config.get("architecture"), str)
    return config if is_timm and isinstance(config.get("pretrained_cfg"), dict) else {}


def timm_labels(config: Mapping[str, Any]) -> list[str]:
    """Return the class names of a `config.json` of timm, in the order of their numbers. Empty if it does not name each class."""
    names = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    if isinstance(names, dict):
        numbers = {str(k): v for k, v in names.items()}
        names = (
            [numbers[str(k)] for k in range(len(numbers))]
            if {*numbers} == {*map(str, range(len(numbers)))}
            else None
        )
    return (
        [str(name) for name in names]
        if isinstance(names, list) and len(names) == config.get("num_classes")
        else []
    )


def folder_problem(folder: Path, made_by: str) -> str:
    """Return why the folder of a checkpoint does not fit the model spec that made a model; empty if it fits.

    Args:
        folder: The folder of the checkpoint.
        made_by: The model spec of a model that Expunge made by name, such as "timm:resnet18".
    """
    kind, _, rest = made_by.partition(":")
    if kind != "timm" or not (config := timm_config(folder)):
        return ""
    own = timm_config(Path(rest.partition("?")[0]).expanduser())
    different = [name for name in DECIDES if own.get(name) != config.get(name)]
    if not different:
        return ""
    start = f"{folder}/config.json says how timm makes this model, prepares its images and numbers its classes, and"
    if not own:
        return f"{start} {made_by} does not use it; give the model as timm:{folder}."
    return f"{start} that of {made_by} has other values ({', '.join(different)}); give the model as timm:{folder}."
