"""Train populations of shadow models, keep them on disk, and reuse them.

`stacked_training.py` trains several of them at once. An interrupted run continues with the files that are there.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError
from ..methods.retrain import Retrain, reset_trained
from ..records.hashing import state_hash
from ..records.record import settings_of
from ..tasks.classification import Classification
from ..torch_utils.module_state import device_of, seeded
from ..training.execute import execute
from ..training.method import Method
from .shadow_files import Tensors, digest, load_shadow, save_shadow
from .stacked_training import train_stacked

# Version of the files on disk. It is part of the cache key.
VERSION = 2


@dataclass
class Shadows:
    """Hold the shadow populations of a model on a split.

    The population "original" is trained on forget and retain set. The population "retrained" is trained on the retain
    set only. The population "unlearned" is the first one after a method. The models are made when they are first used.

    Args:
        model: The audited model. Shadows have its architecture and stand on its device.
        split: The split of the audit.
        task: The task of the model.
        recipe: The recipe that trained the original.
        count: Number of models in each population.
        seed: Seed of all shadows. Each shadow has its own seed that follows from it.
        share: Share of the retained samples that each shadow sees, above 0 and at most 1. Every "original" also sees
            the whole forget set.
        folder: Folder that keeps each shadow as a file. A file is found again by a hash of architecture, recipe, split
            and seed. None keeps nothing.
        factory: Makes a model with fresh parameters from torch's global random state. None resets a copy of `model`.
        stack: Number of models that are trained at once. None chooses by device.
        on_step: Is called with (population, models done, `count`) after each step.

    Example:
        >>> shadows = Shadows(model, split, task, recipe, count=8)
        >>> logits = shadows.logits("retrained", {"forget": split.forget})["forget"]  # (8, n, K)
    """

    model: nn.Module
    split: Split
    task: Classification
    recipe: Retrain
    count: int = 32
    seed: int = 0
    share: float = 1.0
    folder: Path | None = None
    factory: Callable[[], nn.Module] | None = None
    stack: int | None = None
    on_step: Callable[[str, int, int], None] | None = None
    _states_of: dict[str, list[Tensors]] = field(default_factory=dict)

    def models(self, population: str) -> Iterator[nn.Module]:
        """Yield the models of "original" or "retrained" in eval mode."""
        for state in self._states(population):
            model = copy.deepcopy(self.model).eval()
            model.load_state_dict(state)
            yield model

    def logits(self, population: str, sets: dict[str, Samples]) -> Tensors:
        """Return the logits {set: (count, n, K)} of "original" or "retrained"."""
        rows = [{n: self.task.predict(m, s).logits for n, s in sets.items()} for m in self.models(population)]
        return {n: torch.stack([r[n] for r in rows]) for n in sets}

    def unlearned(self, method: Method, sets: dict[str, Samples], other: Split | None = None) -> Tensors:
        """Return the logits {set: (count, n, K)} of the shadow originals after `method`.

        The logits are kept on disk, so an interrupted run continues. With `other`, a request for other samples, these are
        the logits of the retrained shadows after that request.
        """
        sizes = {n: [len(s), digest(s)] for n, s in sets.items()}
        key = [method.name(), settings_of(method), sizes, *([] if other is None else [other.hash])]  # type: ignore[call-overload]
        folder, request = self._cache_folder("unlearned", key), other or self.split
        rows = []
        for k, model in enumerate(self.models("original" if other is None else "retrained")):
            row = load_shadow(folder, k, set(sets))
            if row is None:
                seed = self._seed("unlearned", k)
                run = execute(model, request, method, self.task, seed=seed, factory=self.factory)
                row = {n: self.task.predict(run.model, s).logits for n, s in sets.items()}
                save_shadow(folder, k, row)
                self._report("unlearned", k + 1)
            rows.append(row)
        return {n: torch.stack([r[n] for r in rows]) for n in sets}

    def fresh(self, seed: int) -> nn.Module:
        """Make a model with fresh parameters from `seed`, on the device of the audited model."""
        device = device_of(self.model)
        with seeded(seed, device):
            model = self.factory() if self.factory is not None else reset_trained(copy.deepcopy(self.model))
        return model.to(device)

    def _states(self, population: str) -> list[Tensors]:
        """Return the state dicts of a population. Train what is missing."""
        if population not in self._states_of:
            folder = self._cache_folder(population, [])
            names = set(self.model.state_dict())
            states = [load_shadow(folder, k, names) for k in range(self.count)]
            missing = [k for k, state in enumerate(states) if state is None]
            for numbers, models in self._trained(population, missing):
                for k, model in zip(numbers, models, strict=True):
                    states[k] = {n: t.detach().cpu().clone() for n, t in model.state_dict().items()}
                    save_shadow(folder, k, states[k])  # type: ignore[arg-type]
                self._report(population, sum(state is not None for state in states))
            self._states_of[population] = states  # type: ignore[assignment]
        return self._states_of[population]

    def _trained(self, population: str, missing: list[int]) -> Iterator[tuple[list[int], list[nn.Module]]]:
        """Train the missing models stack by stack. A CPU trains as many stacks at once as it has cores."""
        size = self.stack or self._stack_size()
        stacks = [missing[k : k + size] for k in range(0, len(missing), size)]
        workers = self._workers()
        threads = torch.get_num_threads()
        for k in range(0, len(stacks), workers):
            group = stacks[k : k + workers]
            # in this thread, because `fresh` seeds the global random state
            fresh = [[self.fresh(self._seed(population, n)) for n in numbers] for numbers in group]
            if len(group) == 1:
                yield group[0], self._train(population, group[0], fresh[0])
                continue
            with torch.random.fork_rng(devices=[]), ThreadPoolExecutor(len(group)) as pool:
                torch.set_num_threads(1)
                try:
                    trained = list(pool.map(self._train, [population] * len(group), group, fresh))
                finally:
                    torch.set_num_threads(threads)
            yield from zip(group, trained, strict=True)

    def _train(self, population: str, numbers: list[int], models: list[nn.Module]) -> list[nn.Module]:
        seeds = [self._seed(population, k) for k in numbers]
        samples = [self._samples(population, seed) for seed in seeds]
        return train_stacked(models, samples, self.recipe, self.task, seeds, vectorised=len(numbers) > 1)

    def _samples(self, population: str, seed: int) -> Samples:
        """Return the training samples of one shadow: its share of the retained ones.

        An original always sees the whole forget set. Otherwise the set would not be "in" it.
        """
        split = self.split
        if population != "original":
            return _random_share(split.retain, self.share, seed)
        train = split.train
        retained = train.take(~torch.isin(train.index, split.forget.index))
        rest = _random_share(retained, self.share, seed)
        return Samples(train.data, torch.cat([split.forget.index, rest.index]).sort().values)

    def _workers(self) -> int:
        """Return the number of training threads: on a CPU, the cores that torch may use.

        Models with dropout draw from one shared generator. They use one thread, so that a seed always gives one model.
        """
        random = any("drop" in type(m).__name__.lower() for m in self.model.modules())
        return 1 if random or device_of(self.model).type != "cpu" else torch.get_num_threads()

    def _stack_size(self) -> int:
        """Return 16 on a GPU. On a CPU, return 1 for models with convolutions and 8 for others."""
        if device_of(self.model).type != "cpu":
            return 16
        return 1 if any(isinstance(m, nn.modules.conv._ConvNd) for m in self.model.modules()) else 8

    def _seed(self, population: str, k: int) -> int:
        digest = hashlib.sha256(f"{self.seed}/{population}/{k}".encode()).digest()
        return int.from_bytes(digest[:7], "big")

    def _cache_folder(self, population: str, more: list[Any]) -> Path | None:
        """Return the folder of a population, named by a hash of everything that its models depend on."""
        if self.folder is None:
            return None
        # where training starts: the initialisation, and the values of frozen parameters
        start = state_hash(self.fresh(self.seed).state_dict())
        parts = [
            VERSION,
            population,
            start,
            repr(self.model),
            type(self.recipe).__name__,
            settings_of(self.recipe),
            self.split.hash,
            self.split.preparation,
            self.seed,
            # this text is hashed: another wording would lose the shadows on disk
            self.share if self.share == 1 else f"{self.share} of what stays",
            *more,
        ]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return Path(self.folder) / f"{population}-{digest[:20]}"

    def _report(self, population: str, done: int) -> None:
        if self.on_step is not None:
            self.on_step(population, done, self.count)


def _random_share(samples: Samples, share: float, seed: int) -> Samples:
    if not 0 < share <= 1:
        raise ExpungeError(f"share is {share:g}; give a share above 0 and at most 1.")
    if share == 1:
        return samples
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    return samples.take(order[: max(1, round(share * len(samples)))].sort().values)
