"""The names that the tensors of an exported file have in the model, so that the hash of the model can be computed from the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from .checkpoint import Checkpoint
from .checkpoint_contents import COUNTERS, MOST_NUMBERS, common_prefix
from .checkpoint_totals import MODEL_NAMES


def names_text(files: Mapping[str, str], prefix: str, others: list[str]) -> str:
    """Return the entry for the metadata of a file. Empty if the names without the usual prefixes are those of the model.

    Args:
        files: {name in the model: name in the file} of all tensors of the model.
        prefix: What stands before most names of the file.
        others: Names in the file of tensors that are not of the model.

    Example:
        >>> names_text({"fc.bias": "net.fc.bias"}, "net.", ["loss.weight"])
        '{"prefix":"net.","names":{},"others":["loss.weight"]}'
    """
    others = [name for name in others if name not in COUNTERS]
    usual = common_prefix([*files.values(), *others])
    if not others and all(in_file == usual + name for name, in_file in files.items()):
        return ""
    # a tied tensor has the name of another one, which is then listed too
    listed = {in_file for name, in_file in files.items() if in_file != prefix + name}
    renamed = {name: in_file for name, in_file in files.items() if in_file in listed}
    return json.dumps({"prefix": prefix, "names": renamed, "others": others}, separators=(",", ":"))


def stored_text(name: str) -> str:
    """Return the entry for a file whose library divides the tensors otherwise than the model.

    Args:
        name: The file of the project from which it was written.
    """
    return json.dumps({"stored": name})


def stored_name(checkpoint: Checkpoint) -> str:
    """Return the name in the entry that `stored_text` made. Empty without one."""
    try:
        name = json.loads(checkpoint.metadata[MODEL_NAMES])["stored"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    # the name is shown to users
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]{1,100}", name) else ""


class ModelPart(NamedTuple):
    """The tensors of a file that are of the model, by the names of the model, and all other ones."""

    state: dict[str, Tensor]
    others: dict[str, Tensor]

    @property
    def few_others(self) -> bool:
        """Whether the other tensors have too few values for a model: at most 1,000, and a tenth of those of the model."""
        numbers = sum(t.numel() for t in self.others.values())
        return numbers <= min(MOST_NUMBERS, sum(t.numel() for t in self.state.values()) // 10)


def model_part(checkpoint: Checkpoint) -> ModelPart | None:
    """Return what an exported file holds, as its metadata says. None if it has no such entry, or a wrong one."""
    tensors = {**checkpoint.counters, **{checkpoint.prefix + k: t for k, t in checkpoint.state.items()}}
    try:
        entry = json.loads(checkpoint.metadata[MODEL_NAMES])
        prefix, renamed, apart = entry["prefix"], dict(entry["names"]), {*entry["others"], *COUNTERS}
        state = {name: tensors[in_file] for name, in_file in renamed.items()}
        own = {k: t for k, t in tensors.items() if k not in apart and k not in renamed.values()}
        if not all(k.startswith(prefix) for k in own):
            return None
        state |= {k.removeprefix(prefix): t for k, t in own.items()}
        return ModelPart(state, {k: t for k, t in tensors.items() if k in apart})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
