"""The file in which an interrupted erasure keeps its training latents: each batch is appended, and nothing is written twice.

The first line is JSON with the identity of the call. Each batch is a JSON line (position of its first latent, shape, SHA-256) and
the bytes of its float32 values. The last line has the conditions and the name of the complete data. What a killed process left
unfinished at the end is dropped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..data.tensors import TensorData
from ..errors import ExpungeError, write_error
from ..records.together import refuse_special


class LatentsFile:
    """Read the latents that an earlier call kept, and append further ones.

    Args:
        path: The file.
        identity: Everything the latents depend on, as a text.

    Raises:
        ExpungeError: The file was made with another identity.

    Example:
        >>> kept = LatentsFile(Path(".out.latents"), "seed 0")
        >>> kept.add(len(kept.latents), batch)
    """

    def __init__(self, path: Path, identity: str):
        self.path = path
        self._head = _line({"latents": 1, "identity": identity})
        self._batches: list[Tensor] = []
        self._end: dict[str, Any] | None = None
        self._length = 0
        if path.exists():
            self._read()

    @property
    def latents(self) -> Tensor:
        """The latents (N, c, h, w) so far. Empty (0,) if there are none."""
        return torch.cat(self._batches) if self._batches else torch.empty(0)

    @property
    def data(self) -> TensorData | None:
        """The complete data; None if they are not complete."""
        if self._end is None:
            return None
        return TensorData(self.latents, torch.tensor(self._end["conditions"]), name=self._end["name"])

    def add(self, start: int, batch: Tensor) -> None:
        """Append a batch (n, c, h, w) whose first latent has the position `start`. At 0 all earlier ones go.

        Raises:
            WriteError: The file cannot be written.
        """
        if start == 0:
            self._batches, self._length = [], 0
        values = batch.detach().to("cpu", torch.float32).contiguous()
        raw = values.numpy().tobytes()
        line = _line({"start": start, "shape": list(values.shape), "sha256": hashlib.sha256(raw).hexdigest()})
        self._append(line + raw)
        self._batches.append(values)

    def finish(self, conditions: Sequence[int], name: str) -> None:
        """Append what makes the data complete: the condition of each latent, and the name of the data."""
        self._end = {"conditions": list(conditions), "name": name}
        self._append(_line(self._end))

    def _append(self, text: bytes) -> None:
        """Append to what is complete, so that the file is never shorter than what an earlier call finished."""
        refuse_special(self.path)
        added = text if self._length else self._head + text
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.path.exists() else "wb") as file:
                file.truncate(self._length)
                file.seek(self._length)
                file.write(added)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._length += len(added)

    def _read(self) -> None:
        with self.path.open("rb") as file:
            head = file.readline()
            # killed within the first line
            if head != self._head and self._head.startswith(head):
                return
            if head != self._head:
                raise ExpungeError(
                    f"{self.path} holds the latents of another call: pipeline, prompts, images, their number, sampler or seed "
                    "differ. Remove the file to start again, or repeat the settings of that call."
                )
            self._length, count = file.tell(), 0
            while self._end is None and (batch := self._next(file, count)) is not None:
                self._batches.append(batch)
                self._length, count = file.tell(), count + len(batch)

    def _next(self, file: BinaryIO, start: int) -> Tensor | None:
        """Return the next whole batch; None at the end, at an unfinished batch, and at one of another process."""
        try:
            entry = json.loads(file.readline())
            if "conditions" in entry:
                self._end = entry if len(entry["conditions"]) == start else None
                return None
            raw = bytearray(file.read(4 * math.prod(entry["shape"])))
            if entry["start"] != start or hashlib.sha256(raw).hexdigest() != entry["sha256"]:
                return None
        except (ValueError, TypeError, KeyError, OverflowError):
            return None
        return torch.frombuffer(raw, dtype=torch.float32).view(entry["shape"])


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
