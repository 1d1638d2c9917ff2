"""Clocks that stand a busy machine: what is compared runs turn by turn in one process, and the ratio is taken turn by turn."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def beside(parts: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 1) -> dict[str, dict[str, Any]]:
    """Seconds of each part: {"wall": summary, "cpu": summary}, `rounds` turns of all parts after `warm` uncounted ones."""
    taken: dict[str, dict[str, list[float]]] = {n: {"wall": [], "cpu": []} for n in parts}
    for turn in range(warm + rounds):
        for name, part in parts.items():
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            part()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if turn >= warm:
                taken[name]["wall"].append(wall)
                taken[name]["cpu"].append(cpu)
    return {n: {clock: summary(v) for clock, v in both.items()} for n, both in taken.items()}


def summary(values: list[float]) -> dict[str, Any]:
    """Median, lowest and highest, and the values themselves."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "all": values}


def ratio(over: dict[str, Any], under: dict[str, Any], clock: str = "wall") -> dict[str, Any]:
    """How many times as long `over` took as `under`, turn by turn."""
    return summary([a / b for a, b in zip(over[clock]["all"], under[clock]["all"], strict=True)])


class PeakMemory:
    """The most memory that the process had inside the block above what it had on entry, in bytes (Linux)."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self.before, self.most, self.done = _resident(), 0, threading.Event()
        self.watch = threading.Thread(target=self._look)
        self.watch.start()
        return self

    def _look(self) -> None:
        while not self.done.wait(0.002):
            self.most = max(self.most, _resident() - self.before)

    def __exit__(self, *_: object) -> None:
        self.most = max(self.most, _resident() - self.before)
        self.done.set()
        self.watch.join()


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
