"""The form of a checkpoint without its parameters: where they stood, under which names, and the small plain entries beside them.

A project keeps it, so that later models can be written as the user's own library reads them, after the original is deleted.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .checkpoint_folders import COPIED, WEIGHTS, weight_files
from .checkpoint_names import converted_by_library, part_of_state
from .torch_reading import read_torch_file

# the file with the names and the plain entries
FORM = "form.pt"
# fields of a `Checkpoint` that a form has as they are; none holds a parameter
_FIELDS = ("format", "metadata", "keys", "prefix", "rest", "counters", "versions", "names", "repeats", "ema", "dropped",
           "other_states")  # fmt: skip


def write_form(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the form of a checkpoint into a new folder, after `load_into`.

    Of a folder that `save_pretrained` wrote, its configuration and the files of its tokenizer are copied.

    Args:
        folder: The folder to make.
        checkpoint: The checkpoint, with the names of the model.
    """
    folder.mkdir()
    values: dict[str, Any] = {name: getattr(checkpoint, name) for name in _FIELDS}
    values |= {"name": checkpoint.path.name, "is_folder": checkpoint.path.is_dir()}
    values |= {"state": list(checkpoint.state), "convert": ""}
    if checkpoint.convert is not None:
        shapes = {name: (list(t.shape), t.dtype) for name, t in checkpoint.in_file.items()}
        values |= {"convert": "library" if shapes else "part", "in_file": shapes}
    torch.save(values, folder / FORM)
    if checkpoint.path.is_dir():
        for file in sorted(checkpoint.path.iterdir()):
            if file.is_file() and file.name in COPIED:
                shutil.copyfile(file, folder / file.name)
        is_adapter = weight_files(checkpoint.path)[0].name.startswith("adapter")
        # it has no tensors, and says how an output names its file
        safetensors.torch.save_file({}, folder / (WEIGHTS[2] if is_adapter else WEIGHTS[0]))


def read_form(folder: Path) -> Checkpoint:
    """Return a checkpoint without values, which `write_checkpoint` takes as `like`.

    If transformers divides the tensors otherwise in the file, call `complete_form` first.

    Raises:
        CheckpointError: The form is missing or broken.
    """
    file = folder / FORM
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; restore it from a backup.")
    values = read_torch_file(file)
    try:
        state = {name: torch.empty(0) for name in values["state"]}
        path = folder if values["is_folder"] else folder / values["name"]
        like = Checkpoint(state=state, path=path, **{name: values[name] for name in _FIELDS})
        if values["convert"] == "part":
            like.convert = partial(part_of_state, frozenset(like.names))
        elif values["convert"]:
            like.in_file = {
                name: torch.zeros(1, dtype=dtype).expand(shape)
                for name, (shape, dtype) in values["in_file"].items()
            }
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is no form of a checkpoint; restore it from a backup.") from error
    return like


def needs_model(form: Checkpoint) -> bool:
    """Whether only the model says how the tensors of the file are made from its own."""
    return bool(form.in_file) and form.convert is None


def complete_form(form: Checkpoint, model: nn.Module) -> None:
    """Let transformers say how the tensors of the file are made from those of the model.

    Raises:
        CheckpointError: This transformers does not divide the tensors as the one that read the file.
    """
    found = converted_by_library(model, form.in_file)
    if found is None:
        version = getattr(sys.modules.get("transformers"), "__version__", "not imported")
        raise CheckpointError(
            f"transformers ({version}) does not convert the tensors of {form.path.name} any more; use the version that made the project."
        )
    form.convert = found.revert


def file_names(form: Checkpoint, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {name in the model: name in the file} of all tensors of a model. A tied tensor may have the name of another one."""
    kept = {name: form.repeats.get(name, name) for name in state}
    return {name: form.prefix + form.names.get(one, one) for name, one in kept.items()}
