"""Classifiers of transformers from a folder that `save_pretrained` wrote: fresh weights by its configuration, or its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import MissingExtra, ModelError

KINDS = ("hf-config", "hf-weights")


def from_folder(spec: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    """`hf-config:DIR`, the model that `DIR/config.json` describes with fresh weights; `hf-weights:DIR`, with those of `DIR` and,
    where it has none of this size, a fresh head for `num_classes`. Inputs of one axis are tokens, of three images.

    Raises `ModelError` for folders that hold no classifier, or one of another number of classes. No code of the folder runs.
    """
    kind, _, where = spec.partition(":")
    folder = Path(where).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; name a folder that save_pretrained wrote.")
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
        with _quiet(transformers.logging):
            return _made(auto, transformers.AutoConfig, kind, folder, num_classes)
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds for what it cannot make
        raise ModelError(f"{folder} gives no classifier: {type(error).__name__}: {error}") from error


def _made(auto: Any, configs: Any, kind: str, folder: Path, num_classes: int) -> nn.Module:
    if kind == "hf-weights":
        return auto.from_pretrained(folder, num_labels=num_classes, local_files_only=True).float()
    config = configs.from_pretrained(folder, local_files_only=True)
    if config.num_labels != num_classes:
        raise ModelError(
            f"{folder}/config.json describes {config.num_labels} classes, the data has {num_classes}; give data with all "
            "its classes, or hf-weights:DIR for a head of as many as the data has."
        )
    return auto.from_config(config).float()


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """No warning of a fresh head, which is what was asked for, and no bar."""
    loud, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(loud)
        if bar:
            logging.enable_progress_bar()
