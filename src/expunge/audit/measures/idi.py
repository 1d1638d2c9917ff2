"""IDI, the information difference index: how much the layers still tell forget from retain samples.

Jeon, Jeung, Kim, No, Choi, "An Information Theoretic Evaluation Metric for Strong Unlearning", AAAI 2026,
arXiv:2405.17878. I is a lower bound (InfoNCE) of the mutual information of a layer's output and the bit "forget or
retain". ID(model) is the sum over layers of I(model) - I(Retrain), and IDI = ID(model) / ID(original): 0 like
retraining, 1 like the original. It is negative if the layers tell less than Retrain's.

Published: the sum, the ratio and the bound, whose critic has a vector for each value of the bit. In the paper, the critic
begins with a copy of the remaining layers, and the value is a mean of five trials. The released code was not found.
Ours: the critic is linear, so at the input of the head it is that of the paper, and below it the bound is lower for all
three models. It is the optimum of a convex problem, so there are no trials. The layers are the blocks of the model
(`layers.py`). Both sets have equally many samples, so I is at most log 2. Each half is judged by the critic of the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn

from ...data.samples import Samples
from ...tasks.task import Task
from ..evaluation import Evaluation
from ..layers import layer_outputs
from ..measure import Measure
from ..populations import Floats

# Largest number of samples of each set, ridge penalty of the critic, steps of its fit.
MOST = 1000
PENALTY = 1e-2
STEPS = 200
# An original whose layers tell less than this more than Retrain's gives no ratio (nats, summed over layers).
LEAST = 0.05


@dataclass(frozen=True, eq=False)
class IDI(Measure):
    """Compare what the layers know of the forget set with Retrain and the original."""

    name = "IDI"
    glossary = (
        "Information that the layers keep about the forget set: 0 like retraining, 1 like the original."
    )
    unit = ""
    needs = ("logits",)
    reference = True

    # {evaluation: {layer: bound}}, because each model of a table is compared with the same two
    _known: WeakKeyDictionary[Evaluation, dict[str, float]] = field(
        default_factory=WeakKeyDictionary, repr=False
    )

    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> float | None:
        """Return the index. None without an original, without the models, or if the original tells no more than Retrain."""
        if original is None or any(e is None or e.model is None for e in (unlearned, original, retrained)):
            return None
        assert retrained is not None
        own, before, reference = (self._bounds(e, task) for e in (unlearned, original, retrained))
        layers = [layer for layer in before if layer in own and layer in reference]
        distance = sum(before[layer] - reference[layer] for layer in layers)
        if not layers or distance < LEAST:
            return None
        return sum(own[layer] - reference[layer] for layer in layers) / distance

    def _bounds(self, evaluation: Evaluation, task: Task) -> dict[str, float]:
        if evaluation not in self._known:
            assert evaluation.model is not None
            self._known[evaluation] = layer_information(evaluation.model, evaluation, task)
        return self._known[evaluation]


def layer_information(model: nn.Module, evaluation: Evaluation, task: Task) -> dict[str, float]:
    """Return the bound of each layer of a model, in nats: {layer: I}.

    Args:
        model: The model.
        evaluation: Its evaluation, for the sets and the seed of the choice of samples.
        task: The task of the model.
    """
    split = evaluation.split
    count = min(MOST, len(split.forget), len(split.retain))
    generator = torch.Generator().manual_seed(evaluation.seed)
    forget, retain = (_some(s, count, generator) for s in (split.forget, split.retain))
    of_forget, of_retain = (layer_outputs(model, s, task) for s in (forget, retain))
    return {layer: information(of_forget[layer], of_retain[layer]) for layer in of_forget}


def _some(samples: Samples, count: int, generator: torch.Generator) -> Samples:
    return samples.take(torch.randperm(len(samples), generator=generator)[:count].sort().values)


def information(a: Tensor, b: Tensor) -> float:
    """Return the InfoNCE lower bound of the mutual information of features and the bit that tells two sets apart.

    With a critic f(z, bit) of one linear function for each bit and equally many samples of both, the bound is
    log 2 minus the cross-entropy of a linear classifier on samples that it was not fitted to.

    Args:
        a: Features (n, D) of one set.
        b: Features (n, D) of the other.

    Returns:
        The bound in nats. At most log 2, and below 0 if the features tell nothing.
    """
    of_both = [[part.double().numpy()[k::2] for part in (a, b)] for k in (0, 1)]
    losses = [_held_out_loss(*of_both[k], *of_both[1 - k]) for k in (0, 1)]
    return math.log(2) - sum(losses) / 2


def _held_out_loss(one: Floats, zero: Floats, unseen_one: Floats, unseen_zero: Floats) -> float:
    """Fit a logistic regression with a ridge penalty to two sets, and return its mean cross-entropy on two others."""
    x, unseen = np.concatenate([one, zero]), np.concatenate([unseen_one, unseen_zero])
    # one scale for all features: the penalty then does not depend on their number
    mean, scale = x.mean(0), (x.std(0) + 1e-6) * math.sqrt(x.shape[1])
    x, unseen = (x - mean) / scale, (unseen - mean) / scale
    sign = np.repeat([1.0, -1.0], [len(one), len(zero)])
    penalty = PENALTY / x.shape[1]

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = sign * (x @ weights[:-1] + weights[-1])
        wrong = -sign * expit(-margins) / len(x)
        slope = np.append(x.T @ wrong + 2 * penalty * weights[:-1], wrong.sum())
        return np.logaddexp(0, -margins).mean() + penalty * (weights[:-1] ** 2).sum(), slope

    fitted = minimize(
        loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    ).x
    unseen_sign = np.repeat([1.0, -1.0], [len(unseen_one), len(unseen_zero)])
    return float(np.logaddexp(0, -unseen_sign * (unseen @ fitted[:-1] + fitted[-1])).mean())
