"""Keep finished trials in a file, from which an interrupted call continues."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from torch import nn

from ..data.split import Split
from ..errors import ExpungeError
from ..masks.mask_file import Mask
from ..own_code import code_identity
from ..records.atomic_files import write_json
from ..records.hashing import mask_hash, state_hash
from ..records.record import plain, settings_of
from ..training.method import Method
from ..training.processes import is_first_process
from ..training.run import Compute
from .search import By, Trial


def identity_of(
    model: nn.Module,
    split: Split,
    method: Method,
    seed: int,
    how: Compute,
    mask: Mask | None,
    count: int | str,
    fixed: Collection[str],
    by: By,
) -> str:
    """Return a text that is equal for two calls only if their trials are the same."""
    given_mask = None if mask is None else mask_hash(mask)
    return repr((code_identity(type(method)), settings_of(method), split.hash, split.preparation, seed, asdict(how), given_mask,
                 state_hash(model.state_dict()), count, sorted(fixed), by))  # fmt: skip


def finished_trials(path: Path | None, identity: str) -> list[Trial]:
    """Return the trials of an interrupted call. Raise `ExpungeError` if they belong to another call."""
    if path is None or not path.exists():
        return []
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        saved_identity, trials = saved["identity"], [Trial(**t) for t in saved["trials"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExpungeError(
            f"{path} cannot be read as trials ({type(error).__name__}); remove it to start again."
        ) from error
    if saved_identity != identity:
        raise ExpungeError(
            f"{path} holds the trials of another run (model, method, settings, split, seed or number of trials differ); remove "
            "it to start again, or use the settings of that run."
        )
    return trials


def keep_trials(path: Path | None, identity: str, trials: list[Trial]) -> None:
    """Write the finished trials for an interrupted call; of several processes, only the first writes."""
    if path is not None and is_first_process():
        write_json(path, plain({"identity": identity, "trials": trials}))
