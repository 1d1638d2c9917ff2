"""Choose the parameters of the denoiser that train: its own, or LoRA adapters on its attention layers."""

from __future__ import annotations

import re
from typing import Any, Literal

from ..errors import MissingExtra, ModelError, raise_all
from .cross_attention import text_layers
from .prompted import Prompted

Weights = Literal["full", "cross_attention", "not_cross_attention"]


def choose_weights(model: Prompted, which: Weights) -> int:
    """Let only some parameters of the denoiser train. The others need no gradient and no optimizer state.

    Args:
        model: The denoiser with its conditions.
        which: The parameters that train. Cross-attention is every layer that attends to the text (`text_layers`).

    Returns:
        The number of trainable parameters.

    Raises:
        ModelError: If the model has no such parameters, as a DiT has no cross-attention.
    """
    chosen = _chosen(model, which)
    raise_all(_none_chosen(chosen, which), ModelError)
    count = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
        count += parameter.numel() * parameter.requires_grad
    return count


def weights_problems(model: Prompted, which: Weights) -> list[str]:
    """Return the reasons why these parameters cannot train."""
    return _none_chosen(_chosen(model, which), which)


def _none_chosen(chosen: set[str], which: Weights) -> list[str]:
    return [] if chosen else [f"the model has no {which.replace('_', ' ')} weights; use weights='full'."]


def _chosen(model: Prompted, which: Weights) -> set[str]:
    """Return the names of the parameters that train."""
    names = {name for name, _ in model.named_parameters()}
    if which == "full":
        return names
    layers = tuple(f"{layer}." for layer in text_layers(model))
    inside = {name for name in names if layers and name.startswith(layers)}
    # without cross-attention there is no choice
    return inside if which == "cross_attention" else names - inside if inside else set()


def add_lora(model: Prompted, rank: int, weights: Weights = "full") -> int:
    """Freeze the denoiser and add LoRA adapters to its attention layers.

    Args:
        model: The denoiser with its conditions.
        rank: Rank of the adapters.
        weights: "full" adapts all attention layers, "cross_attention" only cross-attention.

    Returns:
        The number of trainable parameters.

    Raises:
        ModelError: If the rank is below 1 or `weights` is "not_cross_attention".
        MissingExtra: If peft is not installed.
    """
    raise_all(lora_problems(rank, weights), ModelError)
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtra("LoRA", "diffusion") from error
    denoiser: Any = model.denoiser
    layers = r"(to_k|to_q|to_v|to_out\.0|add_k_proj|add_v_proj)"
    pattern = rf".*\.{layers}"
    if weights == "cross_attention":
        names = [re.escape(name.removeprefix("denoiser.")) for name in text_layers(model)]
        pattern = rf"({'|'.join(names)})\.{layers}"
    denoiser.requires_grad_(False)
    # lora_alpha = rank means scale 1: the file of the adapters cannot store another scale
    denoiser.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=pattern))
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    # the adapters train in float32 even if the frozen parameters are bfloat16
    for parameter in trained:
        parameter.data = parameter.data.float()
    return sum(p.numel() for p in trained)


def lora_problems(rank: int, weights: Weights) -> list[str]:
    """Return the reasons why LoRA cannot train with this rank on these parameters."""
    problems = []
    if rank < 1:
        problems.append(
            f"the rank of LoRA is {rank}; it must be at least 1. To train without LoRA, leave it out."
        )
    if weights == "not_cross_attention":
        problems.append(
            "LoRA adapts only attention layers, so it cannot train not_cross_attention; "
            "use weights full or cross_attention with LoRA, or leave LoRA out."
        )
    return problems
