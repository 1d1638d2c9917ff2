"""Tensors of a checkpoint that no model can be trained from: without values, in another layout, or not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

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
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # torch has no isfinite for the types of one byte
    return bool((tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all())
