"""SISA: train an ensemble on shards and slices, so that forgetting retrains only a small part of it. Exact.

Source: Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot, "Machine Unlearning",
IEEE S&P 2021, arXiv:1912.03817.

Published:
- The training set is cut into S shards, and each shard into R slices.
- Each shard has its own model. It learns slice after slice (slice 1, then 1 and 2, ...) and keeps its parameters after each.
- To delete a sample, its shard's model continues from the parameters kept before the sample's slice.
- A vote, or the mean of the probabilities, joins the predictions.
- With 2 E / (R + 1) epochs per slice, the model of a shard sees its data E times.

Ours:
- A hash of the ensemble's seed and a sample's id assigns it to a slice, whatever is deleted. Data without ids gets a random
  permutation of its positions, and a deletion refuses other data. All randomness of a slice comes from the seed, the shard and
  the slice. So deletion gives, bit for bit, the ensemble of training without the samples.
- Given a `SisaEnsemble`, the method deletes the forget set from it. Given any other model, it trains an ensemble of such
  models on the retain set from fresh weights. The ensemble predicts the mean of the probabilities.

The result is an ensemble, so `expunge unlearn` cannot write it. In Python: `ensemble = unlearn(model, split, SISA(), task)`, then
`ensemble.save(folder)`. A later deletion takes `SisaEnsemble.load(folder, factory)` (`expunge.methods.sisa`) as the model. The
folder has a private file with the ids of forgotten samples, so that no later run trains on them.

Cost: S models to train. A deletion trains the last slices of the shards that held the samples. Disk: S * R states.

When not to use it: The model is trained already, or it must stay one model. Requests hit all shards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data.past_requests import remember_requests, requests_of
from ..data.split import Split
from ..errors import ExpungeError
from ..records.record import settings_of
from ..tasks.task import Task
from ..torch_utils.random_state import torch_seeded
from ..training.method import Method
from ..training.run import Run
from ._sisa_samples import check_samples, sample_keys, trained_from
from ._sisa_shards import ShardTraining
from ._sisa_states import Failures, State, TrainedFrom, cpu_state, derived_seed, read_states, write_states
from .retrain import Retrain, fresh_weights


class SisaEnsemble(nn.Module):
    """Predict the logarithm of the mean probabilities (B, K) of one model per shard.

    `state_dict` holds the current parameters only; `save` writes everything that deletion needs.

    Args:
        shards: The model of each shard.
        settings: The method's settings at training.
        seed: The seed at training.
        kept: `kept[s]` holds the states of shard s: before its first slice and after each slice.
        samples: Keys (N,) of the samples of the training data, or its fingerprint if it has no ids. Without them (None) nothing
            can be deleted.
    """

    def __init__(
        self,
        shards: list[nn.Module],
        settings: SISA,
        seed: int,
        kept: list[list[State]],
        samples: TrainedFrom | None = None,
    ):
        super().__init__()
        self.shards = nn.ModuleList(shards)
        self.settings, self.seed, self.kept, self.samples = settings, seed, kept, samples

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        outputs = [shard(*inputs, **named) for shard in self.shards]
        logp = [(o if isinstance(o, Tensor) else o.logits).log_softmax(1) for o in outputs]
        return torch.stack(logp).logsumexp(0) - torch.tensor(float(len(logp))).log().to(logp[0])

    def save(self, folder: Path | str) -> None:
        """Write the ensemble: a safetensors file for each kept state, settings.json, samples and requests.json.

        requests.json has the ids of forgotten samples. It is private: only its owner may read it (0600).
        """
        settings = {"seed": self.seed, **settings_of(self.settings)}
        write_states(Path(folder), self.kept, settings, requests_of(self), self.samples)

    @staticmethod
    def load(folder: Path | str, factory: Callable[[], nn.Module]) -> SisaEnsemble:
        """Return the ensemble that `save` wrote. It knows the requests that it has answered (`requests_of`).

        Args:
            folder: The folder given to `save`.
            factory: A function that returns a model of the ensemble's architecture.

        Raises:
            CheckpointError: A file of the folder is missing, or requests.json lacks requests of the ensemble.
        """
        saved, kept, requests, samples = read_states(Path(folder))
        models, settings = [], SISA(**{f.name: saved[f.name] for f in fields(SISA) if f.name in saved})
        for states in kept:
            models.append(factory())
            models[-1].load_state_dict(states[-1])
        return remember_requests(SisaEnsemble(models, settings, saved["seed"], kept, samples), requests)


@dataclass(frozen=True, kw_only=True)
class SISA(Method):
    """Retrain shards from the last weights that had not seen the forget set (SISA, exact).

    Args:
        shards: S, the number of models, each trained on its own part of the training set.
        slices: R, the number of parts in which a model gets its shard.
        epochs: E, how often a sample is seen on average.
        lr: Largest learning rate.
        batch_size: Samples per step.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        lr_schedule: How the learning rate changes within each slice: "constant", "linear" (to 0), "cosine" (to 0),
            "one_cycle" (up, then to 0) or "multistep" (to a tenth at half and at three quarters of the steps).
    """

    shards: int = 5
    slices: int = 4
    epochs: int = 30
    lr: float = 0.1
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "one_cycle"

    published: ClassVar = {}
    needs: ClassVar = ("logits",)
    data: ClassVar = ("forget", "retain")
    exact: ClassVar = True
    # the error with which the command line refuses the method
    python_only: ClassVar = (
        "sisa gives an ensemble with all its kept states, which a single checkpoint cannot hold; use it from Python: "
        "unlearn(model, split, SISA(), task).save(FOLDER), and SisaEnsemble.load(FOLDER, factory) to delete more."
    )

    def apply(self, run: Run) -> None:
        """Delete the forget set from an ensemble, or train an ensemble on the retain set."""
        fresh = lambda: fresh_weights(replace(run, model=copy.deepcopy(run.model)))  # noqa: E731
        failures: Failures = []
        if isinstance(run.model, SisaEnsemble):
            run.model = self.delete(run.model, run.split, run.task, failures, compute=run.compute)
        else:
            run.model = self.train(fresh, run.split, run.task, run.seed, failures, compute=run.compute)
        # a shard that did not finish its training means that the run did not finish
        if failures:
            (run.ended, run.status), run.taken_back = failures[0], True

    def train(
        self,
        factory: Callable[[], nn.Module],
        split: Split,
        task: Task,
        seed: int = 0,
        failures: Failures | None = None,
        **options: Any,
    ) -> SisaEnsemble:
        """Return an ensemble trained on the retain set of `split`.

        Args:
            factory: A function that returns a model with fresh weights.
            split: The split whose retain set is learned.
            task: The task of the models.
            seed: Seed of the assignment and of all training.
            failures: List that receives the end and the status of each slice whose training did not finish.
            options: Further keyword arguments of `execute`.
        """
        keys = sample_keys(split.retain.data, seed)
        training = self._training(split, self.places(keys), task, seed, failures, options)
        models, kept = [], []
        for s in range(self.shards):
            with torch_seeded(derived_seed(seed, s, 0)):
                model = factory()
            states = training.learn(model, [cpu_state(model)], s)
            models.append(model)
            kept.append(states)
        return SisaEnsemble(models, self, seed, kept, trained_from(split.retain.data, keys))

    def delete(
        self,
        ensemble: SisaEnsemble,
        split: Split,
        task: Task,
        failures: Failures | None = None,
        **options: Any,
    ) -> SisaEnsemble:
        """Remove the forget set of `split` from `ensemble` in place, and return it.

        Samples are found by id. The data may have lost samples since, and may have new ones. Data without ids must be as it was.

        Args:
            ensemble: The ensemble, trained with the same settings.
            split: The split whose forget set is removed.
            task: The task of the models.
            failures: List that receives the end and the status of each slice whose training did not finish.
            options: Further keyword arguments of `execute`.

        Raises:
            ExpungeError: The ensemble was trained with other settings, or its samples cannot be found in the data.
        """
        if self != ensemble.settings:
            raise ExpungeError(
                f"the ensemble was trained with {ensemble.settings}, but the deletion uses {self}; give the same settings."
            )
        keys = sample_keys(split.retain.data, ensemble.seed)
        check_samples(ensemble.samples, split.forget, keys)
        slice_of = self.places(keys)
        training = self._training(split, slice_of, task, ensemble.seed, failures, options)
        # withheld samples go too, since the retain set does not hold them
        deleted = slice_of[torch.cat([split.forget.index, split.withheld.index])]
        for s in deleted.div(self.slices, rounding_mode="floor").unique().tolist():
            first = int((deleted[deleted // self.slices == s] % self.slices).min())
            model, states = ensemble.shards[s], ensemble.kept[s][: first + 1]
            model.load_state_dict(states[-1])
            ensemble.kept[s] = training.learn(model, states, s)
        if isinstance(ensemble.samples, Tensor):
            ensemble.samples = torch.cat([ensemble.samples, keys]).unique()
        return ensemble

    def places(self, keys: Tensor) -> Tensor:
        """Return shard * slices + slice of each sample (N,), int64, from its key."""
        return keys % (self.shards * self.slices)

    def _training(self, *given: Any) -> ShardTraining:
        """Return the training of shards with these settings; `given` are its further fields."""
        recipe = Retrain(
            epochs=max(1, round(2 * self.epochs / (self.slices + 1))),
            max_drop=100.0,
            **{n: getattr(self, n) for n in ("lr", "batch_size", "momentum", "weight_decay", "lr_schedule")},
        )
        return ShardTraining(recipe, self.slices, *given)

    def problems(self) -> list[str]:
        return [
            f"{name} is {getattr(self, name)}; it must be at least 1."
            for name in ("shards", "slices", "epochs", "batch_size")
            if getattr(self, name) < 1
        ]
