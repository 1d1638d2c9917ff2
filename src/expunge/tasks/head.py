"""Find the head of a classifier: the linear layer whose output is the logits, seen in a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..torch_utils.compiled import uncompiled

Named = dict[str, nn.Linear]


def candidates(model: nn.Module, num_classes: int) -> Named:
    """Return the linear layers with `num_classes` outputs, by name, in the order of registration.

    Raises:
        ModelError: The model has no such layer.
    """
    layers = {
        n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == num_classes
    }
    if not layers:
        raise ModelError(
            f"the model has no linear layer with {num_classes} outputs, so there is no head and no "
            "features before it; use a method that needs neither, or end the model with nn.Linear."
        )
    return layers


def named_head(model: nn.Module, num_classes: int, name: str) -> tuple[str, nn.Linear]:
    """Return the candidate `name`. Raises `ModelError` if the model has no such linear layer."""
    layers = candidates(model, num_classes)
    if name not in layers:
        raise ModelError(
            f"the model has no linear layer '{name}' with {num_classes} outputs; those layers are {_listed(layers)}. Name one "
            "of them as head_name."
        )
    return name, layers[name]


def only_head(model: nn.Module, num_classes: int) -> tuple[str, nn.Linear]:
    """Return the only candidate. Raises `ModelError` if there are several, because only a forward pass tells them apart."""
    layers = candidates(model, num_classes)
    if len(layers) > 1:
        raise ModelError(
            f"the model has {len(layers)} linear layers with {num_classes} outputs ({_listed(layers)}), and which of them "
            f"produces the logits is unknown; {_how_to_name(layers, num_classes)}, or give samples for a forward pass "
            "(`task.with_head(model, samples)`)."
        )
    return next(iter(layers.items()))


def traced_head(model: nn.Module, num_classes: int, logits: Callable[[], Tensor]) -> str:
    """Return the name of the linear layer whose output is the logits.

    A constant per sample (log-softmax) and one positive factor (a temperature) may lie between both.

    Args:
        model: The model, in eval mode.
        num_classes: Number of classes K.
        logits: Runs one forward pass and returns the logits (B, K).

    Raises:
        ModelError: No layer or more than one produces the logits. Lists the candidates.
    """
    layers = candidates(model, num_classes)
    with _recorded(layers) as outputs, uncompiled():
        result = logits()
    for is_logits in (_is_view, _is_proportional):
        names = [n for n, seen in outputs.items() if any(is_logits(o, before, result) for o, before in seen)]
        if len(names) == 1:
            return names[0]
        if names:
            break
    reason = (
        "more than one of them does"
        if names
        else "the logits are computed from their outputs or by another layer"
    )
    raise ModelError(
        f"no single linear layer with {num_classes} outputs ({_listed(layers)}) produces the logits: {reason}; "
        f"{_how_to_name(layers, num_classes)}, or use a method that needs no head."
    )


def check_takes_part(name: str, head: nn.Linear, logits: Callable[[], Tensor]) -> None:
    """Raise `ModelError` if the logits do not depend on the output of `head`."""
    before = logits()
    # another shift for each class, so that the probabilities change too
    shift = 1.0 + torch.arange(head.out_features, device=before.device)
    handle = head.register_forward_hook(lambda _module, _inputs, output: output + shift.to(output.dtype))
    try:
        with uncompiled():
            after = logits()
    finally:
        handle.remove()
    if torch.equal(before, after):
        raise ModelError(
            f"the logits do not depend on the linear layer '{name}', so an edit of it would change nothing; name another layer "
            "as head_name."
        )


@contextmanager
def _recorded(layers: Named) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Yield {name: [(output, copy of the output)]} of the layers' calls inside the block.

    The copy shows whether the model changes the output in place.
    """
    outputs: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def hook(name: str) -> Callable[[Any, Any, Tensor], None]:
        return lambda _module, _inputs, output: outputs[name].append((output, output.detach().clone()))

    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _is_view(output: Tensor, before: Tensor, logits: Tensor) -> bool:
    same_memory = output.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr()
    # NaN of a broken sample is no change
    unchanged = torch.equal(output.nan_to_num(), before.nan_to_num())
    return same_memory and output.dtype == logits.dtype and unchanged


def _is_proportional(output: Tensor, before: Tensor, logits: Tensor) -> bool:
    if before.numel() != logits.numel():
        return False
    # without what is constant per sample
    mine, theirs = (
        t.double().nan_to_num() - t.double().nan_to_num().mean(1, keepdim=True)
        for t in (before.reshape(logits.shape), logits)
    )
    scale = float((mine * theirs).sum() / (mine * mine).sum().clamp_min(1e-300))
    widest = max(torch.finfo(t.dtype).eps for t in (before, logits))
    close = (scale * mine - theirs).abs().max() <= 100 * widest * logits.double().nan_to_num().abs().max()
    return scale > 0 and bool(close)


def _listed(layers: Named) -> str:
    return ", ".join(f"'{name}'" for name in layers)


def _how_to_name(layers: Named, num_classes: int) -> str:
    return f"name it: Classification(num_classes={num_classes}, head_name='{list(layers)[-1]}')"
