"""IU: take one Newton-like step that removes the influence of the forget set on the parameters (WoodFisher).

    v = (n_f / n) * (g_f - g_r),    theta <- theta + alpha * F^-1 v,    F = I + (1/N) * sum_t g_t g_t^T

g_f and g_r are the mean gradients of the forget and the retain set; n = n_f + n_r. F uses N single retain samples.

Source: the theory is from Izzo et al., AISTATS 2021 (arXiv:2002.10077) and Koh & Liang, ICML 2017 (arXiv:1703.04730). The
form follows SalUn's baselines (arXiv:2310.12508). WoodFisher is from Singh & Alistarh, NeurIPS 2020 (arXiv:2004.14340).

Published: the step with N = 1,000 and alpha in [1, 20]. The inverse comes from the recursion

    F_t^-1 v = F_{t-1}^-1 v - o_t (g_t . F_{t-1}^-1 v) / (N + g_t . o_t),    o_t = F_{t-1}^-1 g_t

Differences from the released code (`paper=True` follows it; OPTML-Group/Unlearn-Saliency, commit a6e89fd):
- The recursion needs all N vectors o_t, but the code keeps one. Its step is v plus a multiple of the first sample's
  gradient.
- N stays 1,000 if there are fewer retain samples. Ours is the number of samples that are used.
- The code takes the first N + 2 samples in data order: the first gives o, the others a step of the recursion each. Ours
  are N random ones.

Ours: the same inverse by the matrix inversion lemma,

    (d I + G^T G / N)^-1 v = (v - G^T (d N I + G G^T)^-1 G v) / d

where G holds the gradients g_t in its rows. Conjugate gradients solve the N x N system with products of G alone, so memory
stays at a few copies of the parameters for any N. `damping` is d; 1 is the published value.

Cost: One gradient of each sample of both sets, and products with at most N single gradients until the linear
system is solved. One step.

When not to use it: The network is deep and the forget set large: the step is a first-order answer near the
original. Choose alpha by trials, since too large a step destroys the model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..data.samples import Samples
from ..masks.gradient_matrix import GradientMatrix, conjugate_gradient
from ..masks.per_sample_gradients import (
    NamedTensors,
    gradient_batches,
    mean_gradient,
    per_sample_gradients,
    random_samples,
    to_full_precision,
)
from ..training.method import Method
from ..training.run import Run


@dataclass(frozen=True, kw_only=True)
class Influence(Method):
    """Take one step along the inverse Fisher matrix (influence unlearning, IU).

    Args:
        alpha: Length of the step.
        samples: N, the retain samples in the Fisher matrix. 0 uses all. Under `paper`, N also where there are fewer.
        damping: d, the multiple of the identity in the Fisher matrix, above 0.
        tolerance: Relative residual at which the solver stops, above 0.
        iterations: Maximum number of iterations of the solver.
        paper: Follow the released code, whose recursion does not give the inverse.
    """

    alpha: float = 1.0
    samples: int = 1000
    damping: float = 1.0
    tolerance: float = 1e-5
    iterations: int = 200
    paper: bool = False

    published: ClassVar = {}
    search: ClassVar = {"alpha": (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)}

    def apply(self, run: Run) -> None:
        """Take the step in place."""
        step = self.direction(run)
        with torch.no_grad():
            for name, parameter in run.model.named_parameters():
                if name in step:
                    parameter.add_(step[name], alpha=self.alpha)

    def direction(self, run: Run) -> NamedTensors:
        """Return F^-1 v."""
        forget, retain = run.split.forget, run.split.retain
        forget_gradient, retain_gradient = (mean_gradient(run.model, run.task, s) for s in (forget, retain))
        share = len(forget) / (len(forget) + len(retain))
        v = {n: share * (forget_gradient[n] - retain_gradient[n]) for n in forget_gradient}
        if self.paper:
            return self._released(run, v)
        return self._inverse(run, random_samples(retain, self.samples, run.generator("fisher")), v)

    def _inverse(self, run: Run, few: Samples, v: NamedTensors) -> NamedTensors:
        """Return F^-1 v by the matrix inversion lemma."""
        matrix, ridge = GradientMatrix(run.model, run.task, few), self.damping * len(few)
        product = lambda a: ridge * a + (matrix @ matrix.transposed(a))  # noqa: E731
        a, steps, residual = conjugate_gradient(product, matrix @ v, self.tolerance, self.iterations)
        run.memo.update(solver_steps=steps, residual=residual)
        if residual > 10 * self.tolerance:
            warnings.warn(
                f"the solver of the influence step stopped at a relative residual of {residual:.1g}, above the tolerance "
                f"{self.tolerance:.1g}; raise iterations (now {self.iterations}) or damping.",
                RuntimeWarning,
                stacklevel=2,
            )
        correction = matrix.transposed(a)
        return {n: (v[n] - correction[n]) / self.damping for n in v}

    def _released(self, run: Run, v: NamedTensors) -> NamedTensors:
        """Return the result of the released recursion, in which o stays a multiple of the first gradient."""
        retain = run.split.retain
        n = self.samples or len(retain)
        few = retain.take(torch.arange(min(n + 2, len(retain))))
        k, o = torch.cat([part.flatten() for part in v.values()]), None
        for batch in gradient_batches(run.model, few):
            rows = per_sample_gradients(run.model, run.task, batch)
            for g in torch.cat([to_full_precision(rows[name]).flatten(1) for name in v], 1):
                if o is None:
                    o = g
                    continue
                t = o @ g
                k = k - (k @ g) / (n + t) * o
                o = o - t / (n + t) * o
        parts = k.split([part.numel() for part in v.values()])
        return {name: part.view_as(v[name]) for name, part in zip(v, parts, strict=True)}

    def details(self, run: Run) -> dict[str, Any]:
        """Return the iterations of the solver and its relative residual."""
        return {"influence": {k: run.memo[k] for k in ("solver_steps", "residual") if k in run.memo}}

    def problems(self) -> list[str]:
        problems = [
            f"{name} is {getattr(self, name)}; it must be above 0."
            for name in ("damping", "tolerance")
            if getattr(self, name) <= 0
        ]
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least {minimum}."
            for name, minimum in (("samples", 0), ("iterations", 1))
            if getattr(self, name) < minimum
        ]
        return problems
