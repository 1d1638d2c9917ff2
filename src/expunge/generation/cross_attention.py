"""Find the layers of a denoiser that attend to the text, by calling it once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..torch_utils.module_state import evaluating
from .prompted import Prompted


@torch.no_grad()
def text_layers(model: Prompted) -> tuple[str, ...]:
    """Return the names of the attention layers that get the text embeddings in a call, in the order of the modules.

    The name of a layer does not tell: `attn2` can be self-attention, and `attn1` or a layer without either name can attend
    to the text. The latents of the call are as small as the network allows.

    Args:
        model: The denoiser with its conditions. A DiT has no text.
    """
    if model.prompts is None:
        return ()
    # layers keep their names, also in copies of the model and beside adapters
    if model.text_layers is None:
        model.text_layers = tuple(_find(model))
    return model.text_layers


def _find(model: Prompted) -> list[str]:
    found: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(partial(_note, found, name), with_kwargs=True)
        for name, module in model.named_modules()
        if _is_attention(module)
    ]
    try:
        with evaluating(model):
            _call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name, _ in model.named_modules() if name in found]


def _is_attention(module: nn.Module) -> bool:
    """Return whether a module is one attention layer of diffusers: it makes keys of its own."""
    return hasattr(module, "to_k")


def _note(found: set[str], name: str, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    """Keep the name of a layer that is called with text embeddings, by keyword or by position."""
    if kwargs.get("encoder_hidden_states") is not None or (len(args) > 1 and isinstance(args[1], Tensor)):
        found.add(name)


def _call(model: Prompted) -> None:
    """Call the denoiser once on the smallest latents that all its levels can halve."""
    config: Any = model.denoiser.config
    side = 2 ** len(config.block_out_channels)
    parameter = next(model.denoiser.parameters())
    x = torch.zeros(1, config.in_channels, side, side, device=parameter.device)
    zero = torch.zeros(1, dtype=torch.long, device=parameter.device)
    model(x, zero, zero)
