"""Choose settings for `trials="auto"`: adapt them to the request and the model, then search on validation data.

A learning rate that suits one request does nothing or harm for another. So the search starts from settings that fit the
size of the request (`Method.adapted`), and changes one field at a time. It walks along the values of a field in steps of
two, then of one. It ends after `MOST` trials, or as soon as the estimated gap cannot be told from none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..data.past_requests import requests_of
from ..data.split import Split
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..errors import ExpungeError, raise_all
from ..tasks.task import Task
from ..training.method import GradientMethod, Method
from ..training.run import Run
from ..training.unseen_check import unseen_problems
from .estimate import removes_only_classes
from .search import ENOUGH, Space, Trial, next_settings, rate_factor, search_space

# the largest number of trials
MOST = 8
# the ratio of neighbouring learning rates, and how many lie on each side of the method's own
RATIO, EACH_SIDE = 10**0.5, 7
LARGEST_RATE = 1.0
BY_RETAIN = "trials were chosen by the forget set and by retained training samples, because the split has no validation samples."
# more passes are tried as long as a run has at most this number of steps
MOST_STEPS = 1000


def adapt(method: Method, model: nn.Module, split: Split, task: Task, fixed: Collection[str] = ()) -> Method:
    """Return the method with settings that fit the request: a minimum number of steps, for example.

    Args:
        method: The method with its own settings.
        model: The original.
        split: The split of the request.
        task: The task of the model.
        fixed: Names of fields that stay as they are.
    """
    if (factor := rate_factor(method)) != 1 and "lr" not in fixed:
        # the learning rates of a method are those of its own optimizer
        method = replace(method, lr=float(f"{method.lr * factor:.3g}"))  # type: ignore[attr-defined, call-arg]
    run = Run(model, split.after(requests_of(model)).for_method, task)
    return replace(method, **{k: v for k, v in method.adapted(run).items() if k not in fixed})


def can_search(method: Method, split: Split, task: Task, fixed: Collection[str] = ()) -> bool:
    """Return whether there are settings to try, and something to choose them by.

    Validation samples say how a model treats samples that it never saw. A forgotten class needs none: Retrain never predicts it.
    """
    known = len(split.validation) > 0 or removes_only_classes(split)
    return "scores" in task.offers and known and bool(search_space(method, fixed))


def all_fixed(method: Method, split: Split, task: Task, fixed: Collection[str]) -> str:
    """Return that every field which trials choose is fixed, as a sentence. The run is then compared with the original as the only trial.

    Empty if there are settings to try, or nothing to compare by.
    """
    known = len(split.validation) > 0 or removes_only_classes(split)
    if "scores" not in task.offers or not known or not type(method).search or search_space(method, fixed):
        return ""
    names = ", ".join(type(method).search)
    return (
        f"every setting that trials of {method.name()} choose ({names}) is fixed, so no settings were tried; the run is compared with the "
        "original."
    )


def why_no_search(method: Method, split: Split, fixed: Collection[str]) -> dict[str, Any]:
    """Warn if only unseen samples are missing for a search, and return this note for the record.

    Raises:
        ExpungeError: The method itself refuses a split without unseen samples.
    """
    if len(split.validation) or not search_space(method, fixed):
        return {}
    raise_all(unseen_problems(method, split), ExpungeError)
    # a run whose rules are off names the remedy itself
    remedy = "" if method.unseen_rules() and not split.forget_classes else f"; {REMEDY}"
    text = f"{NO_UNSEEN}, so no settings were tried and the adapted ones were taken{remedy}."
    warnings.warn(text, RuntimeWarning, stacklevel=3)
    return {"notes": [text]}


@dataclass(frozen=True)
class AutoSearch:
    """Propose the settings of each trial.

    Args:
        own: The adapted settings, which the first trial uses.
        space: {field: values in ascending strength}. The first field is searched first.
        upward: Whether the search first tries larger values.
        enough: Distance that ends the search.
        weaker: Whether the search goes on with weaker settings where it is stuck.
    """

    own: dict[str, Any]
    space: Space
    upward: bool
    enough: float = ENOUGH
    weaker: bool = False

    def next(self, done: Sequence[Trial]) -> dict[str, Any] | None:
        """Return the settings to try next, or None if the search is over."""
        if not done:
            return dict(self.own)
        if not self.space:
            return None
        if len(done) >= MOST or min(t.distance for t in done) <= self.enough:
            return None
        # where nothing is forgotten yet, all distances are about equal, and the latest trial was the strongest
        rank = lambda k: (round(done[k].distance), -k) if self.upward else (done[k].distance, k)  # noqa: E731
        best = done[min(range(len(done)), key=rank)]
        tried = [t.settings for t in done]
        near = next((s for s in self._neighbours(best.settings, tried) if s not in tried), None)
        return self._weaker(tried) if near is None and self.weaker else near

    def _weaker(self, tried: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the adapted settings with the first field two steps below the lowest value tried."""
        name, values = next(iter(self.space.items()))
        position = min(values.index(settings[name]) for settings in tried) - 2
        return {**self.own, name: values[position]} if position >= 0 else None

    def _neighbours(self, best: dict[str, Any], tried: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield settings that differ from the best in one field, the most promising first."""
        for name, values in self.space.items():
            position = values.index(best[name])
            at = lambda k: {**best, name: values[min(max(k, 0), len(values) - 1)]}  # noqa: B023, E731
            for step in (2, 1) if name == next(iter(self.space)) else (1,):
                for sign in (1, -1) if self.upward else (-1, 1):
                    # beyond a value that was tried and is worse, there is nothing to find
                    if step == 1 or at(position + sign) not in tried:
                        yield at(position + sign * step)


def search_for(
    method: Method,
    model: nn.Module,
    split: Split,
    task: Task,
    fixed: Collection[str],
    enough: float,
    weaker: bool = False,
) -> AutoSearch:
    """Return the search for an adapted method.

    Args:
        method: The adapted method.
        model: The original.
        split: The split that trials run on.
        task: The task of the model.
        fixed: Names of fields that stay as they are.
        enough: Estimated gap in percentage points that ends the search. A gap of 1 point ends it in any case.
        weaker: Whether the search goes on with weaker settings where it is stuck.
    """
    space = {name: _ladder(name, values, method) for name, values in search_space(method, fixed).items()}
    if space and isinstance(method, GradientMethod) and "epochs" not in fixed:
        passes = _passes(method, Run(model, split.for_method, task))
        space = dict([*list(space.items())[:1], ("epochs", passes), *list(space.items())[1:]])
    own = {name: getattr(method, name) for name in space}
    return AutoSearch(
        own, space, upward=bool(split.forget_classes), enough=max(ENOUGH, enough), weaker=weaker
    )


def _ladder(name: str, values: list[Any], method: Method) -> list[Any]:
    """Return the values of a field. Learning rates go further than `search`, in equal ratios from the method's own."""
    if name != "lr":
        return values
    rates = [method.lr * RATIO**k for k in range(-EACH_SIDE, EACH_SIDE + 1)]  # type: ignore[attr-defined]
    # three digits are enough, and keep equal values equal in a file
    return [
        float(f"{r:.3g}") if r != rates[EACH_SIDE] else r
        for r in rates
        if r <= LARGEST_RATE or r == rates[EACH_SIDE]
    ]


def _passes(method: GradientMethod, run: Run) -> list[int]:
    """Return the numbers of epochs to try: the method's own, 3 and 9 times as many where the runs stay short."""
    longer = [replace(method, epochs=factor * method.epochs) for factor in (3, 9)]
    return [method.epochs, *(m.epochs for m in longer if m.steps(run) <= MOST_STEPS)]


def proposals(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    count: int | str,
    fixed: Collection[str],
    enough: float,
    weaker: bool,
) -> tuple[Method, Callable[[list[Trial]], dict[str, Any] | None]]:
    """Return the method that trials vary, and the function that gives the settings of the next trial."""
    if isinstance(count, str):
        method = adapt(method, model, split, task, fixed)
        return method, search_for(method, model, split, task, fixed, enough, weaker).next
    return method, lambda done: next_settings(method, done, count, fixed) if len(done) < count else None
