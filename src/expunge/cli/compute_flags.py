"""The flags of the computation and of a training recipe, made from the classes that they set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from ..methods.retrain import Retrain
from ..training.processes import from_torchrun
from ..training.run import Compute
from .settings_flags import settings_flags, with_help


@with_help
@dataclass(frozen=True, kw_only=True)
class ComputeFlags(Compute):
    """How the arithmetic is done.

    Args:
        threads: CPU threads. 0 leaves the choice to torch.
    """

    threads: int = 0

    def start(self) -> Compute:
        """Set the number of threads, join the other processes under `torchrun`, and return the settings of the run.

        Call it before anything is put on a device: it decides which GPU belongs to this process.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        values = {f.name: getattr(self, f.name) for f in fields(Compute)}
        return Compute(**{**values, "processes": from_torchrun() or self.processes})


# a recipe starts from fresh parameters, so no mask can keep any of them
RecipeFlags: Any = settings_flags(
    Retrain, default_text="from the preset of the data", omit=("density", "mask")
)
