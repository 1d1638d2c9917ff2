"""Choose the settings of one run: as given, adapted, or by trials; and say by which samples."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from torch import nn

from ..data.split import Split
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..tasks.task import Task
from ..training.execute import keep_original
from ..training.method import Method
from ..training.run import Run
from .auto import adapt, can_search
from .search import AUTO, Count, search_space, tries
from .trials import no_better_text, tune

BY_RETAIN = "trials were chosen by the forget set and by retained training samples, because the split has no validation samples."


def choose(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    *,
    count: Count,
    fixed: Collection[str] = (),
    may_keep: bool = True,
    **options: Any,
) -> tuple[Method, Run | None, dict[str, Any]]:
    """Return the method with the settings to use, its run if there is one already, and details for the record.

    Args:
        model: The original.
        split: The split of the request.
        method: The method with its own settings.
        task: The task of the model.
        count: Number of trials. None, 0 and 1 keep the settings. "auto" keeps the original if no trial improves on it.
        fixed: Names of fields that stay as they are.
        may_keep: Whether "auto" may keep the original. If not, the first trial that does no harm is taken, else the best.
        options: Further keyword arguments of `tune`.
    """
    if not tries(count) or count is None:
        return method, None, {}
    if count == AUTO and (method.paper or "scores" not in task.offers):
        return method, None, {}
    if count == AUTO and not can_search(method, split, task, fixed):
        return adapt(method, model, split, task, fixed), None, _why_no_search(method, split, fixed)
    tuned = tune(model, split, method, task, count=count, fixed=fixed, may_keep=may_keep, **options)
    details: dict[str, Any] = {
        "trials": [asdict(t) for t in tuned.trials],
        "trials_untouched": tuned.untouched,
        **({} if len(split.unseen) or options.get("by") == "gap" else {"notes": [BY_RETAIN]}),
    }
    if count != AUTO or tuned.improved:
        return tuned.method, tuned.run, details
    if not may_keep:
        return (*tuned.harmless, details)
    shared = {name: options[name] for name in ("seed", "compute") if name in options}
    return (
        tuned.method,
        keep_original(model, split, task, no_better_text(tuned), **shared),
        details,
    )


def _why_no_search(method: Method, split: Split, fixed: Collection[str]) -> dict[str, Any]:
    """Warn if only unseen samples are missing for a search, and return this note for the record."""
    if len(split.validation) or not search_space(method, fixed):
        return {}
    text = f"{NO_UNSEEN}, so no settings were tried and the adapted ones were taken; {REMEDY}."
    warnings.warn(text, RuntimeWarning, stacklevel=3)
    return {"notes": [text]}
