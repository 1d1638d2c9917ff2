"""Mixed precision: which type a device computes in, and whether it gains from it. `amp` is the field of `Compute`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

# any of these instruction sets multiplies bfloat16 numbers: AMX and AVX-512 (x86), BF16 (ARM)
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16. A processor without them emulates it and is much slower.

    Example:
        >>> computes_bfloat16(torch.device("meta"))
        False
    """
    if device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        return any(bool(abilities.get(name)) for name in BFLOAT16)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def autocast_type(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the type that autocast computes in on a device, None for full precision.

    Args:
        amp: "off", "auto", "bf16" or "fp16". "auto" is bfloat16 where the device has instructions for it.
        device: The device.

    Example:
        >>> autocast_type("bf16", torch.device("cpu")), autocast_type("off", torch.device("cpu"))
        (torch.bfloat16, None)
    """
    if amp == "auto":
        amp = "bf16" if computes_bfloat16(device) else "off"
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)


def autocast(amp: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of mixed precision for work on a device.

    Args:
        amp: As for `autocast_type`.
        device: The device.
    """
    kind = autocast_type(amp, device)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def precision_note(amp: str, device: torch.device) -> tuple[str, bool]:
    """Return what the record says of the precision, "" for nothing, and whether the user should be warned of it."""
    fast = computes_bfloat16(device)
    if amp == "auto":
        return f"amp auto: {'bfloat16 autocast' if fast else 'float32'}", False
    if amp == "bf16" and device.type == "cpu" and not fast:
        return (
            "this processor has no bfloat16 instructions, so amp bf16 takes several times longer than float32; use amp auto",
            True,
        )
    return "", False
