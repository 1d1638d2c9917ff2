"""The kept states of a SISA ensemble: their seeds, and the folder that stores them with the requests of the ensemble."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.past_requests import PastRequest
from ..errors import CheckpointError
from ..records.atomic_files import atomic, write_json
from ..records.keyed import keyed, new_key
from ..records.record import Ended
from ..records.request_file import read_key, read_requests, write_requests
from ..torch_utils.module_state import snapshot

State = dict[str, Tensor]
# how, and with which status, the training of a slice ended early
Failures = list[tuple[Ended, str]]
# what an ensemble keeps of its data: keys of the samples that have ids (N,), int64, else the fingerprint
TrainedFrom = Tensor | str
SETTINGS, REQUESTS, SAMPLES = "settings.json", "requests.json", "samples.safetensors"


def derived_seed(seed: int, shard: int, piece: int) -> int:
    """Return the seed of one piece of work, derived from the ensemble's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{shard}/{piece}".encode()).digest()[:6], "big")


def cpu_state(model: nn.Module) -> State:
    """Return a copy of the model's state on the CPU."""
    return {k: v.cpu() for k, v in snapshot(model).items()}


def write_states(
    folder: Path,
    kept: list[list[State]],
    settings: dict[str, Any],
    requests: Sequence[PastRequest],
    samples: TrainedFrom | None,
) -> None:
    """Write a safetensors file for each state `kept[shard][slice]`, samples, requests.json (0600) and settings.json."""
    # settings.json is written last: a folder in which a write ended early has none, and cannot be loaded
    (folder / SETTINGS).unlink(missing_ok=True)
    for s, states in enumerate(kept):
        for r, state in enumerate(states):
            with atomic(_file(folder, s, r)) as path:
                save_file({k: v.contiguous() for k, v in state.items()}, path)
    key = new_key()
    write_requests(folder / REQUESTS, requests, key)
    # what an earlier version did not keep stays unknown
    known: dict[str, Any] = {}
    if requests or samples is not None:
        # a plain hash would let anyone with the data test each id
        known["requests"] = [keyed(key, "request", past.request) for past in requests]
    if samples is not None:
        known["data"] = samples if isinstance(samples, str) else ""
    if isinstance(samples, Tensor):
        with atomic(folder / SAMPLES) as path:
            save_file({"keys": samples}, path)
    write_json(folder / SETTINGS, {**settings, **known})


def read_states(
    folder: Path,
) -> tuple[dict[str, Any], list[list[State]], list[PastRequest], TrainedFrom | None]:
    """Return the settings, the states, the requests and the samples that `write_states` wrote.

    A folder of an earlier version has no requests and no samples. Then a warning says so.

    Raises:
        CheckpointError: The folder has no settings, or lacks requests that the ensemble has answered.
    """
    if not (folder / SETTINGS).exists():
        raise CheckpointError(
            f"{folder} has no {SETTINGS}, so it holds no ensemble, or one whose writing ended early; give a folder that "
            "SisaEnsemble.save has finished."
        )
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    requests = _requests_in(folder, settings.get("requests"))
    slices = range(settings["slices"] + 1)
    kept = [[load_file(_file(folder, s, r)) for r in slices] for s in range(settings["shards"])]
    samples: TrainedFrom | None = settings.get("data")
    if samples == "":
        samples = load_file(folder / SAMPLES)["keys"]
    return settings, kept, requests, samples


def _requests_in(folder: Path, listed: list[str] | None) -> list[PastRequest]:
    """Return the requests of a folder whose settings list them by hash; None stands for a folder of an earlier version."""
    if listed is None:
        warnings.warn(
            f"{folder} was written by an earlier version, which did not keep the requests that the ensemble has answered, so a later run "
            "may train on their samples again; write them on the ensemble with remember_requests(ensemble, read_requests(FILE)).",
            RuntimeWarning,
            stacklevel=4,
        )
        return []
    path = folder / REQUESTS
    requests = read_requests(path) if path.exists() else []
    key = read_key(path) if path.exists() else None
    known = {past.request for past in requests}
    known |= {keyed(key, "request", past.request) for past in requests if key}
    if missing := set(listed) - known:
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the {len(listed)} requests that the ensemble has answered, so a later run would train on "
            "their samples again; restore the file that was saved with the ensemble."
        )
    return requests


def _file(folder: Path, shard: int, piece: int) -> Path:
    return folder / f"shard{shard}-slice{piece}.safetensors"
