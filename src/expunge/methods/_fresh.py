"""Check that a factory makes models with fresh parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from ..torch_utils.module_state import same_parameters
from ..torch_utils.random_state import seed_torch
from ..training.run import Run

RETURN_NEW = "return a newly made model at each call, whose parameters have not seen the forget set."


def from_factory(run: Run) -> nn.Module:
    """Return a model from `run.factory`, which must fit the run's model and must not be a trained one.

    For a run that answers a request, the factory is called a second time. Torch's random state stays as after one call.

    Raises:
        ModelError: The factory fails, returns another architecture, the model that was passed in, its parameters, or the same
            model twice.
    """
    model = _made(run.factory)
    expected, given = _shapes(run.model), _shapes(model)
    if given != expected:
        different = sorted(k for k in {*expected, *given} if expected.get(k) != given.get(k))
        raise ModelError(
            f"factory returned a model of another architecture: {len(different)} tensors differ (first: {different[:3]}); return "
            "the architecture of the model that is passed in."
        )
    if run.split.answers_request and not isinstance(run.factory, GoOnFrom):
        _check_fresh(model, run)
    return model


@dataclass(frozen=True, eq=False)
class GoOnFrom:
    """A factory by which training goes on from the parameters of a model: an original, or a shard of an ensemble."""

    model: nn.Module

    def __call__(self) -> nn.Module:
        return self.model


def _check_fresh(model: nn.Module, run: Run) -> None:
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        seed_torch(run.seed + 1)
        second = _made(run.factory)
    if _share_memory(model, second):
        raise ModelError(f"factory returned the same model twice, which may be trained already; {RETURN_NEW}")
    if run.source is None:
        return
    if _share_memory(model, run.source):
        raise ModelError(f"factory returned the model that was passed in; {RETURN_NEW}")
    # a factory that seeds itself may have made the passed model, if that is untrained: then the seed decides nothing
    if getattr(run.factory, "seeded", False) or not _movable(model):
        return
    if same_parameters(model, run.source):
        raise ModelError(
            f"factory returned a model with exactly the parameters of the model that was passed in; {RETURN_NEW}"
        )


def _made(factory: Any) -> nn.Module:
    try:
        model = factory()
    except Exception as error:
        raise ModelError(
            f"factory failed: {type(error).__name__}: {error}; pass a function without arguments that returns an nn.Module."
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"factory returned {type(model).__name__}; pass a function without arguments that returns an nn.Module."
        )
    return model


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _share_memory(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models share a parameter that training moves."""
    places = {p.data_ptr() for p in _movable(one)} - {0}
    return any(p.data_ptr() in places for p in _movable(other))


def _movable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]
