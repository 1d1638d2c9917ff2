"""`expunge demo` and `expunge demo-generation`: the flags of the two demos, without their heavy imports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ..errors import ExpungeError
from .flags import SPLIT, SplitFlags
from .invocation import command_line


def demo(
    *,
    data: str = "digits",
    out: Path = Path("demo"),
    seeds: int = 1,
    split: Annotated[SplitFlags, SPLIT] = SplitFlags(),
) -> None:
    """Run the whole job on real data in minutes, and write a report.

    Trains an original and a retrained model, unlearns with several methods, and compares them.

    Args:
        data: digits, fashion-mnist or cifar10. The last two need a folder: write fashion-mnist:FOLDER, or set EXPUNGE_DATA.
        out: Folder for report.html, checkpoints and records.
        seeds: Number of seeds. Each has its own original and retrained model.
        split: What to forget. Without a forget flag: class 3.
    """
    from .demo import demo as run

    run(data=data, split=split, out=out, seeds=seeds, command=command_line())


def demo_generation(
    *,
    data: str = "digits",
    forget: int = 3,
    out: Path = Path("demo/generation"),
    methods: tuple[str, ...] = (),
    per_class: int = 50,
    attacks: bool = True,
    seed: int = 0,
) -> None:
    """Unlearn a class from a diffusion model of real images in minutes, and write a report.

    Args:
        data: digits or fashion-mnist. The latter needs a folder: write fashion-mnist:FOLDER, or set EXPUNGE_DATA.
        forget: The class to forget, by number.
        out: Folder for report.html, checkpoints and records.
        methods: Runs to make. By default salun with its three controls, esd, concept_ablation and gradient_ascent.
        per_class: Number of images to sample per class.
        attacks: Try to bring the class back, by a learned condition and by relearning.
        seed: Seed of everything random.
    """
    from .demo_generation import RUNS, SHOWN
    from .demo_generation import demo_generation as run

    if unknown := [name for name in methods if name not in RUNS]:
        raise ExpungeError(f"there are no runs {unknown}; known: {', '.join(RUNS)}.")
    run(
        data=data,
        forget=forget,
        out=out,
        methods=methods or SHOWN,
        per_class=per_class,
        attacks=attacks,
        seed=seed,
        command=command_line(),
    )
