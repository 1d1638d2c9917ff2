"""The result of `erase`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..records.record import Record
from ..training.run import Run
from .concepts import Erasure
from .prompted import Prompted
from .text_to_image import Loaded

# name of the record in an output folder
RECORD = "expunge.json"


@dataclass(eq=False)
class Erased:
    """Hold the erased model with its run and record, and what an audit of it needs.

    Args:
        run: The training run.
        record: The record of the run.
        out: The folder that `erase` wrote. None if it wrote none.
        loaded: The pipeline that was read.
        original: The model before training.
        erasure: The concepts that were erased and kept.
        prompts: The conditions of both models, in order.
    """

    run: Run
    record: Record
    out: Path | None
    loaded: Loaded
    original: Prompted
    erasure: Erasure
    prompts: list[str] = field(default_factory=list)

    @property
    def model(self) -> Prompted:
        """The erased model. Condition `k` is `prompts[k]`."""
        return self.run.model  # type: ignore[return-value]

    def save_record(self) -> None:
        """Write the record to `expunge.json` in the output folder, if there is one."""
        if self.out is not None:
            self.record.save(self.out / RECORD)
