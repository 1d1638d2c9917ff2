"""Load classifiers of the transformers library from a folder that `save_pretrained` wrote."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
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
        model, report = auto.from_pretrained(
            folder,
            num_labels=num_classes,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        _check_sizes(folder, num_classes, report.get("mismatched_keys") or ())
        return model.float()
    config = configs.from_pretrained(folder, local_files_only=True)
    if config.num_labels != num_classes:
        raise ModelError(
            f"{folder}/config.json describes {config.num_labels} classes, but the data has {num_classes}; use data with all "
            "the classes, or hf-weights:DIR to get a head for the classes of the data."
        )
    return auto.from_config(config).float()


def _check_sizes(
    folder: Path, num_classes: int, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]
) -> None:
    """Warn of a head of another size, and refuse other parameters of another size, which would get initial values too.

    Args:
        folder: The folder, for messages.
        num_classes: Number of classes.
        mismatched: Name, shape in the file and shape in the model of each parameter that the folder has in another size.
    """
    sizes = sorted((name, tuple(file), tuple(model)) for name, file, model in mismatched)
    # only the last layer has a size of its own for each class
    others = [size for size in sizes if size[2][:1] != (num_classes,) or size[1][1:] != size[2][1:]]
    if others:
        name, file, model = others[0]
        raise ModelError(
            f"{len(others)} parameters in {folder} have another size than in the model of its config.json (first: {name}, {file} in the "
            f"file and {model} in the model); give the config.json that save_pretrained wrote beside them."
        )
    if sizes:
        names = ", ".join(name for name, *_ in sizes)
        warnings.warn(
            f"the head in {folder} is for {sizes[0][1][0]} classes, and the data has {num_classes}: {names} get "
            "initial parameters, and all others come from the folder. Train the model before a run, or give the checkpoint that was "
            "trained with this head.",
            stacklevel=5,
        )
