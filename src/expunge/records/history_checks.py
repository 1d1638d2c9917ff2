"""Whether a file of requests can be the history of a checkpoint, as far as the metadata of the checkpoint says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..data.earlier_samples import find_samples
from ..data.past_requests import PastRequest
from ..data.split_sets import SplitSets
from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .checkpoint_requests import key_of, listed_as, public_requests
from .request_file import requests_path

# requests that a sentence names
_SHOWN = 5


def check_history(
    checkpoint: Checkpoint, split: SplitSets, requests: Sequence[PastRequest], history: Path | None = None
) -> str | None:
    """Check requests that a checkpoint is said to have answered, and that its metadata does not list.

    Args:
        checkpoint: The checkpoint.
        split: A split of today's data, as it was drawn: for the samples that an original was trained on.
        requests: What `answered_requests` returned.
        history: The file that the user named.

    Returns:
        A sentence that names the requests that are taken as answered because the user says so; None without any.

    Raises:
        CheckpointError: The checkpoint is an original that was trained on the samples which a `.requests.json` says it has forgotten.
    """
    listed = listed_as(requests, public_requests(checkpoint), key_of(checkpoint, history))
    extra = {number: past for number, past in enumerate(requests, 1) if past.request not in listed}
    if not extra:
        return None
    path, name = history or requests_path(checkpoint.path), checkpoint.path.name
    shown = [f"{number} ({p.scenario}, {len(p.ids):,} samples)" for number, p in list(extra.items())[:_SHOWN]]
    text = ", ".join(shown) + (f" and {len(extra) - _SHOWN:,} more" if len(extra) > _SHOWN else "")
    metadata = checkpoint.metadata
    is_original = metadata.get("kind") == "original" and metadata.get("train_hash") == split.train_hash
    if is_original and path.suffix == ".json":
        found = find_samples(list(extra.values()), split.train.data, split.test.data)
        if seen := sum(int(torch.isin(e.index, split.train.index).sum()) for e in found):
            raise CheckpointError(
                f"{path} is not the history of {checkpoint.path}: it says that the model has answered {text}, and the metadata says that "
                f"the model is an original, trained on {seen:,} of these samples; give the file that was written with it, or none."
            )
    return f"the metadata of {name} does not list these requests of {path.name}, and they are taken as answered because you say so: {text}."
