"""The training of the shards of a SISA ensemble, slice after slice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..tasks.task import Task
from ..training.execute import execute
from ._fresh import GoOnFrom
from ._sisa_states import Failures, State, cpu_state, derived_seed
from .retrain import Retrain


@dataclass(frozen=True, eq=False)
class ShardTraining:
    """Train the shards of an ensemble on the retain set of a split.

    Args:
        recipe: The training of one slice.
        slices: Number of slices of a shard.
        split: The split.
        places: shard * slices + slice of each position of the data (N,).
        task: The task of the models.
        seed: Seed of the ensemble.
        failures: List that receives the end and the status of each slice whose training did not finish.
        options: Further keyword arguments of `execute`.
    """

    recipe: Retrain
    slices: int
    split: Split
    places: Tensor
    task: Task
    seed: int
    failures: Failures | None
    options: dict[str, Any]

    def learn(self, model: nn.Module, states: list[State], shard: int) -> list[State]:
        """Train the model of a shard on from the last of `states`, and return the states after all slices."""
        retain = self.split.retain
        of_retain = self.places[retain.index]
        for r in range(len(states) - 1, self.slices):
            in_slices = (of_retain // self.slices == shard) & (of_retain % self.slices <= r)
            if in_slices.any():
                nothing = self.split.withheld.take(torch.empty(0, dtype=torch.int64))
                part = replace(self.split, retain=retain.take(in_slices), withheld=nothing)
                seed, factory = derived_seed(self.seed, shard, r + 1), GoOnFrom(model)
                run = execute(model, part, self.recipe, self.task, seed=seed, factory=factory, **self.options)
                model.load_state_dict(run.model.state_dict())
                if self.failures is not None and run.ended != "finished":
                    self.failures.append((run.ended, f"shard {shard}, slice {r}: {run.status}"))
            states = [*states, cpu_state(model)]
        return states
