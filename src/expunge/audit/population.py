"""Shadow models: many small models trained alike, several at once, kept on disk, resumed where they were
cut off.

How several are trained at once: `together.py`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError
from ..methods.retrain import Retrain, reset_trained
from ..records.atomic_files import atomic
from ..records.hashing import state_hash
from ..records.record import plain
from ..tasks.classification import Classification
from ..torch_utils.module_state import device_of, seeded
from ..training.execute import execute
from ..training.method import Method
from .together import train_together

Tensors = dict[str, Tensor]
VERSION = 2  # of the files on disk


@dataclass
class Shadows:
    """Shadow populations of a model on a split. `count` originals (forget + retain) and as many retrained
    (retain alone).

    `folder` keeps each as a file named by its content: architecture, recipe, split, seed. What is there is
    not trained again. `share` below 1 gives each shadow its own part of the samples that stay; forget samples are in every
    original. `together`: how many are stacked; None lets the device decide. `on_step(kind, done, total)` is told of progress.
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
    together: int | None = None
    on_step: Callable[[str, int, int], None] | None = None
    _kept: dict[str, list[Tensors]] = field(default_factory=dict)

    def models(self, kind: str) -> Iterator[nn.Module]:
        """The models of "original" or "retrained", one after the other, in eval mode."""
        for state in self._states(kind):
            model = copy.deepcopy(self.model).eval()
            model.load_state_dict(state)
            yield model

    def logits(self, kind: str, sets: dict[str, Samples]) -> Tensors:
        """Logits {set: (count, n, K)} of a population."""
        rows = [{n: self.task.predict(m, s).logits for n, s in sets.items()} for m in self.models(kind)]
        return {n: torch.stack([r[n] for r in rows]) for n in sets}

    def unlearned(self, method: Method, sets: dict[str, Samples]) -> Tensors:
        """Logits {set: (count, n, K)} of the shadow originals after `method`; kept on disk, so a run can be
        resumed.
        """
        place = self._place(
            "unlearned",
            [method.name(), plain(asdict(method)), {n: [len(s), _digest(s)] for n, s in sets.items()}],
        )  # type: ignore[call-overload]
        rows = []
        for k, model in enumerate(self.models("original")):
            row = _load(place, k, set(sets))
            if row is None:
                after = execute(
                    model,
                    self.split,
                    method,
                    self.task,
                    seed=self._seed("unlearned", k),
                    factory=self.factory,
                ).model
                row = {n: self.task.predict(after, s).logits for n, s in sets.items()}
                _save(place, k, row)
                self._tell("unlearned", k + 1)
            rows.append(row)
        return {n: torch.stack([r[n] for r in rows]) for n in sets}

    def _states(self, kind: str) -> list[Tensors]:
        if kind not in self._kept:
            place = self._place(kind, [])
            names = set(self.model.state_dict())
            found = [_load(place, k, names) for k in range(self.count)]
            missing = [k for k, state in enumerate(found) if state is None]
            for part, models in self._made(kind, missing):
                for k, model in zip(part, models, strict=True):
                    found[k] = {n: t.detach().cpu().clone() for n, t in model.state_dict().items()}
                    _save(place, k, found[k])  # type: ignore[arg-type]
                self._tell(kind, sum(state is not None for state in found))
            self._kept[kind] = found  # type: ignore[assignment]
        return self._kept[kind]

    def _made(self, kind: str, missing: list[int]) -> Iterator[tuple[list[int], list[nn.Module]]]:
        """The missing models, stack by stack; on a CPU as many stacks at once as there are cores."""
        size = self.together or self._stack_size()
        parts = [missing[k : k + size] for k in range(0, len(missing), size)]
        workers = self._workers()
        threads = torch.get_num_threads()
        for k in range(0, len(parts), workers):
            group = parts[k : k + workers]
            fresh = [
                [self.fresh(self._seed(kind, n)) for n in part] for part in group
            ]  # here: it seeds global state
            if len(group) == 1:
                yield group[0], self._train(kind, group[0], fresh[0])
                continue
            with torch.random.fork_rng(devices=[]), ThreadPoolExecutor(len(group)) as pool:
                torch.set_num_threads(1)
                try:
                    done = list(pool.map(self._train, [kind] * len(group), group, fresh))
                finally:
                    torch.set_num_threads(threads)
            yield from zip(group, done, strict=True)

    def _train(self, kind: str, which: list[int], models: list[nn.Module]) -> list[nn.Module]:
        seeds = [self._seed(kind, k) for k in which]
        samples = [self._samples(kind, seed) for seed in seeds]
        return train_together(models, samples, self.recipe, self.task, seeds, vectorised=len(which) > 1)

    def _samples(self, kind: str, seed: int) -> Samples:
        """What a shadow sees: its part of the samples that stay; an original the whole forget set besides, or it would not be
        one that the set was "in"."""
        split = self.split
        if kind != "original":
            return _part(split.retain, self.share, seed)
        whole = split.train
        rest = _part(whole.take(~torch.isin(whole.index, split.forget.index)), self.share, seed)
        return Samples(whole.data, torch.cat([split.forget.index, rest.index]).sort().values)

    def _workers(self) -> int:
        """Threads that train at once: the cores torch may use, on a CPU. Models that draw random numbers (dropout) share one
        generator, so for them it is one thread: the same seed gives the same model."""
        random = any("drop" in type(m).__name__.lower() for m in self.model.modules())
        return 1 if random or device_of(self.model).type != "cpu" else torch.get_num_threads()

    def fresh(self, seed: int) -> nn.Module:
        """A model with fresh weights from `seed`, where the audited model is."""
        device = device_of(self.model)
        with seeded(seed, device):
            made = self.factory() if self.factory is not None else reset_trained(copy.deepcopy(self.model))
        return made.to(device)

    def _stack_size(self) -> int:
        """16 on a GPU; on a CPU 8 for models of matrix products alone, 1 for those with convolutions."""
        if device_of(self.model).type != "cpu":
            return 16
        return 1 if any(isinstance(m, nn.modules.conv._ConvNd) for m in self.model.modules()) else 8

    def _seed(self, kind: str, k: int) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{kind}/{k}".encode()).digest()[:7], "big")

    def _place(self, kind: str, more: list[Any]) -> Path | None:
        """The folder of a population: a hash of everything that decides what its models are."""
        if self.folder is None:
            return None
        # where training starts: initialisation, and what a frozen trunk holds
        start = state_hash(self.fresh(self.seed).state_dict())
        what = [
            VERSION,
            kind,
            start,
            repr(self.model),
            type(self.recipe).__name__,
            plain(asdict(self.recipe)),
            self.split.hash,
            self.split.preparation,
            self.seed,
            self.share if self.share == 1 else f"{self.share} of what stays",
            *more,
        ]
        return Path(self.folder) / f"{kind}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]}"

    def _tell(self, kind: str, done: int) -> None:
        if self.on_step is not None:
            self.on_step(kind, done, self.count)


def _part(samples: Samples, share: float, seed: int) -> Samples:
    if not 0 < share <= 1:
        raise ExpungeError(f"share is above 0 and at most 1; {share} came.")
    if share == 1:
        return samples
    draw = torch.Generator().manual_seed(seed)
    return samples.take(
        torch.randperm(len(samples), generator=draw)[: max(1, round(share * len(samples)))].sort().values
    )


def _digest(samples: Samples) -> str:
    return hashlib.sha256(samples.index.numpy().tobytes()).hexdigest()[:16]


def _save(place: Path | None, k: int, tensors: Tensors) -> None:
    if place is not None:
        with atomic(place / f"{k:04d}.safetensors") as part:
            save_file({n: t.contiguous() for n, t in tensors.items()}, part)


def _load(place: Path | None, k: int, names: set[str]) -> Tensors | None:
    """The tensors of shadow `k`; None where there is no sound file."""
    path = None if place is None else place / f"{k:04d}.safetensors"
    if path is None or not path.is_file():
        return None
    try:
        found = load_file(path)
    except (SafetensorError, OSError):
        return None  # cut off or damaged: made anew
    return found if set(found) == names else None
