"""IU: one Newton-like step that takes the forget set's influence on the weights away, by WoodFisher.

Izzo et al., AISTATS 2021 (arXiv:2002.10077) and Koh & Liang, ICML 2017 (arXiv:1703.04730) are the theory; the
form is that of SalUn's baselines (arXiv:2310.12508; Singh & Alistarh, NeurIPS 2020, arXiv:2004.14340, for
WoodFisher).

Published: v = (n_f / n) (g_f - g_r), the mean gradients of forget and retain set, n = n_f + n_r; the update
theta + alpha F^-1 v with F = I + (1/N) sum_t g_t g_t^T over N = 1,000 single retain samples; alpha in [1,
20]. The recursion F_t^-1 v = F_{t-1}^-1 v - o_t (g_t . F_{t-1}^-1 v) / (N + g_t . o_t), o_t = F_{t-1}^-1 g_t,
needs all T vectors o_t. The released code keeps one, so that its step is v plus a multiple of the first
sample's gradient: `paper_exact=True` does that. Ours: the same inverse by the matrix inversion lemma, (dI +
G^T G / N)^-1 v = (v - G^T (dN I + G G^T)^-1 G v) / d, where the T x T system is solved by conjugate gradients
with products of G alone: memory of a few copies of the weights for any T; N = T; `damping` d (published: 1).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..data.samples import Samples
from ..masks.per_sample_gradients import (
    GradientMatrix,
    Weights,
    chunks,
    conjugate_gradient,
    mean_gradient,
    per_sample_gradients,
    some,
)
from ..training.method import Method
from ..training.run import Run


def dot(a: Weights, b: Weights) -> torch.Tensor:
    """The inner product of two directions in weight space."""
    return torch.stack([(a[n] * b[n]).sum() for n in a]).sum()


@dataclass(frozen=True, kw_only=True)
class Influence(Method):
    """IU: influence unlearning, one step along the inverse Fisher matrix (WoodFisher)."""

    alpha: float = 1.0  # length of the step
    samples: int = 1000  # T: retain samples that the Fisher matrix is made of; 0 for all
    damping: float = 1.0  # d: the multiple of the identity that the Fisher matrix starts from
    tolerance: float = 1e-5  # relative residual at which the solver stops
    iterations: int = 200  # of the solver, at most
    paper_exact: bool = False  # the released code's recursion, which is not the inverse

    search: ClassVar = {"alpha": (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)}

    def apply(self, run: Run) -> None:
        step = self.direction(run)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                if name in step:
                    weight.add_(step[name], alpha=self.alpha)

    def direction(self, run: Run) -> Weights:
        """F^-1 v."""
        forget, retain = run.split.forget, run.split.retain
        of_forget, of_retain = (mean_gradient(run.model, run.task, s) for s in (forget, retain))
        share = len(forget) / (len(forget) + len(retain))
        v = {n: share * (of_forget[n] - of_retain[n]) for n in of_forget}
        few = some(retain, self.samples, run.generator("fisher"))
        return self._released(run, few, v) if self.paper_exact else self._inverse(run, few, v)

    def _inverse(self, run: Run, few: Samples, v: Weights) -> Weights:
        matrix, size = GradientMatrix(run.model, run.task, few), self.damping * len(few)
        product = lambda a: size * a + (matrix @ matrix.transposed(a))  # noqa: E731
        a, steps, residual = conjugate_gradient(product, matrix @ v, self.tolerance, self.iterations)
        run.memo.update(solver_steps=steps, residual=residual)
        if residual > 10 * self.tolerance:
            warnings.warn(
                f"the influence step is solved to a relative residual of {residual:.1g} only; raise "
                f"iterations (now {self.iterations}) or damping.",
                RuntimeWarning,
                stacklevel=2,
            )
        correction = matrix.transposed(a)
        return {n: (v[n] - correction[n]) / self.damping for n in v}

    def _released(self, run: Run, few: Samples, v: Weights) -> Weights:
        """o starts as the first gradient and is only rescaled after that."""
        k, o, n = dict(v), None, len(few)
        for batch in chunks(run.model, few):
            rows = per_sample_gradients(run.model, run.task, batch)
            for i in range(len(batch)):
                g = {name: rows[name][i] for name in rows}
                if o is None:
                    o = g
                    continue
                t = dot(o, g)
                along = dot(k, g) / (n + t)
                k = {name: k[name] - along * o[name] for name in k}
                o = {name: o[name] * (1 - t / (n + t)) for name in o}
        return k

    def details(self, run: Run) -> dict[str, Any]:
        return {"influence": {k: run.memo[k] for k in ("solver_steps", "residual") if k in run.memo}}

    def problems(self) -> list[str]:
        found = [
            f"{name} is {getattr(self, name)}; it must be above 0."
            for name in ("damping", "tolerance")
            if getattr(self, name) <= 0
        ]
        found += [
            f"{name} is {getattr(self, name)}; it must be at least {low}."
            for name, low in (("samples", 0), ("iterations", 1))
            if getattr(self, name) < low
        ]
        return found
