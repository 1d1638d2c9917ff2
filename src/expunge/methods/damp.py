"""DAMP: project the direction that tells the forgotten class from the others out of every layer's weights.

Depth-aware projection: no gradients, class means only. The paper's page could be read in notes, not its
formulas in full.

Published: for each layer, class means mu of what enters it; R holds the retained classes' means; d = mu_f - R
R^+ mu_f; for several forgotten classes Q is an orthonormal basis of their d; W becomes W (I - alpha_l Q Q^T),
biases are kept. alpha_l grows with depth and with how well a linear probe of the layer tells forgotten from
retained samples.

Ours: alpha_l = strength * max(0, 2 b - 1) * l / L for layer l of L, with b the balanced accuracy of a
logistic probe on samples that it was not fitted to, since the exact formula could not be had. R is cut to the
directions that hold `energy` of its squared singular values: with more retained classes than features it
would span everything and d would be 0. Convolutions are projected along their input channels, with means over
positions; all means are the original's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from ..data.samples import Samples
from ..errors import ModelError
from ..masks.per_sample_gradients import some
from ..torch_utils.module_state import evaluating
from ..training.method import Method
from ..training.run import Run


def residual_directions(forgotten: Tensor, retained: Tensor, energy: float) -> Tensor:
    """Q (D, m): orthonormal basis of what forgotten means (F, D) have outside of the span of retained means
    (K, D)."""
    _, size, rows = torch.linalg.svd(retained, full_matrices=False)
    share = size.square().cumsum(0) / size.square().sum().clamp_min(1e-30)
    span = rows[: int((share < energy).sum()) + 1]  # (k, D)
    rest = forgotten - forgotten @ span.T @ span
    alive = rest.norm(dim=1) > 1e-6 * forgotten.norm(dim=1).clamp_min(1e-30)
    return torch.linalg.qr(rest[alive].T).Q


def project(weight: Tensor, basis: Tensor, alpha: float) -> Tensor:
    """W (I - alpha Q Q^T) along the inputs: the second axis of `weight` (O, D, ...)."""
    along = torch.einsum("od...,dm->om...", weight, basis)
    return weight - alpha * torch.einsum("om...,dm->od...", along, basis)


@dataclass(frozen=True, kw_only=True)
class DAMP(Method):
    """DAMP: the forgotten class's direction projected out of every layer, more in deeper ones."""

    strength: float = 1.0  # factor on every alpha_l
    energy: float = 0.99  # share of the retained means' energy that counts as theirs
    samples: int = 2000  # of the forget and of the retain set, for means and probes; 0 for all

    needs: ClassVar = ("logits", "features", "head")
    scenarios: ClassVar = ("class",)
    search: ClassVar = {"strength": (0.5, 1.0, 1.5), "energy": (0.9, 0.95, 0.99, 0.999)}

    def apply(self, run: Run) -> None:
        own = dict(run.model.named_parameters(remove_duplicate=False))
        if lost := [n for n, m in _layers(run.model) if (f"{n}.weight" if n else "weight") not in own]:
            raise ModelError(
                f"the weights of {lost[:5]} are computed from others (weight_norm, spectral_norm), so an edit of them would be "
                "lost; remove the parametrization first (torch.nn.utils.parametrize)."
            )
        draw = run.generator("samples")
        sets = [some(s, self.samples, draw) for s in (run.split.forget, run.split.retain)]
        seen = [inputs(run, s) for s in sets]
        layers = [name for name in seen[0] if seen[0][name].shape[1] > 1]
        alphas = {}
        for depth, name in enumerate(layers, 1):
            forget, retain = seen[0][name], seen[1][name]
            means = [
                torch.stack([x[s.labels == k].mean(0) for k in s.labels.unique()])
                for x, s in zip((forget, retain), sets, strict=True)
            ]
            basis = residual_directions(means[0], means[1], self.energy)
            alphas[name] = (
                self.strength * max(0.0, 2 * separability(forget, retain) - 1) * depth / len(layers)
            )
            weight = run.model.get_parameter(f"{name}.weight" if name else "weight")
            with torch.no_grad():
                weight.copy_(project(weight, basis.to(weight), alphas[name]))
        run.memo["alphas"] = alphas

    def details(self, run: Run) -> dict[str, Any]:
        """alpha of each layer, and selectivity: points of accuracy lost on forget minus those lost on retain
        samples."""
        task: Any = run.task
        lost = [
            task.predict(run.original, s).accuracy - task.predict(run.model, s).accuracy
            for s in (run.split.forget, run.split.retain)
        ]
        return {"damp": {"alphas": run.memo["alphas"], "selectivity": lost[0] - lost[1]}}

    def problems(self) -> list[str]:
        found = [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("strength", "samples")
            if getattr(self, name) < 0
        ]
        if not 0 < self.energy <= 1:
            found.append(f"energy is {self.energy}; it is a share, above 0 and at most 1.")
        return found


def inputs(run: Run, samples: Samples) -> dict[str, Tensor]:
    """What enters each linear and each ungrouped convolution layer, in order of use: (N, D), means over
    positions."""
    caught: dict[str, list[Tensor]] = {}
    with _catching(run.model, caught), evaluating(run.model), torch.no_grad():
        for batch in samples.batches(run.compute.eval_batch, device=run.device):
            run.task.loss(run.model, batch)
    return {name: torch.cat(rows).float() for name, rows in caught.items()}


def _layers(model: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """What is projected: linear and ungrouped convolution layers that are not frozen."""
    return [
        (n, m)
        for n, m in model.named_modules()
        if (isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1))
        and m.weight.requires_grad
    ]


@contextmanager
def _catching(model: nn.Module, caught: dict[str, list[Tensor]]) -> Iterator[None]:
    def hook(name: str) -> Any:
        def catch(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0]
            axes = tuple(range(2, x.ndim)) if isinstance(module, nn.Conv2d) else tuple(range(1, x.ndim - 1))
            caught.setdefault(name, []).append(x.detach().mean(axes).cpu() if axes else x.detach().cpu())

        return catch

    hooks = [m.register_forward_pre_hook(hook(n)) for n, m in _layers(model)]
    try:
        yield
    finally:
        for h in hooks:
            h.remove()


def separability(forget: Tensor, retain: Tensor) -> float:
    """Balanced accuracy of a logistic probe, fitted on every other sample and judged on the rest."""
    x = torch.cat([forget, retain]).numpy()
    y = torch.cat([torch.ones(len(forget)), torch.zeros(len(retain))]).numpy()
    if len(forget) < 2 or len(retain) < 2:
        return 0.5
    x = (x - x.mean(0)) / (x.std(0) + 1e-8)  # centred too, or the solver is still on its way after 200 steps
    probe = LogisticRegression(class_weight="balanced", max_iter=2000).fit(x[::2], y[::2])
    return float(balanced_accuracy_score(y[1::2], probe.predict(x[1::2])))
