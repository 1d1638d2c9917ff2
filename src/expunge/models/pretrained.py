"""Load classifiers of the transformers library from a folder that `save_pretrained` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..errors import MissingExtra, ModelError
from ..hub_cache import cache_advice
from .silenced import silenced

FOLDERS = ("hf-config", "hf-weights")


def from_folder(spec: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Load a classifier from a folder. No code of the folder runs.

    Args:
        spec: `hf-config:DIR` makes the model of `DIR/config.json` with initial parameters. `hf-weights:DIR` loads the
            parameters of `DIR`; a head of another size gets initial parameters.
        num_classes: Number of classes.
        shape: Shape of one input: (T,) for tokens, (C, H, W) for images.

    Raises:
        ModelError: If the folder holds no classifier, or `hf-config` describes another number of classes.
        MissingExtra: If transformers is not installed.
    """
    kind, _, path = spec.partition(":")
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json; name a folder that save_pretrained wrote.{cache_advice(folder)}"
        )
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("models of transformers", "text") from error
    auto: Any = (
        transformers.AutoModelForImageClassification
        if len(shape) == 3
        else transformers.AutoModelForSequenceClassification
    )
    try:
        # the warning is about a new head, which the user asked for
        with silenced(transformers.logging):
            return _load(auto, transformers.AutoConfig, kind, folder, num_classes)
    except ModelError:
        raise
    # transformers raises many types of errors
    except Exception as error:
        raise ModelError(
            f"{folder} holds no classifier that can be loaded: {type(error).__name__}: {error}"
        ) from error


def _load(auto: Any, configs: Any, kind: str, folder: Path, num_classes: int) -> nn.Module:
    if kind == "hf-weights":
        return auto.from_pretrained(folder, num_labels=num_classes, local_files_only=True).float()
    config = configs.from_pretrained(folder, local_files_only=True)
    if config.num_labels != num_classes:
        raise ModelError(
            f"{folder}/config.json describes {config.num_labels} classes, but the data has {num_classes}; use data with all "
            "the classes, or hf-weights:DIR to get a head for the classes of the data."
        )
    return auto.from_config(config).float()
