"""Attempts to bring a forgotten class back: a learned condition, and relearning. Both count steps, beside other models.

A model from which nothing is left needs as many steps as one retrained without the class; numbers of one model alone say
little, since any generator can learn anything.

Sources: learned conditions, Pham et al., "Circumventing Concept Erasure Methods for Text-to-Image Generative Models",
ICLR 2024, arXiv:2308.01508 (textual inversion of Gal et al., arXiv:2208.01618, against the erased model); relearning, as
"relearning delay" in the audits of classifiers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..data.samples import Samples
from ..errors import ModelError
from ..generation.sampling import Sampler
from ..tasks.diffusion import Diffusion
from ..torch_utils.module_state import device_of, seeded
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
    """A frozen model in which one condition's embedding is free: `rows`, one for each of the model's tables of conditions.

    See `tables_of`; a DiT of diffusers has a table in every block, and each gets a row of its own. Raises `ModelError` for
    models without tables.
    """

    def __init__(self, model: nn.Module, size: int, condition: int, *, start: str = "null"):
        super().__init__()
        self.inner = copy.deepcopy(model).eval().requires_grad_(False)
        self.names = tables_of(self.inner, size)
        labels: Tensor | None = getattr(self.inner, "labels", None)  # type: ignore[assignment]
        self.place = condition if labels is None else int(labels[condition])
        null = size - 1 if labels is None else int(labels[-1])
        at = null if start == "null" else self.place
        self.rows = nn.ParameterList(table[at].detach().clone().float() for table in self._tables())

    def _tables(self) -> list[Tensor]:
        held = dict([*self.inner.named_parameters(), *self.inner.named_buffers()])
        return [held[name] for name in self.names]

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Any:
        k = self.place
        changed = {
            name: torch.cat([table[:k], row[None].to(table.dtype), table[k + 1 :]])
            for name, table, row in zip(self.names, self._tables(), self.rows, strict=True)
        }
        return torch.func.functional_call(self.inner, changed, (x, t, y))


def tables_of(model: nn.Module, size: int) -> list[str]:
    """Names of the parameters or buffers that hold the embeddings of `size` conditions, one a row.

    An `nn.Embedding` with so many rows; or the buffers `prompts` and `pooled` of a text-conditioned model; or, where a buffer
    `labels` says which class a condition is, every `embedding_table` of a DiT. Raises `ModelError` if there is none.
    """
    embeddings = {
        f"{n}.weight" if n else "weight": m for n, m in model.named_modules() if isinstance(m, nn.Embedding)
    }
    labels = getattr(model, "labels", None)
    if labels is not None:
        found = [
            n
            for n, m in embeddings.items()
            if "embedding_table" in n and m.num_embeddings > int(labels.max())
        ]
    else:
        found = [n for n, m in embeddings.items() if m.num_embeddings == size][:1]
    if not found:
        words = ("prompts", "pooled")
        found = [n for n, b in model.named_buffers() if n.rpartition(".")[2] in words and len(b) == size]
    if not found:
        raise ModelError(
            f"the model has no embedding of {size} conditions (nn.Embedding, or a buffer `prompts`), so there is none to learn."
        )
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Aim:
    """What an attack wants back, and who tells whether it is."""

    task: Diffusion
    samples: Samples  # images of the forgotten condition, which an attacker has
    judge: Judge
    target: int  # the forgotten condition
    shown: int | None = (
        None  # the judge's class of such images, where it numbers them otherwise than the model
    )
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The settings of both attacks. `decode` makes images, for the judge, of what a model of latents draws."""

    steps: int = 200
    every: int = 25  # steps between looks
    lr: float = 0.05  # of the learned condition; relearning takes `relearn_lr`
    relearn_lr: float = 1e-4
    batch_size: int = 64
    count: int = 50  # images drawn at each look
    threshold: float = 50.0  # percent recognised that counts as back
    sampler: Sampler = field(default_factory=lambda: Sampler(kind="dpm", steps=10, guidance=1.0))
    decode: Callable[[Tensor], Tensor] | None = None

    def learned_condition(self, model: nn.Module, aim: Aim, *, start: str = "null") -> Comeback:
        """Learn, for the frozen model, an embedding under which it denoises the aim's images.

        White-box; the embedding starts at the null condition's, or with `start="own"` at the condition's own.
        """
        changed = LearnedCondition(model, aim.task.num_classes + 1, aim.target, start=start)
        return self._run(changed, list(changed.rows.parameters()), self.lr, aim)

    def relearn(self, model: nn.Module, aim: Aim) -> Comeback:
        """Train a copy of the whole model on the aim's images and count the steps until it draws the class again."""
        copied = copy.deepcopy(model).float().requires_grad_(True)
        return self._run(copied, list(copied.parameters()), self.relearn_lr, aim)

    def both(self, models: Mapping[str, nn.Module], aim: Aim) -> dict[str, Any]:
        """Both attacks on each of `models`, as a record has them: steps, and the highest share of images that showed the class."""
        found: dict[str, Any] = {}
        for title, run in (("learned_condition", self.learned_condition), ("relearning", self.relearn)):
            found[title] = {"within": self.steps}
            for name, model in models.items():
                back = run(model, aim).to_dict()
                found[title] |= {f"{name}_{what}": back[what] for what in ("steps", "highest")}
        return found

    def _run(self, model: nn.Module, weights: list[nn.Parameter], lr: float, aim: Aim) -> Comeback:
        device, optimizer = device_of(model), torch.optim.Adam(weights, lr)
        draw, curve = torch.Generator().manual_seed(aim.seed), []
        with seeded(aim.seed, device):
            for step in range(self.steps + 1):
                if step % self.every == 0:
                    curve.append((step, self._recognised(model, aim)))
                    if curve[-1][1] >= self.threshold:
                        break
                at = torch.randint(0, len(aim.samples), (self.batch_size,), generator=draw)
                batch = next(aim.samples.take(at).batches(self.batch_size, device=device))
                model.eval()  # no dropout and no dropped conditions: the attacker wants this condition
                asked = Batch(batch.x, torch.full_like(batch.y, aim.target), batch.index)
                optimizer.zero_grad(set_to_none=True)
                aim.task.loss(model, asked).mean().backward()
                optimizer.step()
        return Comeback(curve, self.threshold)

    def _recognised(self, model: nn.Module, aim: Aim) -> float:
        labels = torch.full((self.count,), aim.target)
        one = next(aim.samples.take(torch.arange(1)).batches(1))
        drawn = self.sampler(model, aim.task, labels, tuple(aim.task.images(one).shape[1:]), seed=aim.seed)
        images = drawn if self.decode is None else self.decode(drawn)
        said = aim.judge.predict(images, labels if aim.shown is None else torch.full_like(labels, aim.shown))
        return 100 * said.correct.double().mean().item()
