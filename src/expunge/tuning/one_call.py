"""The one-call form: unlearn a forget set, with settings that fit the request where none are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..errors import UnlearningFailed
from ..tasks.task import Task
from ..training.arguments import check_arguments
from ..training.execute import check_run, execute
from ..training.registry import MethodLike, make
from ..training.run import Compute, Row
from .search import AUTO, Count, count_for
from .trials import choose


def unlearn(
    model: nn.Module,
    split: Split,
    method: MethodLike,
    task: Task,
    *,
    mask: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    factory: Callable[[], nn.Module] | None = None,
    state_file: Path | str | None = None,
    on_row: Callable[[Row], None] | None = None,
    trials: Count = AUTO,
) -> nn.Module:
    """Return a new model from which `method` unlearned the split's forget set. `model` is left as it was.

    The other arguments and errors are those of `execute`, which returns how the run went, also for a run without a result.

    Args:
        trials: Number of settings to try. "auto" chooses settings for a method that is given by name or class, and fails if
            nothing improves on `model`. An instance runs with exactly its settings. None or 0: none are tried.

    Raises:
        UnlearningFailed: The run diverged or changed nothing. Its attribute `run` has the model and the curves.

    Example:
        >>> unlearned = unlearn(model, split, "salun", Classification(10))  # doctest: +SKIP
    """
    options: dict[str, Any] = {
        "mask": mask,
        "seed": seed,
        "compute": compute,
        "factory": factory,
        "state_file": state_file,
        "on_row": on_row,
    }
    check_arguments(model=model, split=split, task=task, **options)
    count, made = count_for(method, trials), make(method)
    check_run(made, split.after(requests_of(model)), task, seed=seed, compute=compute, model=model)
    made, run, _ = choose(model, split, made, task, count=count, **options)
    run = run or execute(model, split, made, task, **options)
    if not run.has_result:
        raise UnlearningFailed(f"{made.name()} {run.status}", run)
    return run.model
