"""The original and the retrained model, with which methods are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..training.method import Method
from ..training.run import Run
from .outcome import Outcome


@dataclass(eq=False)
class Reference:
    """An original or a retrained model, just made or from a file.

    Args:
        run: A run with the model.
        method: The recipe it was trained with; None if it is unknown.
        before: Hash of the model that its run started from.
        outcome: Its outcome, if it was scored and recorded before.
    """

    run: Run
    method: Method | None = None
    before: str = ""
    outcome: Outcome | None = None


@dataclass(eq=False)
class References:
    """The outcomes that methods are compared with. `retrained` is None without a reference model."""

    original: Outcome
    retrained: Outcome | None = None

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured of both, as arguments of `Pipeline.outcome`."""
        retrained = self.retrained.evaluation if self.retrained is not None else None
        return {"original": self.original.evaluation, "retrained": retrained}
