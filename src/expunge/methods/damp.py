"""DAMP: project out of every layer's weights the direction that separates the forgotten class from the others.

    d = mu_f - R R^+ mu_f,    W <- W (I - alpha_l Q Q^T)

mu_f is the mean input of a layer over the forgotten class; R holds the means of the retained classes. Q is an orthonormal
basis of the directions d of all forgotten classes. Biases are kept. The method needs no gradients.

Source: a publication on depth-aware projection, read in notes; it was not possible to read all of its formulas.

Published: the edit above. alpha_l grows with the depth of layer l. It also grows with the accuracy of a linear probe that
tells forgotten from retain samples at this layer.

Ours:
- alpha_l = strength * max(0, 2 b - 1) * l / L for layer l of L. b is the balanced accuracy of a logistic probe on
  samples that it was not fitted to.
- R keeps only the directions that hold `energy` of its squared singular values. With more retained classes than
  features, R would otherwise span the whole space and d would be 0.
- A convolution is projected along its input channels, with means over positions.
- All means are those of the original.

Cost: One pass over both sets for the means of each layer, and one pseudoinverse for each layer. No gradients.

When not to use it: Single samples must go: it serves whole classes only. The number of classes is near the
width of the layers: little is left to project out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.samples import Samples
from ..errors import ModelError
from ..masks.per_sample_gradients import random_samples
from ..torch_utils.compiled import uncompiled
from ..torch_utils.module_state import evaluating
from ..training.method import Method
from ..training.run import Run


def residual_directions(forgotten: Tensor, retained: Tensor, energy: float) -> Tensor:
    """Return Q (D, m), an orthonormal basis of the part of the forgotten means outside the span of the retained means.

    Args:
        forgotten: Means of the forgotten classes (F, D).
        retained: Means of the retained classes (K, D).
        energy: Share of the squared singular values of `retained` that its span must hold.
    """
    _, singular_values, rows = torch.linalg.svd(retained, full_matrices=False)
    share = singular_values.square().cumsum(0) / singular_values.square().sum().clamp_min(1e-30)
    span = rows[: int((share < energy).sum()) + 1]  # (k, D)
    rest = forgotten - forgotten @ span.T @ span
    nonzero = rest.norm(dim=1) > 1e-6 * forgotten.norm(dim=1).clamp_min(1e-30)
    return torch.linalg.qr(rest[nonzero].T).Q


def project(weight: Tensor, basis: Tensor, alpha: float) -> Tensor:
    """Return W (I - alpha Q Q^T) for a weight W (O, D, ...), whose second axis are the inputs."""
    along = torch.einsum("od...,dm->om...", weight, basis)
    return weight - alpha * torch.einsum("om...,dm->od...", along, basis)


@dataclass(frozen=True, kw_only=True)
class DAMP(Method):
    """Project the forgotten class's direction out of every layer, more in deeper layers (DAMP).

    Args:
        strength: Factor on every alpha_l.
        energy: Share of the squared singular values of the retained means that is protected, above 0 and at most 1.
        samples: Samples of each of the two sets for means and probes. 0 uses all.
    """

    strength: float = 1.0
    energy: float = 0.99
    samples: int = 2000

    needs: ClassVar = ("logits", "features", "head")
    scenarios: ClassVar = ("class",)
    search: ClassVar = {"strength": (0.5, 1.0, 1.5), "energy": (0.9, 0.95, 0.99, 0.999)}

    def apply(self, run: Run) -> None:
        """Project the weights of all layers in place."""
        _check_layers(run.model)
        draw = run.generator("samples")
        sets = [random_samples(s, self.samples, draw) for s in (run.split.forget, run.split.retain)]
        forget_inputs, retain_inputs = (layer_inputs(run, s) for s in sets)
        layers = [name for name in forget_inputs if forget_inputs[name].shape[1] > 1]
        alphas = {}
        for depth, name in enumerate(layers, 1):
            forget, retain = forget_inputs[name], retain_inputs[name]
            means = [
                torch.stack([x[s.labels == k].mean(0) for k in s.labels.unique()])
                for x, s in zip((forget, retain), sets, strict=True)
            ]
            basis = residual_directions(means[0], means[1], self.energy)
            alphas[name] = (
                self.strength * max(0.0, 2 * separability(forget, retain) - 1) * depth / len(layers)
            )
            weight = run.model.get_parameter(_weight_name(name))
            with torch.no_grad():
                weight.copy_(project(weight, basis.to(weight), alphas[name]))
        run.memo["alphas"] = alphas

    def details(self, run: Run) -> dict[str, Any]:
        """Return alpha of each layer, and the selectivity in percentage points.

        The selectivity is the accuracy lost on the forget set minus the accuracy lost on the retain set.
        """
        task: Any = run.task
        lost = [
            task.predict(run.original, s).accuracy - task.predict(run.model, s).accuracy
            for s in (run.split.forget, run.split.retain)
        ]
        return {"damp": {"alphas": run.memo["alphas"], "selectivity": lost[0] - lost[1]}}

    def problems(self) -> list[str]:
        problems = [
            f"{name} is {getattr(self, name)}; it must be at least 0."
            for name in ("strength", "samples")
            if getattr(self, name) < 0
        ]
        if not 0 < self.energy <= 1:
            problems.append(f"energy is {self.energy}; it must be a share, above 0 and at most 1.")
        return problems


def layer_inputs(run: Run, samples: Samples) -> dict[str, Tensor]:
    """Return the inputs (N, D) of each projected layer, averaged over positions, in the order of use."""
    recorded: dict[str, list[Tensor]] = {}
    with _recording(run.model, recorded), evaluating(run.model), torch.no_grad():
        for batch in samples.batches(run.compute.eval_batch, device=run.device):
            run.task.loss(run.model, batch)
    return {name: torch.cat(rows).float() for name, rows in recorded.items()}


def _layers(model: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """Return the layers to project: linear and ungrouped convolution layers that are not frozen."""
    return [
        (n, m)
        for n, m in model.named_modules()
        if (isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1))
        and m.weight.requires_grad
    ]


def _weight_name(layer: str) -> str:
    return f"{layer}.weight" if layer else "weight"


def _check_layers(model: nn.Module) -> None:
    """Raise `ModelError` if the weight of a layer is not a parameter, so an edit of it would be lost."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if computed := [name for name, _ in _layers(model) if _weight_name(name) not in parameters]:
        raise ModelError(
            f"the weights of {computed[:5]} are computed from other parameters (weight_norm, spectral_norm), so an edit would be "
            "lost; remove the parametrization first (torch.nn.utils.parametrize)."
        )


@contextmanager
def _recording(model: nn.Module, recorded: dict[str, list[Tensor]]) -> Iterator[None]:
    """Append the inputs of each projected layer to `recorded` while the block runs."""

    def hook(name: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            axes = tuple(range(2, x.ndim)) if isinstance(module, nn.Conv2d) else tuple(range(1, x.ndim - 1))
            recorded.setdefault(name, []).append(x.detach().mean(axes).cpu() if axes else x.detach().cpu())

        return record

    hooks = [m.register_forward_pre_hook(hook(n)) for n, m in _layers(model)]
    try:
        with uncompiled():
            yield
    finally:
        for h in hooks:
            h.remove()


def separability(forget: Tensor, retain: Tensor) -> float:
    """Return the balanced accuracy of a logistic probe, fitted on every other sample and tested on the rest."""
    x = torch.cat([forget, retain]).numpy()
    y = torch.cat([torch.ones(len(forget)), torch.zeros(len(retain))]).numpy()
    if len(forget) < 2 or len(retain) < 2:
        return 0.5
    # standardised, since the solver would not converge within 200 steps on raw features
    x = (x - x.mean(0)) / (x.std(0) + 1e-8)
    # Every command reads this file, and importing scikit-learn takes half a second.
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    probe = LogisticRegression(class_weight="balanced", max_iter=2000).fit(x[::2], y[::2])
    return float(balanced_accuracy_score(y[1::2], probe.predict(x[1::2])))
