"""Keep tensors of shadow models as files, one for each shadow."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..data.samples import Samples
from ..records.atomic_files import atomic

Tensors = dict[str, Tensor]


def digest(samples: Samples) -> str:
    """Return a short hash of which samples these are."""
    return hashlib.sha256(samples.index.numpy().tobytes()).hexdigest()[:16]


def save_shadow(folder: Path | None, k: int, tensors: Tensors) -> None:
    """Write the tensors of shadow `k`. Without a folder, keep nothing."""
    if folder is not None:
        with atomic(folder / f"{k:04d}.safetensors") as partial:
            save_file({n: t.contiguous() for n, t in tensors.items()}, partial)


def load_shadow(folder: Path | None, k: int, names: set[str]) -> Tensors | None:
    """Return the tensors of shadow `k`. Return None if there is no intact file."""
    path = None if folder is None else folder / f"{k:04d}.safetensors"
    if path is None or not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        # a truncated or damaged file is made again
        return None
    return tensors if set(tensors) == names else None
