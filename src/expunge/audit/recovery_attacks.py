"""Try to bring a forgotten class back into a generator: by a learned condition, and by relearning.

Both attacks count steps. A model without residue needs as many steps as one that was retrained without the class. The
steps of one model alone mean little, because any generator can learn anything.

Sources: learned conditions are from Pham et al., "Circumventing Concept Erasure Methods for Text-to-Image Generative Models", ICLR
2024, arXiv:2308.01508. They use textual inversion (Gal et al., arXiv:2208.01618). Relearning is the relearning delay of classifiers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..data.samples import Samples
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import device_of, seeded
from .image_judge import Judge
from .learned_condition import LearnedCondition


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
        on_progress: Called at every evaluation with `label`, steps, percentage of recognised images, and whether the attack ended.
        label: What runs, for `on_progress`.

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
    on_progress: Callable[[str, int, float, bool], None] = lambda *_: None
    label: str = ""

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
        attacks = {
            "learned_condition": RecoveryAttack.learned_condition,
            "relearning": RecoveryAttack.relearn,
        }
        for title, attack in attacks.items():
            result[title] = {"within": self.steps}
            for name, model in models.items():
                one = replace(self, label=f"{title.replace('_', ' ')}{self.label}, {name}")
                recovery = attack(one, model, goal).to_dict()
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
                    back = curve[-1][1] >= self.threshold
                    self.on_progress(self.label, *curve[-1], back or step + self.every > self.steps)
                    if back:
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
        images = images if self.decode is None else self.decode(images)
        judge_class = goal.target if goal.judge_class is None else goal.judge_class
        predictions = goal.judge.predict(images, torch.full_like(labels, judge_class))
        return 100 * predictions.correct.double().mean().item()
