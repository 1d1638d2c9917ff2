"""The commands of generation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import ExpungeError


def demo_generation(*, data: str = "digits", forget: int = 3, out: Path = Path("demo-generation"), methods: tuple[str, ...] = (),
                    per_class: int = 50, attacks: bool = True, seed: int = 0) -> None:
    """Forget a class from a diffusion model of real images, in minutes: before and after, table and report.

    Args:
        data: digits or fashion-mnist (the latter with :FOLDER, or found in EXPUNGE_DATA).
        forget: The class to forget.
        out: Folder for report.html, checkpoints and records.
        methods: Runs to make; by default salun, its random and inverted masks, esd, concept_ablation, gradient_ascent.
        per_class: Images drawn of each class.
        attacks: Try to bring the class back, by a learned condition and by relearning.
        seed: Seed of everything random.
    """
    from .cli import command_line
    from .demo_generation import RUNS, SHOWN, demo_generation as run

    if unknown := [m for m in methods if m not in RUNS]:
        raise ExpungeError(f"there are no runs {unknown}; known: {', '.join(RUNS)}.")
    run(data=data, forget=forget, out=out, methods=methods or SHOWN, per_class=per_class, attacks=attacks, seed=seed, command=command_line())


COMMANDS: dict[str, Callable[..., Any]] = {"demo-generation": demo_generation}
