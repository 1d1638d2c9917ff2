"""Functions that make the models of a comparison: by a spec, or by a function of the user."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import ModelError
from ..imports import call_factory
from ..methods._fresh import SAME_FOR_EACH_SEED
from ..models import build
from ..torch_utils.module_state import same_parameters
from ..torch_utils.random_state import torch_seeded


@dataclass(frozen=True, eq=False)
class NamedFactory:
    """Makes the model of a spec on its device."""

    spec: str
    num_classes: int
    shape: tuple[int, ...]
    device: str

    def __call__(self) -> nn.Module:
        return build(self.spec, num_classes=self.num_classes, shape=self.shape).to(self.device)


@dataclass(frozen=True, eq=False)
class OwnFactory:
    """Makes a model by a function, which gets whichever of `num_classes`, `shape` and `in_channels` it names.

    Raises:
        ModelError: The function fails, needs other arguments, or returns no model.
    """

    function: Callable[..., nn.Module]
    num_classes: int
    shape: tuple[int, ...]
    device: str

    @property
    def name(self) -> str:
        """The name of the function, for messages."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return "the function of model" if "<lambda>" in name else name

    def __call__(self) -> nn.Module:
        channels = self.shape[0] if self.shape else 1
        arguments = {"num_classes": self.num_classes, "shape": self.shape, "in_channels": channels}
        model = call_factory(self.function, self.name, arguments, ModelError)
        if not isinstance(model, nn.Module):
            raise ModelError(f"{self.name} returned {type(model).__name__}; it must return an nn.Module.")
        return model.to(self.device)

    def checked(self) -> OwnFactory:
        """Return the factory after two calls. Warn if two seeds give the same parameters.

        Raises:
            ModelError: The function returns an unfinished model, or the same one twice.
        """
        _check(self, self.name)
        return self


def _check(make: OwnFactory, name: str) -> None:
    models = []
    for seed in (0, 1):
        with torch_seeded(seed):
            models.append(make())
    if lazy := [n for n, p in models[0].named_parameters() if is_lazy(p)]:
        raise ModelError(
            f"{name} returned a model whose parameters have no shape yet (first: {lazy[:3]}); run a batch through it in the "
            "function, or replace the lazy layers by layers with sizes."
        )
    if not any(True for _ in models[0].parameters()):
        raise ModelError(f"{name} returned a model without parameters; return a model that can be trained.")
    if models[0] is models[1] or _first(models[0]) is _first(models[1]):
        raise ModelError(
            f"{name} returned the same model twice, so the reference may start from a trained model; make a new model at each call."
        )
    if same_parameters(*models):
        warnings.warn(
            f"{name} {SAME_FOR_EACH_SEED}",
            RuntimeWarning,
            stacklevel=5,
        )


def _first(model: nn.Module) -> nn.Parameter:
    return next(model.parameters())
