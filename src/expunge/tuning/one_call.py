"""The one-call form: unlearn a forget set, with settings that fit the request where none are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.past_requests import requests_of
from ..data.sample_contents import compare_again
from ..data.split import Split
from ..errors import UnlearningFailed
from ..tasks.task import Task
from ..torch_utils.prepared import of_plain_model, plain_model
from ..tracking.by_name import TrackerLike
from ..training.arguments import check_arguments
from ..training.execute import check_run, execute
from ..training.registry import MethodLike, make
from ..training.run import Compute, Row
from ..training.tracked import run_settings, tracked
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
    tracker: TrackerLike = None,
) -> nn.Module:
    """Return a new model from which `method` unlearned the split's forget set. `model` is left as it was.

    The other arguments and errors are those of `execute`, which returns how the run went, also for a run without a result.

    Args:
        trials: Number of settings to try. "auto" chooses settings for a method that is given by name or class, and fails if
            nothing improves on `model`. An instance runs with exactly its settings. None or 0: none are tried.
        tracker: Watches the run with its trials: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several.

    Raises:
        UnlearningFailed: The run diverged or changed nothing. Its attribute `run` has the model and the curves.

    Example:
        >>> unlearned = unlearn(model, split, "salun", Classification(10))  # doctest: +SKIP
    """
    model, mask = plain_model(model), of_plain_model(model, mask)
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
    compare_again(split.forget.data)
    check_run(made, split.after(requests_of(model)), task, seed=seed, compute=compute, model=model)
    settings = run_settings(made, split, seed)
    with tracked(tracker, f"unlearn {made.name()}", settings) as tracking:
        options["on_row"] = tracking.rows(on_row)
        made, run, _ = choose(model, split, made, task, count=count, **options)
        run = run or execute(model, split, made, task, **options)
        tracking.take(run.ended, made)
    if not run.has_result:
        raise UnlearningFailed(f"{made.name()} {run.status}", run)
    return run.model
