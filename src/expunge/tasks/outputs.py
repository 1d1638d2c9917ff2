"""Find the tensor that a task needs in what a model returns: a tensor, an object, a dict or a tuple."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..errors import ModelError


def tensor_in(output: Any, name: str, fits: Callable[[Tensor], bool], shape: str) -> Tensor:
    """Return the tensor in the output of a model.

    It is the output itself, its attribute or entry `name`, or the only tensor of the right shape in a dict, list or tuple.

    Args:
        output: What the model returned.
        name: Usual name of the tensor, such as "logits".
        fits: Whether a tensor has the right shape.
        shape: The right shape in words, for the message.

    Raises:
        ModelError: There is no such tensor, or more than one.
    """
    if isinstance(output, Tensor):
        return output
    entries = _entries(output)
    value = entries[name] if name in entries else getattr(output, name, None)
    if isinstance(value, Tensor):
        return value
    tensors = {k: v for k, v in entries.items() if isinstance(v, Tensor)}
    fitting = [v for v in tensors.values() if fits(v)]
    if len(fitting) == 1:
        return fitting[0]
    shapes = ", ".join(f"{k}: {tuple(v.shape)}" for k, v in tensors.items()) or "none"
    which = f"{len(fitting)} of its tensors have" if fitting else "none of its tensors has"
    raise ModelError(
        f"the model returns a {type(output).__name__}, and {which} the shape of the {name}, {shape} (tensors: {shapes}); return "
        f"one tensor, or an object with `.{name}`."
    )


def logits_in(output: Any, num_classes: int) -> Tensor:
    """Return the logits (B, K) in the output of a classifier. Raises `ModelError` if they cannot be told from other tensors."""
    return tensor_in(
        output, "logits", lambda t: t.ndim == 2 and t.shape[1] == num_classes, f"(B, {num_classes})"
    )


def _entries(output: Any) -> dict[Any, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    return dict(enumerate(output)) if isinstance(output, list | tuple) else {}
