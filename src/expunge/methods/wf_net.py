"""WF-Net: learn for every class which filters to turn down so that the class is forgotten, all classes in one round.

    gates A of each layer (K, filters) in [0, 1]; with row c, filter o gives A[c, o] times its output
    loss = CE(x, y) with a random row c other than y  +  KL(q || p) with row y

q is the output of the original without the class y (see `delete`). The weights stay as they are. A request for a class multiplies
its row into the weights. `FilteredModel` keeps all rows and switches between them at run time.

Source: Poppi, Sarto, Cornia, Baraldi, Cucchiara, "Multi-Class Unlearning for Image Classification via Weight Filtering", IEEE
Intelligent Systems 2024, arXiv:2304.02049. Only the abstract could be read.

Published: a matrix of gates per layer with a row for each class, learned in one round over all classes, for convolutional and
transformer networks; the row of a class makes the network unlearn it.

Ours, everything else:
- Both terms of the loss, and the settings. In each step, half of the samples use the row of their own class.
- Gates start at 1, so that the network starts as the original, and are clipped to [0, 1].
- Gates are on the outputs of convolutions and linear layers except the head, whose gates would only hide the class. A model
  without any gets them on its layer norms.
- Batch norm uses its running statistics while gates are learned. It would undo them otherwise.

Cost: One training of the gates on both sets for all classes together; a request then costs one product for each
layer.

When not to use it: Only one class will ever be forgotten: learning gates for all classes is wasted. It serves
whole classes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.batch import Batch, to_device
from ..data.past_requests import remember_requests
from ..errors import ModelError
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Run
from ._filtered_model import CONVOLUTIONS, FilteredModel
from .delete import decoupled_loss


def gated_layers(model: nn.Module, head: str) -> dict[str, nn.Module]:
    """Return the layers that get gates, by name: those whose parameters all may change.

    Args:
        model: The model.
        head: Name of the last linear layer, which gets none.

    Raises:
        ModelError: The model has no such layer.
    """
    for kinds in ((nn.Linear, *CONVOLUTIONS), (nn.LayerNorm,)):
        layers: dict[str, nn.Module] = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, kinds) and name != head and _owns(module)
        }
        if layers:
            return layers
    raise ModelError(
        "wf_net turns down filters of convolutions and linear layers before the head, and the model has none that may change; "
        "use delete."
    )


def _owns(module: nn.Module) -> bool:
    own = dict(module.named_parameters(recurse=False))
    return "weight" in own and all(p.requires_grad for p in own.values())


@dataclass(frozen=True, kw_only=True)
class _Gates(GradientMethod):
    """Learn the gates of a `FilteredModel`, whose weights are frozen."""

    forget_weight: float = 1.0

    schedule: ClassVar = "mixed"

    def train_mode(self, run: Run) -> None:
        run.model.eval()

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        batch, model = Batch.join(*[b for b in (forget, retain) if b is not None]), run.model
        own = to_device(torch.rand(len(batch), generator=run.process_generator("rows")) < 0.5, batch.y.device)
        other = run.task.other_labels(batch.y, run.process_generator("rows"))
        rows = torch.where(own, batch.y, other)

        def filtered(*inputs: Any, **named: Any) -> Any:
            return model(*inputs, per_sample=rows, **named)

        student = run.task.logits(filtered, batch.x)  # type: ignore[arg-type]
        with torch.no_grad():
            teacher = run.task.logits(run.original, batch.x)
        lost = self.forget_weight * decoupled_loss(teacher, student, batch.y)
        return torch.where(own, lost, F.cross_entropy(student, batch.y, reduction="none")).mean()

    @torch.no_grad()
    def after_step(self, run: Run, optimizer: Optimizer) -> None:
        for parameter in run.model.parameters():
            if parameter.requires_grad:
                parameter.clamp_(0, 1)


@dataclass(frozen=True, kw_only=True)
class WFNet(Method):
    """Learn gates that forget any class, and multiply those of the forgotten classes into the weights (WF-Net).

    Args:
        epochs: Number of passes over the training set.
        lr: Learning rate of the gates.
        batch_size: Samples per step.
        optimizer: Optimizer that takes the steps.
        forget_weight: Weight of a sample with the row of its own class, relative to one with another row.
    """

    epochs: int = 10
    lr: float = 0.03
    batch_size: int = 256
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    forget_weight: float = 1.0

    needs: ClassVar = ("logits", "classes", "other_labels", "head")
    scenarios: ClassVar = ("class",)
    search: ClassVar = {
        "lr": (0.003, 0.01, 0.03, 0.1, 0.3),
        "epochs": (10, 30, 90),
        "forget_weight": (1.0, 3.0),
    }

    def apply(self, run: Run) -> None:
        """Learn the gates, and multiply those of the forgotten classes into the weights in place."""
        layers = gated_layers(run.model, run.task.head(run.model)[0])
        ones = {
            n: torch.ones(
                run.task.num_classes, _filters(layer), device=run.device, dtype=_weight(layer).dtype
            )
            for n, layer in layers.items()
        }
        # evaluations in between then see the model as it will be
        start = FilteredModel(run.model, ones).switch(*run.split.forget_classes)
        trainable = {n: p.requires_grad for n, p in run.model.named_parameters()}
        run.model.requires_grad_(False)
        settings = {k: getattr(self, k) for k in ("epochs", "lr", "batch_size", "optimizer", "forget_weight")}
        method = _Gates(**settings, weight_decay=0.0, max_drop=100.0)
        # the request is that of the whole run
        start = remember_requests(start, ())
        inner = execute(
            start, run.split, method, run.task, seed=run.seed, compute=run.compute, on_row=run.on_row
        )
        for name, parameter in run.model.named_parameters():
            parameter.requires_grad_(trainable[name])
        learned: Any = inner.model
        if inner.ended == "diverged":
            run.ended, run.status, run.taken_back = inner.ended, inner.status, True
        run.memo["gates"] = {n: g.detach() for n, g in zip(learned.layers, learned.gates, strict=True)}
        with torch.no_grad():
            for name, gate in learned.values(torch.tensor(run.split.forget_classes)).items():
                for parameter in layers[name].parameters(recurse=False):
                    parameter.mul_(gate.view(-1, *[1] * (parameter.ndim - 1)).to(parameter))

    def details(self, run: Run) -> dict[str, Any]:
        """Return the mean gate of the forgotten classes in each layer."""
        rows = list(run.split.forget_classes)
        return {"wf_net": {"mean_gates": {n: float(g[rows].mean()) for n, g in run.memo["gates"].items()}}}

    def problems(self) -> list[str]:
        limits = {"epochs": 1, "batch_size": 1, "lr": 0, "forget_weight": 0}
        return [
            f"{name} is {getattr(self, name)}; it must be at least {low}."
            for name, low in limits.items()
            if getattr(self, name) < low
        ]


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight")


def _filters(layer: nn.Module) -> int:
    return len(_weight(layer))
