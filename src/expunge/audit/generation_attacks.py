"""Attempts to bring a forgotten class back: a learned condition, and relearning. Both count steps, beside other models.

A model from which nothing is left needs as many steps as one retrained without the class; numbers of one model alone say
little, since any generator can learn anything.

Sources: learned conditions, Pham et al., "Circumventing Concept Erasure Methods for Text-to-Image Generative Models",
ICLR 2024, arXiv:2308.01508 (textual inversion of Gal et al., arXiv:2208.01618, against the erased model); relearning, as
"relearning delay" in the audits of classifiers.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Batch, Samples
from ..diffusion import Diffusion
from ..errors import ModelError
from ..modes import device_of, seeded
from ..sampling import Sampler
from .image_judge import Judge


@dataclass(frozen=True)
class Comeback:
    """How a class came back: [(steps, percent of drawn images that the judge takes for it)], and the step of `threshold`."""

    curve: list[tuple[int, float]] = field(default_factory=list)
    threshold: float = 50.0

    @property
    def steps(self) -> int | None:
        """Steps until at least `threshold` percent were recognised; None if that never happened."""
        return next((s for s, percent in self.curve if percent >= self.threshold), None)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {**asdict(self), "steps": self.steps, "highest": max((p for _, p in self.curve), default=None)}


class LearnedCondition(nn.Module):
    """A frozen model in which one condition's embedding is a free vector.

    The table of embeddings is the model's `nn.Embedding` with `size` rows, or a buffer called `prompts` with as many.
    Raises `ModelError` if the model has neither.
    """

    def __init__(self, model: nn.Module, size: int, condition: int, *, start: str = "null"):
        super().__init__()
        self.inner = copy.deepcopy(model).eval().requires_grad_(False)
        self.condition = condition
        self.table = table_of(self.inner, size)
        rows = self._rows()
        self.row = nn.Parameter((rows[-1] if start == "null" else rows[condition]).clone())

    def _rows(self) -> Tensor:
        return dict([*self.inner.named_parameters(), *self.inner.named_buffers()])[self.table]

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Any:
        rows = self._rows()
        changed = torch.cat([rows[: self.condition], self.row[None], rows[self.condition + 1 :]])
        return torch.func.functional_call(self.inner, {self.table: changed}, (x, t, y))


def table_of(model: nn.Module, size: int) -> str:
    """Name of the parameter or buffer that holds the embeddings of `size` conditions, one a row."""
    found = [
        f"{n}.weight" if n else "weight"
        for n, m in model.named_modules()
        if isinstance(m, nn.Embedding) and m.num_embeddings == size
    ]
    found += [n for n, b in model.named_buffers() if n.rpartition(".")[2] == "prompts" and len(b) == size]
    if not found:
        raise ModelError(
            f"the model has no embedding of {size} conditions (nn.Embedding, or a buffer `prompts`), so there is none to learn."
        )
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The settings of both attacks."""

    steps: int = 200
    every: int = 25  # steps between looks
    lr: float = 0.05  # of the learned condition; relearning takes `relearn_lr`
    relearn_lr: float = 1e-4
    batch_size: int = 64
    count: int = 50  # images drawn at each look
    threshold: float = 50.0  # percent recognised that counts as back
    sampler: Sampler = field(default_factory=lambda: Sampler(kind="dpm", steps=10, guidance=1.0))

    def learned_condition(
        self,
        model: nn.Module,
        task: Diffusion,
        samples: Samples,
        judge: Judge,
        target: int,
        *,
        seed: int = 0,
        start: str = "null",
    ) -> Comeback:
        """Learn, for the frozen model, an embedding under which it denoises `samples`, images of the class `target`.

        White-box; the embedding starts at the null condition's, or with `start="own"` at the condition's own.
        """
        changed = LearnedCondition(model, task.num_classes + 1, target, start=start)
        return self._run(changed, [changed.row], self.lr, task, samples, judge, target, seed)

    def relearn(
        self, model: nn.Module, task: Diffusion, samples: Samples, judge: Judge, target: int, *, seed: int = 0
    ) -> Comeback:
        """Train a copy of the whole model on `samples` and count the steps until it draws the class again."""
        copied = copy.deepcopy(model).requires_grad_(True)
        return self._run(
            copied, list(copied.parameters()), self.relearn_lr, task, samples, judge, target, seed
        )

    def _run(
        self,
        model: nn.Module,
        weights: list[Tensor],
        lr: float,
        task: Diffusion,
        samples: Samples,
        judge: Judge,
        target: int,
        seed: int,
    ) -> Comeback:
        device, optimizer = device_of(model), torch.optim.Adam(weights, lr)
        draw, curve = torch.Generator().manual_seed(seed), []
        with seeded(seed, device):
            for step in range(self.steps + 1):
                if step % self.every == 0:
                    curve.append((step, self._recognised(model, task, samples, judge, target, seed)))
                    if curve[-1][1] >= self.threshold:
                        break
                at = torch.randint(0, len(samples), (self.batch_size,), generator=draw)
                batch = next(samples.take(at).batches(self.batch_size, device=device))
                model.eval()  # no dropout and no dropped conditions: the attacker wants this condition
                loss = task.loss(model, Batch(batch.x, torch.full_like(batch.y, target), batch.index)).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        return Comeback(curve, self.threshold)

    def _recognised(
        self, model: nn.Module, task: Diffusion, samples: Samples, judge: Judge, target: int, seed: int
    ) -> float:
        labels = torch.full((self.count,), target)
        shape = tuple(task.images(next(samples.take(torch.arange(1)).batches(1))).shape[1:])
        images = self.sampler(model, task, labels, shape, seed=seed)
        return 100 * judge.predict(images, labels).correct.double().mean().item()
