"""Read and reset the peak memory: what a GPU's allocator counts, or on a CPU that of this process (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of the peak memory. It does nothing where the system offers no such measurement."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        # on Linux, 5 resets the peak memory of this process
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Return the peak memory since the measurement began, in bytes; None where it is unknown.

    It is the memory allocated on a GPU, or for a CPU that of this process (Linux).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
