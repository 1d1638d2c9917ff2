"""Null-space projection: run another method, and keep from each change of the weights what retained features do not feel.

    W <- W_0 + (W - W_0) (I - U U^T) after each step

U are the main directions of the inputs of a layer on retain samples: those that hold the share `energy` of their squares. A constant
input stands for the bias. So a linear layer keeps its outputs on inputs within these directions.

Source: Wang, Li, Sun, Xu, "Training Networks in Null Space of Feature Covariance for Continual Learning", CVPR 2021,
arXiv:2103.07113. Hoang, Rana, Gupta, Venkatesh, "Learn to Unlearn for Deep Neural Networks: Minimizing Unlearning Interference with
Gradient Projection", WACV 2024, projects steps of unlearning, and a work on contrastive forgetting in multimodal models projects
its updates too. The texts of the last two could not be read.

Published: updates are projected on the space that retained features leave free, layer by layer.

Ours:
- Any method with gradient steps can be constrained. The whole change since the original is projected after each step, so momentum,
  weight decay and edits before the first step are constrained as well.
- Parameters that are not in a convolution or linear layer stay as they are, and batch norm keeps its statistics.
- The choice of U by `energy`, and the default method and settings.

Cost: That of the constrained method, one pass over retain samples and one decomposition for each layer, and one
projection for each step.

When not to use it: Layers are narrow or the retained features fill them: little of the change is left. Other
parameters than those of convolutions and linear layers have to move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from ..data.past_requests import remember_requests
from ..errors import ExpungeError
from ..masks.per_sample_gradients import random_samples
from ..tasks.task import Capability
from ..training.execute import check_run, execute
from ..training.method import LEAST_STEPS, GradientMethod, Method
from ..training.registry import make
from ..training.run import Run
from ._null_space_directions import project, retained_directions


def constrained(method: GradientMethod, energy: float, samples: int) -> GradientMethod:
    """Return a method with the same settings whose changes are projected."""
    kind: Any = type(method)

    def prepare(self: Any, run: Run) -> None:
        few = random_samples(run.split.retain, samples, run.generator("null space"))
        run.memo["directions"] = retained_directions(run, few, energy)
        kind.prepare(self, run)
        project(run, run.memo["directions"])

    def after_step(self: Any, run: Run, optimizer: Any) -> None:
        kind.after_step(self, run, optimizer)
        project(run, run.memo["directions"])

    own = {
        "prepare": prepare,
        "after_step": after_step,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }
    made: Any = type(kind.__name__, (kind,), own)
    return made(**{f.name: getattr(method, f.name) for f in fields(kind)})


@dataclass(frozen=True, kw_only=True)
class NullSpace(Method):
    """Run another method within the null space of retained features (null-space projection).

    Args:
        base: The method: a name as on the command line, of one with gradient steps and without a mask.
        epochs: Number of passes of the method.
        lr: Learning rate of the method.
        energy: Share of the squares of retained features that is protected, above 0 and at most 1.
        samples: Retain samples for the features. 0 uses all.
    """

    base: str = "delete"
    epochs: int = 20
    lr: float = 0.01
    energy: float = 0.95
    samples: int = 1000

    needs: ClassVar = ("logits",)
    search: ClassVar = {
        "lr": (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        "energy": (0.8, 0.9, 0.95, 0.99, 0.999),
        "epochs": (20, 60, 180),
    }

    def requires(self) -> tuple[Capability, ...]:
        return (
            self.needs if self._wrong() else tuple(dict.fromkeys([*self.needs, *make(self.base).requires()]))
        )

    def method(self) -> GradientMethod:
        """Return the method that is constrained, with its settings."""
        method: Any = make(self.base)
        return replace(method, epochs=self.epochs, lr=self.lr, batch_norm="freeze")

    def adapted(self, run: Run) -> dict[str, Any]:
        """Return more epochs where the method has less than `LEAST_STEPS` steps."""
        steps = self.method().steps(run)
        return {"epochs": math.ceil(self.epochs * LEAST_STEPS / steps)} if 0 < steps < LEAST_STEPS else {}

    def apply(self, run: Run) -> None:
        """Run the method, and leave its model.

        Raises:
            ExpungeError: The method does not serve the task or the request.
        """
        method = self.method()
        check_run(method, run.split, run.task, seed=run.seed, compute=run.compute)
        inner = execute(
            # the request is that of the whole run
            remember_requests(run.model, ()),
            run.split,
            constrained(method, self.energy, self.samples),
            run.task,
            seed=run.seed,
            compute=run.compute,
            factory=run.factory,
            on_row=run.on_row,
        )
        run.model.load_state_dict(inner.model.state_dict())
        run.history, run.step, run.epoch, run.epochs = inner.history, inner.step, inner.epoch, inner.epochs
        if inner.ended in ("diverged", "stopped"):
            run.ended, run.status, run.taken_back = inner.ended, inner.status, inner.taken_back
        run.memo["rank"] = {n: [u.shape[1], u.shape[0]] for n, u in inner.memo["directions"].items()}

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of protected directions of each layer, and of all its directions."""
        return {"null_space": {"rank": run.memo["rank"]}}

    def problems(self) -> list[str]:
        problems = [self._wrong()] if self._wrong() else self.method().problems()
        if not 0 < self.energy <= 1:
            problems.append(f"energy is {self.energy}; it must be a share, above 0 and at most 1.")
        if self.samples < 0:
            problems.append(f"samples is {self.samples}; it must be at least 0.")
        return problems

    def _wrong(self) -> str:
        """Return what is wrong with the base; empty if nothing is."""
        try:
            method = make(self.base)
        except ExpungeError as error:
            return f"base is {self.base!r}: {error}"
        if not isinstance(method, GradientMethod) or method.exact:
            return f"base is '{self.base}', which takes no gradient steps from the original; name one that does, such as delete."
        if method.density < 1:
            return (
                f"base is '{self.base}', whose mask selects single weights, and a projection mixes them; name one without a mask, "
                "such as random_label."
            )
        return ""
