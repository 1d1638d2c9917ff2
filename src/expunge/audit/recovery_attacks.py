"""Try to bring a forgotten class back into a generator: by a learned condition, and by relearning.

Both attacks count steps. A model without residue needs as many steps as one that was retrained without the class. The
steps of one model alone mean little, because any generator can learn anything.

Sources: learned conditions are from Pham et al., "Circumventing Concept Erasure Methods for Text-to-Image Generative
Models", ICLR 2024, arXiv:2308.01508. They use textual inversion (Gal et al., arXiv:2208.01618) against the erased model.
Relearning is the relearning delay of classifiers.
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
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import device_of, seeded
from .image_judge import Judge


@dataclass(frozen=True)
class Recovery:
    """Hold how far an attack brought a class back.

    Args:
        curve: [(steps, percentage of generated images that the judge recognises as the class)].
        threshold: Percentage at which the class counts as back.
    """

    curve: list[tuple[int, float]] = field(default_factory=list)
    threshold: float = 50.0

    @property
    def steps(self) -> int | None:
        """Steps until the curve reaches `threshold`. None if it never does."""
        return next((steps for steps, percent in self.curve if percent >= self.threshold), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, `steps` and the highest percentage as a dictionary for a record."""
        highest = max((percent for _, percent in self.curve), default=None)
        return {**asdict(self), "steps": self.steps, "highest": highest}


class LearnedCondition(nn.Module):
    """Wrap a frozen model so that the embedding of one condition can be learned.

    `rows` holds the learned embedding: one row for each table of conditions. A DiT of diffusers has a table in every
    block, and each table gets its own row.

    Args:
        model: The model. It is copied.
        size: Number of conditions, including the null condition.
        condition: The condition to learn.
        start: Where the embedding starts: "null" at the null condition, "own" at the condition itself.

    Raises:
        ModelError: If the model has no table of conditions.
    """

    def __init__(self, model: nn.Module, size: int, condition: int, *, start: str = "null"):
        super().__init__()
        self.inner = copy.deepcopy(model).eval().requires_grad_(False)
        self.names = condition_tables(self.inner, size)
        labels: Tensor | None = getattr(self.inner, "labels", None)  # type: ignore[assignment]
        self.row = condition if labels is None else int(labels[condition])
        null = size - 1 if labels is None else int(labels[-1])
        at = null if start == "null" else self.row
        self.rows = nn.ParameterList(table[at].detach().clone().float() for table in self._tables())

    def _tables(self) -> list[Tensor]:
        tensors = dict([*self.inner.named_parameters(), *self.inner.named_buffers()])
        return [tensors[name] for name in self.names]

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Any:
        k = self.row
        changed = {
            name: torch.cat([table[:k], row[None].to(table.dtype), table[k + 1 :]])
            for name, table, row in zip(self.names, self._tables(), self.rows, strict=True)
        }
        return torch.func.functional_call(self.inner, changed, (x, t, y))


def condition_tables(model: nn.Module, size: int) -> list[str]:
    """Return the names of the parameters or buffers that hold one embedding per row for `size` conditions.

    This is an `nn.Embedding` with `size` rows, or the buffers `prompts` and `pooled` of a text-conditioned model. If a
    buffer `labels` maps conditions to classes, it is every `embedding_table` of a DiT.

    Args:
        model: The model to search.
        size: Number of conditions, including the null condition.

    Raises:
        ModelError: If the model has no such table.
    """
    embeddings = {
        f"{n}.weight" if n else "weight": m for n, m in model.named_modules() if isinstance(m, nn.Embedding)
    }
    labels = getattr(model, "labels", None)
    if labels is not None:
        largest = int(labels.max())
        names = [n for n, m in embeddings.items() if "embedding_table" in n and m.num_embeddings > largest]
    else:
        names = [n for n, m in embeddings.items() if m.num_embeddings == size][:1]
    if not names:
        known = ("prompts", "pooled")
        names = [n for n, b in model.named_buffers() if n.rpartition(".")[2] in known and len(b) == size]
    if not names:
        raise ModelError(
            f"the model has no embedding of {size} conditions; a learned condition needs an nn.Embedding with {size} rows, "
            "or a buffer `prompts`."
        )
    return names


@dataclass(frozen=True, kw_only=True, eq=False)
class RecoveryGoal:
    """Say what an attack should bring back.

    Args:
        task: The diffusion task of the model.
        samples: Images of the forgotten condition, which the attacker has.
        judge: The judge that recognises the class.
        target: The forgotten condition.
        judge_class: The judge's number of the class. The default is `target`.
        seed: Seed of training and of the starting noise.
    """

    task: Diffusion
    samples: Samples
    judge: Judge
    target: int
    judge_class: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RecoveryAttack:
    """Hold the settings of both attacks, and run them.

    Args:
        steps: Number of steps after which an attack stops.
        every: Number of steps between two evaluations.
        lr: Learning rate of the learned condition.
        relearn_lr: Learning rate of relearning.
        batch_size: Number of images in one step.
        count: Number of images that are generated for an evaluation.
        threshold: Percentage of recognised images at which the class counts as back.
        sampler: The sampler for the evaluations.
        decode: Turns latents into images, for a model of latents.

    Example:
        >>> goal = RecoveryGoal(task=task, samples=split.forget, judge=judge, target=3)
        >>> RecoveryAttack(steps=100).relearn(model, goal).steps
        25
    """

    steps: int = 200
    every: int = 25
    lr: float = 0.05
    relearn_lr: float = 1e-4
    batch_size: int = 64
    count: int = 50
    threshold: float = 50.0
    sampler: Sampler = field(default_factory=lambda: Sampler(kind="dpm", steps=10, guidance=1.0))
    decode: Callable[[Tensor], Tensor] | None = None

    def learned_condition(self, model: nn.Module, goal: RecoveryGoal, *, start: str = "null") -> Recovery:
        """Learn an embedding under which the frozen model denoises the images of the goal. This is a white-box attack.

        Args:
            model: The model. It is not changed.
            goal: What to bring back.
            start: Where the embedding starts: "null" or "own", as for `LearnedCondition`.

        Raises:
            ModelError: If the model has no table of conditions.
        """
        changed = LearnedCondition(model, goal.task.num_classes + 1, goal.target, start=start)
        return self._run(changed, list(changed.rows.parameters()), self.lr, goal)

    def relearn(self, model: nn.Module, goal: RecoveryGoal) -> Recovery:
        """Train a copy of the whole model on the images of the goal until it generates the class again."""
        copied = copy.deepcopy(model).float().requires_grad_(True)
        return self._run(copied, list(copied.parameters()), self.relearn_lr, goal)

    def both(self, models: Mapping[str, nn.Module], goal: RecoveryGoal) -> dict[str, Any]:
        """Run both attacks on each of some models.

        Args:
            models: Models by name.
            goal: What to bring back.

        Returns:
            For "learned_condition" and "relearning" a dictionary as a record keeps it: "within" (the most steps), and
            for each model `<name>_steps` and `<name>_highest`.
        """
        result: dict[str, Any] = {}
        for title, attack in (("learned_condition", self.learned_condition), ("relearning", self.relearn)):
            result[title] = {"within": self.steps}
            for name, model in models.items():
                recovery = attack(model, goal).to_dict()
                result[title] |= {f"{name}_{key}": recovery[key] for key in ("steps", "highest")}
        return result

    def _run(
        self, model: nn.Module, parameters: list[nn.Parameter], lr: float, goal: RecoveryGoal
    ) -> Recovery:
        device, optimizer = device_of(model), torch.optim.Adam(parameters, lr)
        generator, curve = torch.Generator().manual_seed(goal.seed), []
        with seeded(goal.seed, device):
            for step in range(self.steps + 1):
                if step % self.every == 0:
                    curve.append((step, self._recognised(model, goal)))
                    if curve[-1][1] >= self.threshold:
                        break
                at = torch.randint(0, len(goal.samples), (self.batch_size,), generator=generator)
                batch = next(goal.samples.take(at).batches(self.batch_size, device=device))
                # no dropout and no dropped conditions: the attacker wants this condition
                model.eval()
                asked = Batch(batch.x, torch.full_like(batch.y, goal.target), batch.index)
                optimizer.zero_grad(set_to_none=True)
                goal.task.loss(model, asked).mean().backward()
                optimizer.step()
        return Recovery(curve, self.threshold)

    def _recognised(self, model: nn.Module, goal: RecoveryGoal) -> float:
        """Return the percentage of generated images that the judge recognises as the class."""
        labels = torch.full((self.count,), goal.target)
        first = next(goal.samples.take(torch.arange(1)).batches(1))
        shape = tuple(goal.task.images(first).shape[1:])
        images = self.sampler(model, goal.task, labels, shape, seed=goal.seed)
        if self.decode is not None:
            images = self.decode(images)
        judge_class = goal.target if goal.judge_class is None else goal.judge_class
        predictions = goal.judge.predict(images, torch.full_like(labels, judge_class))
        return 100 * predictions.correct.double().mean().item()
