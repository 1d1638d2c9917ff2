"""Check what trials are asked for, before anything runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import get_args

from ..audit.evaluation import Evaluation
from ..data.split import Split
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..training.method import Method
from .estimate import removes_only_classes
from .search import AUTO, By, search_space


def trial_problems(method: Method, count: int | str, fixed: Collection[str] = ()) -> list[str]:
    """Return what is wrong with the number of trials or the fixed settings, one sentence each. It needs no data."""
    problems = []
    names = {f.name for f in fields(method)}
    if count != AUTO and (type(count) is not int or count < 1):
        problems.append(
            f"the number of trials is {count}; it must be a whole number of at least 1, or 'auto'."
        )
    if unknown := [n for n in fixed if n not in names]:
        problems.append(f"{method.name()} has no settings {unknown} to keep fixed; it has {sorted(names)}.")
    if not type(method).search:
        problems.append(f"{method.name()} has no settings to try; leave the trials out.")
    elif not search_space(method, fixed):
        problems.append(
            f"every setting of {method.name()} that trials can choose ({', '.join(type(method).search)}) is fixed; leave out the "
            "trials, or one of the settings."
        )
    return problems


def tuning_problems(
    split: Split,
    method: Method,
    count: int | str,
    fixed: Collection[str],
    by: By,
    retrained: Evaluation | None,
) -> list[str]:
    # one trial of fixed settings compares them with the original
    problems = trial_problems(method, count, () if count == AUTO else fixed)
    if by not in get_args(By):
        problems.append(f"trials cannot be chosen by {by!r}; choose by {' or '.join(get_args(By))}.")
    if by == "gap" and retrained is None:
        problems.append("by='gap' needs a retrained model; pass `retrained`, or use by='validation'.")
    if retrained is not None and retrained.split.hash != split.hash:
        problems.append("the retrained model was evaluated on another split; evaluate it on this one.")
    unseen = split.validation if count == AUTO else split.unseen
    if by == "validation" and not len(unseen) and not removes_only_classes(split):
        problems.append(
            f"trials are chosen by samples that the original never saw, and {NO_UNSEEN}; {REMEDY}."
        )
    return problems
