"""Checks of flags that need no data and no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.split_settings import SplitSpec
from ..errors import ExpungeError

if TYPE_CHECKING:
    from ..tasks.task import Task
    from ..training.method import Method
    from ..training.run import Compute


def problems_of(*checks: Callable[[], object]) -> list[str]:
    """Return the problems of all checks that raise `ExpungeError`, each problem once."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except ExpungeError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return problems


def device_problems(name: str) -> list[str]:
    """Return one sentence if torch has no such device on this machine."""
    if _is_available(name):
        return []
    return [
        f"the device '{name}' is not available here; use cpu or one of torch's devices of this machine "
        "(cuda, cuda:1, mps)."
    ]


def _is_available(name: str) -> bool:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        return False
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


def scenario_of(flags: SplitSpec) -> str:
    """Return how the forget set of these flags is drawn, as `Split.scenario` will name it; "" where they name none."""
    if flags.forget_class:
        return "part of a class" if flags.class_share < 1 and flags.goal == "untrain" else "class"
    names = {"forget_share": "random", "forget_ids": "ids", "forget_group": "group"}
    return next((name for field, name in names.items() if getattr(flags, field) not in (None, ())), "")


def run_problems(method: Method, task: Task, compute: Compute, device: str, seed: int) -> list[str]:
    """Return what is wrong with settings, task, computation or seed of a run, one sentence each."""
    import torch

    from ..training.execute import check_run

    problems = problems_of(lambda: check_run(method, None, task, seed=seed, compute=compute))
    if not device_problems(device):
        problems += compute.problems(torch.device(device))
    return list(dict.fromkeys(problems))


def check_measures(names: Sequence[str], retrained: Path | None) -> None:
    """Raise `ExpungeError` for extra measures that are unknown, or that cannot be computed for these models."""
    if names:
        from ..audit.measure import make_measures
        from ..tasks.classification import Classification

        # the number of classes is not known yet, and no need depends on it
        make_measures(names, Classification(2), retrained=retrained is not None)


def scenario_problems(method: Method, scenario: str) -> list[str]:
    """Return one sentence if the method does not serve forget sets that are drawn in this way."""
    if not scenario or not method.scenarios or scenario in method.scenarios:
        return []
    return [
        f"{type(method).__name__} serves forget sets drawn by {' or '.join(method.scenarios)}, not '{scenario}'; "
        "see `expunge methods`."
    ]


def mask_problems(method: Method) -> list[str]:
    """Return one sentence if the method names a control of the mask but has no mask."""
    choice = getattr(method, "mask", "saliency")
    if choice == "saliency" or getattr(method, "density", 1.0) < 1:
        return []
    return [f"at density 1 every parameter moves and there is no {choice} mask; give --density too."]
