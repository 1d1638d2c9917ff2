"""The kept states of a SISA ensemble: their seeds, and the folder that stores them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..records.atomic_files import atomic, write_json
from ..records.record import Ended
from ..torch_utils.module_state import snapshot

State = dict[str, Tensor]
# how, and with which status, the training of a slice ended early
Failures = list[tuple[Ended, str]]


def derived_seed(seed: int, shard: int, piece: int) -> int:
    """Return the seed of one piece of work, derived from the ensemble's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{shard}/{piece}".encode()).digest()[:6], "big")


def cpu_state(model: nn.Module) -> State:
    """Return a copy of the model's state on the CPU."""
    return {k: v.cpu() for k, v in snapshot(model).items()}


def write_states(folder: Path, kept: list[list[State]], settings: dict[str, Any]) -> None:
    """Write a safetensors file for each state `kept[shard][slice]`, and settings.json."""
    for s, states in enumerate(kept):
        for r, state in enumerate(states):
            with atomic(_file(folder, s, r)) as path:
                save_file({k: v.contiguous() for k, v in state.items()}, path)
    write_json(folder / "settings.json", settings)


def read_states(folder: Path) -> tuple[dict[str, Any], list[list[State]]]:
    """Return the settings and the states that `write_states` wrote."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    slices = range(settings["slices"] + 1)
    return settings, [[load_file(_file(folder, s, r)) for r in slices] for s in range(settings["shards"])]


def _file(folder: Path, shard: int, piece: int) -> Path:
    return folder / f"shard{shard}-slice{piece}.safetensors"
