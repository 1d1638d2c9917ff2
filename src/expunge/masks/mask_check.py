"""Check that a mask fits a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import MaskError, raise_all
from .freezer import local_part


def masked_part(model: nn.Module, mask: Mapping[str, Tensor]) -> nn.Module:
    """Return the module whose parameters the mask names: the model, or the one inside of wrappers without parameters of their own.

    Such wrappers are those of `accelerator.prepare`, DistributedDataParallel and torch.compile, and a LightningModule with one model.
    If the mask fits none, the model is returned.
    """
    total = len(list(model.parameters()))
    for module in model.modules():
        names = [name for name, _ in module.named_parameters()]
        if len(names) == total and set(names) == set(mask):
            return module
    return model


def check_mask(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Check that a mask fits a model.

    Raises:
        MaskError: Names, shapes or types differ. Lists every problem.
    """
    parameters = {n: local_part(p.detach()) for n, p in model.named_parameters()}
    name_problems = (
        ("lacks", [n for n in parameters if n not in mask]),
        ("has unknown", [n for n in mask if n not in parameters]),
    )
    problems = [
        f"the mask {verb} {len(names)} names (first: {names[:3]}); make it from this model."
        for verb, names in name_problems
        if names
    ]
    problems += [
        f"{n} has shape {tuple(m.shape)} in the mask and {tuple(parameters[n].shape)} in the model; make the mask "
        "from this model."
        for n, m in mask.items()
        if n in parameters and m.shape != parameters[n].shape
    ]
    problems += [
        f"{n} is {m.dtype} in the mask; give a bool tensor, true where the parameter may move."
        for n, m in mask.items()
        if m.dtype != torch.bool
    ]
    raise_all(problems, MaskError)
