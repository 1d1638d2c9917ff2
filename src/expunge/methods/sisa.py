"""SISA: an ensemble trained so that forgetting is retraining a little of it. Exact.

Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot, "Machine Unlearning",
IEEE S&P 2021, arXiv:1912.03817.

Published: the training set is cut into S shards, each shard into R slices; a model of its own learns
each shard, slice after slice (first slice 1, then 1 and 2, ...), its weights being kept after each; to
delete a sample, its shard's model is trained on from the last weights kept before the sample's slice;
predictions are joined by vote or by the mean of the probabilities. With 2 E / (R + 1) epochs a slice a
shard's model sees its data E times.

Ours: the assignment is a random permutation of all positions of the data, so it does not depend on what
is deleted, and all randomness of a slice comes from the ensemble's seed, shard and slice: deletion
gives, bit for bit, the ensemble that training without the samples would have given. Handed a
`SisaEnsemble`, the method deletes; handed any other model, it trains an ensemble of such models on the
retain set from fresh weights. The mean of probabilities is the vote.

What comes out is an ensemble with all its kept states, not one model's weights: `expunge unlearn` cannot write it, so
use it from Python: `ensemble = unlearn(model, split, SISA(), task)`, `ensemble.save(folder)`, and for a later deletion
`SisaEnsemble.load(folder, factory)` (from `expunge.methods.sisa`), handed to `unlearn` in the place of the model.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.split import Split
from ..errors import ExpungeError
from ..records.atomic_files import atomic, write_json
from ..records.record import Ended
from ..tasks.task import Task
from ..training.execute import execute
from ..training.method import Method
from ..training.run import Run, snapshot
from .retrain import Retrain, fresh_weights

State = dict[str, Tensor]
Told = list[tuple[Ended, str]]


class SisaEnsemble(nn.Module):
    """One model a shard. Outputs are the logarithm of the mean probabilities (B, K).

    `kept[s]` holds shard s's weights before its first slice and after each slice; `settings` and `seed`
    are those it was trained with. `state_dict` has the current weights only; `save` writes everything.
    """

    def __init__(self, shards: list[nn.Module], settings: SISA, seed: int, kept: list[list[State]]):
        super().__init__()
        self.shards = nn.ModuleList(shards)
        self.settings, self.seed, self.kept = settings, seed, kept

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        outs = [shard(*inputs, **named) for shard in self.shards]
        logp = [(o if isinstance(o, Tensor) else o.logits).log_softmax(1) for o in outs]
        return torch.stack(logp).logsumexp(0) - torch.tensor(float(len(logp))).log().to(logp[0])

    def save(self, folder: Path | str) -> None:
        """Write the ensemble with all that deletion needs: a file for each kept state, and settings.json."""
        for s, states in enumerate(self.kept):
            for r, state in enumerate(states):
                with atomic(Path(folder) / f"shard{s}-slice{r}.safetensors") as part:
                    save_file({k: v.contiguous() for k, v in state.items()}, part)
        write_json(Path(folder) / "settings.json", {"seed": self.seed, **asdict(self.settings)})

    @staticmethod
    def load(folder: Path | str, factory: Callable[[], nn.Module]) -> SisaEnsemble:
        """The ensemble that `save` wrote, of models that `factory` makes."""
        found = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
        settings = SISA(**{f.name: found[f.name] for f in fields(SISA)})
        kept = [
            [load_file(Path(folder) / f"shard{s}-slice{r}.safetensors") for r in range(settings.slices + 1)]
            for s in range(settings.shards)
        ]
        models = []
        for states in kept:
            models.append(factory())
            models[-1].load_state_dict(states[-1])
        return SisaEnsemble(models, settings, found["seed"], kept)


@dataclass(frozen=True, kw_only=True)
class SISA(Method):
    """SISA: shards and slices, retrained from the last weights that had not seen the forget set (exact)."""

    shards: int = 5  # S: models, each on its part of the training set
    slices: int = 4  # R: steps in which a model gets its part
    epochs: int = 30  # E: how often a sample is seen, on average
    lr: float = 0.1  # largest learning rate
    batch_size: int = 256  # samples a step
    momentum: float = 0.9  # of sgd
    weight_decay: float = 5e-4  # pull of the weights towards 0
    # of each slice, as for the methods that take gradient steps
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "one_cycle"

    needs: ClassVar = ("logits",)
    data: ClassVar = ("forget", "retain")
    exact: ClassVar = True
    python_only: ClassVar = (  # why the command line refuses it
        "sisa makes an ensemble of models with all their kept states, which no single checkpoint can hold; use it from "
        "Python: unlearn(model, split, SISA(), task).save(FOLDER), and SisaEnsemble.load(FOLDER, factory) to delete more."
    )

    def apply(self, run: Run) -> None:
        fresh = lambda: fresh_weights(replace(run, model=copy.deepcopy(run.model)))  # noqa: E731
        told: Told = []
        if isinstance(run.model, SisaEnsemble):
            run.model = self.delete(run.model, run.split, run.task, told, compute=run.compute)
        else:
            run.model = self.train(fresh, run.split, run.task, run.seed, told, compute=run.compute)
        if told:  # what a shard could not learn is no finished run
            (run.ended, run.status), run.taken_back = told[0], True

    def train(
        self,
        fresh: Callable[[], nn.Module],
        split: Split,
        task: Task,
        seed: int = 0,
        told: Told | None = None,
        **options: Any,
    ) -> SisaEnsemble:
        """An ensemble trained on the retain set of `split`, from models with fresh weights. `told` gets what is to say of
        shards whose training did not finish."""
        where = self.assignment(len(split.retain.data), seed)
        models, kept = [], []
        for s in range(self.shards):
            with torch.random.fork_rng():
                torch.manual_seed(stream(seed, s, 0))
                model = fresh()
            states = self._learn(model, [state_of(model)], split, where, s, task, seed, told, options)
            models.append(model)
            kept.append(states)
        return SisaEnsemble(models, self, seed, kept)

    def delete(
        self, ensemble: SisaEnsemble, split: Split, task: Task, told: Told | None = None, **options: Any
    ) -> SisaEnsemble:
        """`ensemble` without the forget set of `split`: changed in place, and returned. `told` as for `train`."""
        if self != ensemble.settings:
            raise ExpungeError(
                f"the ensemble was trained with {ensemble.settings}, deletion was asked for with {self}; "
                "give the same settings."
            )
        where = self.assignment(len(split.retain.data), ensemble.seed)
        lost = where[
            torch.cat([split.forget.index, split.withheld.index])
        ]  # neither is among what is retained
        for s in lost.div(self.slices, rounding_mode="floor").unique().tolist():
            first = int((lost[lost // self.slices == s] % self.slices).min())
            model, states = ensemble.shards[s], ensemble.kept[s][: first + 1]
            model.load_state_dict(states[-1])
            ensemble.kept[s] = self._learn(model, states, split, where, s, task, ensemble.seed, told, options)
        return ensemble

    def assignment(self, size: int, seed: int) -> Tensor:
        """Where each position of the data belongs, (N,): shard * slices + slice."""
        order = torch.randperm(size, generator=torch.Generator().manual_seed(stream(seed, -1, 0)))
        return order % (self.shards * self.slices)

    def _learn(
        self,
        model: nn.Module,
        states: list[State],
        split: Split,
        where: Tensor,
        s: int,
        task: Task,
        seed: int,
        told: Told | None,
        options: dict[str, Any],
    ) -> list[State]:
        """Train `model` on from the last of `states` (one for the start and each slice done); all
        states after it."""
        recipe = Retrain(
            epochs=max(1, round(2 * self.epochs / (self.slices + 1))),
            max_drop=100.0,
            **{n: getattr(self, n) for n in ("lr", "batch_size", "momentum", "weight_decay", "lr_schedule")},
        )
        of_retain = where[split.retain.index]
        for r in range(len(states) - 1, self.slices):
            mine = (of_retain // self.slices == s) & (of_retain % self.slices <= r)
            if mine.any():
                part = replace(
                    split,
                    retain=split.retain.take(mine),
                    withheld=split.withheld.take(torch.empty(0, dtype=torch.int64)),
                )
                run = execute(
                    model, part, recipe, task, seed=stream(seed, s, r + 1), factory=lambda: model, **options
                )
                model.load_state_dict(run.model.state_dict())
                if told is not None and run.ended != "finished":
                    told.append((run.ended, f"shard {s}, slice {r}: {run.status}"))
            states = [*states, state_of(model)]
        return states

    def problems(self) -> list[str]:
        return [
            f"{name} is {getattr(self, name)}; it must be at least 1."
            for name in ("shards", "slices", "epochs", "batch_size")
            if getattr(self, name) < 1
        ]


def stream(seed: int, shard: int, piece: int) -> int:
    """A seed of its own for each piece of work."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{shard}/{piece}".encode()).digest()[:6], "big")


def state_of(model: nn.Module) -> State:
    """The model's state on the CPU."""
    return {k: v.cpu() for k, v in snapshot(model).items()}
