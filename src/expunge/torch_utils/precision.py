"""Mixed precision: which type a device computes in, and whether it gains from it."""

from __future__ import annotations

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
