"""Everything that needs a GPU, in pieces of minutes that go on where the last one ended: `make bench-gpu` until it says done.

    python benchmarks/gpu.py [--minutes 8.5] [--parts grid floor ddpm] [--jobs 3]

`grid` is benchmarks/grids/gpu_cifar10_resnet18.toml, `floor` the time over the arithmetic floor, `ddpm` the diffusion model.
A piece ends after its minutes and what cannot be stopped takes: of the grid and the diffusion model a run without epochs, at
most about one minute more; of `floor` a whole run, of which those of Retrain are the longest.
One process does not fill a large GPU with networks of this size, so the grid runs `--jobs` side by side: its table says so,
and its seconds are those of a shared GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cyclopts

from expunge.bench.grid import read_grid

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A command that takes the minutes left as its last argument, and whether it has done its work."""

    command: list[str]
    done: Callable[[], bool]
    least: float = 1.0  # minutes under which it is not begun


def main(
    minutes: float = 8.5,
    parts: tuple[str, ...] = ("grid", "floor", "ddpm"),
    jobs: int = 3,
    device: str = "cuda",
    grid: Path = HERE / "grids/gpu_cifar10_resnet18.toml",
    out: Path = HERE / "cache",
    results: Path = HERE / "results",
) -> None:
    """See the head of this file."""
    known = every_part(grid, out, results, device, jobs)
    if unknown := [p for p in parts if p not in known]:
        raise SystemExit(f"there is no part {', '.join(unknown)}; known: {', '.join(known)}.")
    end = time.time() + 60 * minutes
    for name in parts:
        part = known[name]
        if part.done():
            print(f"{name}: done", flush=True)
            continue
        left = (end - time.time()) / 60
        if left < min(part.least, 0.9 * minutes):  # a piece that has no more than this is begun at its start
            break
        print(f"{name}: {left:.1f} minutes are left", flush=True)
        code = subprocess.run([sys.executable, *part.command, "--minutes", f"{left:.3f}"]).returncode
        if code and time.time() < end:
            raise SystemExit(code)  # it failed, and not because its time was over
        if not part.done():
            break
    left_over = [name for name in parts if not known[name].done()]
    print(f"still to do: {', '.join(left_over)}; give the same command again" if left_over else "all is done")


def every_part(grid: Path, out: Path, results: Path, device: str, jobs: int) -> dict[str, Part]:
    """The parts by name."""
    bench = ["-m", "expunge", "bench", str(grid), "--tune", "--device", device, "--jobs", str(jobs)]
    places = ["--out", str(out), "--results", str(results)]
    floor = [str(HERE / "speed/run.py"), "--parts", "floor", "--out", str(results)]
    pictures = out / "gpu_cifar10_ddpm"
    return {
        "grid": Part([*bench, *places], lambda: grid_done(grid, results)),
        "floor": Part(floor, lambda: (results / "speed_floor.json").exists(), least=5.0),
        "ddpm": Part(
            [str(HERE / "gpu_cifar10_ddpm.py"), "--out", str(pictures)],
            lambda: (pictures / "report.html").exists(),
        ),
    }


def grid_done(grid: Path, results: Path) -> bool:
    """Whether every job of the grid is in its result, with scores or with why it failed."""
    file = results / f"{grid.stem}.json"
    if not file.exists():
        return False
    found = json.loads(file.read_text(encoding="utf-8"))
    runs = sum(r["kind"] == "unlearn" for r in found["runs"])
    return runs + len(found["about"]["failed"]) >= len(read_grid(grid, tuned="validation").jobs)


if __name__ == "__main__":
    app = cyclopts.App(default_parameter=cyclopts.Parameter(consume_multiple=True))
    app.default(main)
    app()
