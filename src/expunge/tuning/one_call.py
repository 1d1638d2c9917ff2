"""The one-call form: unlearn a forget set, with settings that fit the request where none are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..tasks.task import Task
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

    The other arguments and the errors are those of `execute`, which also returns how the run went.

    Args:
        trials: Number of settings to try. "auto" chooses settings for a method that is given by name or class, and returns a
            copy of `model` with a warning if nothing improves on it. An instance runs with exactly its settings. None or 0:
            none are tried.

    Example:
        >>> unlearned = unlearn(model, split, "salun", Classification(10))  # doctest: +SKIP
    """
    count, made = count_for(method, trials), make(method)
    check_run(made, split.after(requests_of(model)), task, seed=seed, compute=compute, model=model)
    options: dict[str, Any] = {
        "mask": mask,
        "seed": seed,
        "compute": compute,
        "factory": factory,
        "state_file": state_file,
        "on_row": on_row,
    }
    made, run, _ = choose(model, split, made, task, count=count, **options)
    return (run or execute(model, split, made, task, **options)).model
