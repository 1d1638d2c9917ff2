"""Tensors of a checkpoint that no model can be trained from: without values, in another layout, or not finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ..torch_utils.finite import all_finite
from .checkpoint_contents import is_extra

# tensors that a message shows
SHOWN = 4


def unusable_tensors(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {name: what it is, and what to do} of the tensors whose values a model cannot take."""
    return {k: text for k, v in state.items() if (text := _unusable(v))}


def value_problems(state: Mapping[str, Tensor]) -> list[str]:
    """Return what is wrong with the values of a state, one sentence each."""
    unusable = unusable_tensors(state)
    problems = [f"`{k}` is {text}." for k, text in list(unusable.items())[:SHOWN]]
    if len(unusable) > SHOWN:
        problems.append(f"{len(unusable) - SHOWN} more tensors have no dense values.")
    if not_finite := [k for k, v in state.items() if k not in unusable and not _is_finite(v)]:
        problems.append(
            f"{len(not_finite)} tensors contain NaN or infinity (first: {not_finite[:SHOWN]}); use a checkpoint without."
        )
    return problems


def conversion_problems(
    expected: Mapping[str, Any], state: Mapping[str, Tensor], parameters: Collection[str]
) -> list[str]:
    """Return which tensors lose their values in the types of a model, one sentence per pair of types.

    A narrower type of floats rounds, which is allowed.

    Args:
        expected: The state of the model.
        state: The state of the file.
        parameters: Names of the parameters of the model. Whole numbers for them are those of a quantized model, which have
            another scale.
    """
    lost: dict[tuple[torch.dtype, torch.dtype], list[str]] = {}
    for name, own in expected.items():
        saved = state.get(name)
        if not isinstance(own, Tensor) or saved is None or saved.dtype == own.dtype or _unusable(saved):
            continue
        is_code = name in parameters and own.is_floating_point() and not saved.is_floating_point()
        if is_code or _is_lost(saved, own.dtype):
            lost.setdefault((saved.dtype, own.dtype), []).append(name)
    return [
        f"{len(names)} tensors are {saved}, and in the model they are {own}, which cannot hold their values (first: "
        f"{names[:SHOWN]}); use a checkpoint with the types of the model."
        for (saved, own), names in lost.items()
    ]


def _is_lost(saved: Tensor, dtype: torch.dtype) -> bool:
    if dtype.is_complex:
        return False
    if saved.is_complex():
        return True
    if dtype.is_floating_point and saved.is_floating_point():
        return _is_finite(saved) and not _is_finite(saved.to(dtype))
    return not torch.equal(saved.to(dtype).to(saved.dtype), saved)


def extra_state_problems(expected: Mapping[str, Any]) -> list[str]:
    """Return the problem of a model whose extra state is no tensor: it has no hash, and safetensors cannot hold it."""
    names = [k for k, v in expected.items() if is_extra(k) and not isinstance(v, Tensor)]
    return [
        f"`get_extra_state` of the model returns a {type(expected[name]).__name__} for `{name}`, which has no hash; return a "
        "tensor, or use buffers."
        for name in names[:SHOWN]
    ]


def _unusable(tensor: Tensor) -> str:
    """What a tensor without dense values is, and what to do; else an empty text."""
    if tensor.is_quantized:
        return "quantized; save the model before its quantization, or call dequantize()"
    if tensor.is_nested:
        return "a nested tensor; save one dense tensor per name"
    if tensor.layout != torch.strided:
        return f"sparse ({tensor.layout}); save it dense, with to_dense()"
    if tensor.device.type == "meta":
        return "on the meta device and has no values; load the parameters before you save the model"
    return ""


def _is_finite(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) or bool(all_finite(tensor))
