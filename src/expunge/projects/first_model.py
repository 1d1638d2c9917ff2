"""Read the model that a project began with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..records.checkpoint import read_checkpoint
from ..records.checkpoint_loading import load_into
from .folder import Folder


def first_parameters(
    folder: Folder, state: dict[str, Any], build: Callable[[], nn.Module], ema: str | None
) -> Mapping[str, Tensor] | None:
    """Return the parameters of the model before the first request, by name.

    None if it is the latest model too, or if its file was deleted.
    """
    path = folder.find(state["models"][0]["file"], state)
    if len(state["models"]) == 1 or not path.exists():
        return None
    model = build()
    load_into(model, read_checkpoint(path, ema))
    return dict(model.named_parameters())
