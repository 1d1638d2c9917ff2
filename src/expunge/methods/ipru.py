"""IPRU: learn one vector that is added to every input, and leave the weights as they are.

    f'(x) = f(x + v),    loss = CE(retain) + forget_weight * KL(q || p(forget))

q is the output of the original without the true class (see `delete`).

Source: Liu, Meng, Liu, Xu, Ma, Tafazolli, Zhang, "IPRU: Input-Perturbation-Based Radio Frequency Fingerprinting Unlearning for
LAWNs", arXiv:2604.24022. Only the abstract could be read.

Published: a universal "fingerprint forget vector" on the inputs of a classifier of radio devices erases the devices that leave,
with frozen weights: 1.41 % accuracy on them and 99.41 % on the others, 5.79 times as fast as retraining.

Ours, everything else: the loss, the settings, the use on images or other inputs of one tensor. v has the shape of one input, after
its normalisation, and starts at 0.

The weights still know the forget set: who removes v has the original back. So a delivered file of weights alone is not unlearned,
and the command line refuses the method.

Cost: One pass over both sets for each epoch; only one vector of the size of an input is trained.

When not to use it: A file of weights is delivered: the weights still know the forget set, and the command line
refuses the method.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import Batch
from ..data.past_requests import remember_requests, requests_of
from ..errors import ExpungeError
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Run
from .delete import decoupled_loss

# name of the vector among the parameters of the model
VECTOR = "forget_vector"


def _add_vector(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0] + module.get_parameter(VECTOR).to(inputs[0].dtype), *inputs[1:])


def with_forget_vector(model: nn.Module, vector: Tensor) -> nn.Module:
    """Return a copy of the model that adds a vector to its inputs, the parameter `forget_vector`.

    Args:
        model: The model.
        vector: The vector, in the shape of one input.

    Example:
        >>> state = load_file("unlearned.safetensors")  # doctest: +SKIP
        >>> model = with_forget_vector(original, state["forget_vector"])  # doctest: +SKIP
    """
    made = copy.deepcopy(model)
    if VECTOR not in dict(made.named_parameters(recurse=False)):
        made.register_forward_pre_hook(_add_vector)
    made.register_parameter(VECTOR, nn.Parameter(vector.detach().clone()))
    return made


@dataclass(frozen=True, kw_only=True)
class _Vector(GradientMethod):
    """Train the vector of a model alone."""

    forget_weight: float = 1.0

    schedule: ClassVar = "retain+forget"

    def frozen(self, run: Run) -> set[str]:
        return {n for n, _ in run.model.named_parameters() if n != VECTOR}

    def train_mode(self, run: Run) -> None:
        # the model is as it is in use; eval mode does not stop gradients
        run.model.eval()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        assert forget is not None and retain is not None
        with torch.no_grad():
            teacher = run.task.logits(run.original, forget.x)
        lost = decoupled_loss(teacher, run.task.logits(run.model, forget.x), forget.y).mean()
        kept = F.cross_entropy(run.task.logits(run.model, retain.x), retain.y)
        return kept + self.forget_weight * lost


@dataclass(frozen=True, kw_only=True)
class IPRU(Method):
    """Learn one vector on the inputs and leave the weights as they are (IPRU, input perturbation).

    Args:
        epochs: Number of passes over the retain set.
        lr: Learning rate of the vector.
        batch_size: Samples of each set in a step.
        optimizer: Optimizer that takes the steps.
        forget_weight: Weight of the loss on the forget set.
    """

    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 256
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    forget_weight: float = 1.0

    needs: ClassVar = ("logits",)
    python_only: ClassVar = (
        "ipru leaves the weights as they are and adds a vector to the inputs, so a checkpoint of the weights is not unlearned; use "
        "it from Python: unlearn(model, split, IPRU(), task)."
    )
    search: ClassVar = {
        "lr": (0.001, 0.003, 0.01, 0.03, 0.1),
        "epochs": (20, 60),
        "forget_weight": (0.3, 1.0, 3.0),
    }

    def apply(self, run: Run) -> None:
        """Learn the vector, and leave a model that adds it.

        Raises:
            ExpungeError: The inputs are not one float tensor.
        """
        x = next(run.split.forget.batches(1, device=run.device)).x
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            raise ExpungeError(
                "ipru adds a vector to images or other inputs of one float tensor; for other inputs use delete or random_label."
            )
        known = requests_of(run.model)
        earlier = dict(run.model.named_parameters(recurse=False)).get(VECTOR)
        start = with_forget_vector(run.model, torch.zeros_like(x[0]) if earlier is None else earlier)
        shared = {f.name for f in fields(_Vector)} & {f.name for f in fields(self)} - {"paper"}
        method = _Vector(**{k: getattr(self, k) for k in shared}, weight_decay=0.0, max_drop=100.0)
        trainable = {n: p.requires_grad for n, p in run.model.named_parameters()}
        options: dict[str, Any] = {"seed": run.seed, "compute": run.compute, "on_row": run.on_row}
        with warnings.catch_warnings():
            # a vector that stays is reported by the whole run, as an unchanged model
            warnings.simplefilter("ignore", RuntimeWarning)
            # the request is that of the whole run
            inner = execute(remember_requests(start, ()), run.split, method, run.task, **options)
        for name, parameter in inner.model.named_parameters():
            parameter.requires_grad_(trainable.get(name, True))
        run.model = remember_requests(inner.model, known)
        if inner.ended in ("diverged", "unchanged"):
            run.ended, run.status, run.taken_back = inner.ended, inner.status, inner.taken_back
        run.memo["norm"] = float(run.model.get_parameter(VECTOR).detach().norm())

    def details(self, run: Run) -> dict[str, Any]:
        """Return the length of the vector."""
        return {"ipru": {"norm": run.memo["norm"]}}

    def problems(self) -> list[str]:
        limits = {"epochs": 1, "batch_size": 1, "lr": 0, "forget_weight": 0}
        return [
            f"{name} is {getattr(self, name)}; it must be at least {low}."
            for name, low in limits.items()
            if getattr(self, name) < low
        ]
