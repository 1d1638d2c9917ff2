"""Find samples whose inputs or labels are not finite, so that their NaN is not blamed on the model or the steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..torch_utils.finite import ROWS, rows_not_finite

# samples that a message names
SHOWN = 5


def input_problems(samples: Any) -> list[str]:
    """Return the problem of samples in memory with NaN or infinity, with their ids. A stream is not read for this.

    Args:
        samples: The `Samples`. The whole data that holds them is checked.
    """
    data = samples.data
    # only `TensorData` holds its inputs
    inputs = getattr(data, "x", None)
    if not isinstance(inputs, Tensor | dict):
        return []
    parts = {"inputs": inputs.values() if isinstance(inputs, dict) else [inputs], "labels": [data.labels]}
    problems = []
    for part, tensors in parts.items():
        positions = sorted({k for tensor in tensors for k in rows_not_finite(tensor)})
        if positions:
            problems.append(
                f"{named_samples(data, positions)} NaN or infinity in the {part}; repair or remove the samples."
            )
    return problems


def broken_positions(samples: Any) -> list[int]:
    """Return the positions of the `Samples` with NaN or infinity in their inputs. All of them are read."""
    found: list[int] = []
    for batch in samples.batches(ROWS):
        tensors = batch.x.values() if isinstance(batch.x, dict) else [batch.x]
        found += batch.index[sorted({k for tensor in tensors for k in rows_not_finite(tensor)})].tolist()
    return found


def named_samples(data: Any, positions: list[int]) -> str:
    """Return the subject of a sentence on samples of a `Data` and its verb, such as "1 sample ('17') has"."""
    ids = data.samples(torch.tensor(positions[:SHOWN])).ids
    more = ", ..." if len(positions) > SHOWN else ""
    verb = "sample ({}) has" if len(positions) == 1 else "samples ({}) have"
    return f"{len(positions)} {verb.format(', '.join(map(repr, ids)) + more)}"
