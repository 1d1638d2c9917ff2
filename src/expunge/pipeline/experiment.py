"""One step of the pipeline as a function: train a model, run a method and score it, score a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..audit.evaluation import Evaluation
from ..audit.measure import MeasureLike, make_measures
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..masks.mask_file import Mask
from ..methods._fresh import GoOnFrom
from ..methods.retrain import Retrain
from ..summaries import short
from ..tasks.task import Task
from ..torch_utils.prepared import of_plain_model, plain_model
from ..tracking.by_name import TrackerLike
from ..training.arguments import argument_problems, wrong_argument
from ..training.execute import execute
from ..training.method import Method
from ..training.registry import MethodLike, make
from ..training.run import Compute, Row, Run
from ..training.tracked import run_settings, tracked
from ..tuning.search import AUTO, Count, Trial, count_for
from .factory import Factory, seeded_factory
from .outcome import Outcome, record_of
from .pipeline import Pipeline
from .watch import Trials, Watch

__all__ = ["Factory", "Outcome", "experiment", "judge_run", "record_of", "seeded_factory", "train"]


def train(
    model: nn.Module, split: Split, recipe: Retrain, task: Task, *, fresh: bool = False, **options: Any
) -> Run:
    """Train a copy of `model` on everything the original may see: forget and retain set.

    Args:
        model: The model. Training starts from its parameters, unless `fresh` is true.
        split: The split.
        recipe: The training recipe.
        task: The task of the model.
        fresh: Reset the parameters first.
        options: Those of `execute`.

    Returns:
        The run. Its split is the one it was trained on: its retain set is all training samples.

    Raises:
        ExpungeError: `recipe` is no recipe but an unlearning method, or a factory is given without `fresh`.
    """
    problems = []
    if not (isinstance(recipe, Method) and recipe.exact):
        problems.append(
            f"recipe is {short(repr(recipe), 60)}, which does not train an original; give a Retrain(...), for example "
            "Retrain(epochs=20)."
        )
    if not fresh and options.get("factory") is not None:
        problems.append(
            "factory makes fresh parameters, but training starts from those of the model; set fresh=True, or leave factory out."
        )
    raise_all(problems, ExpungeError)
    if not fresh:
        options = {**options, "factory": GoOnFrom(model)}
    return execute(model, split.for_original, recipe, task, **options)


def experiment(
    model: nn.Module,
    split: Split,
    method: MethodLike,
    task: Task,
    *,
    kind: str = "unlearn",
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    factory: Factory | None = None,
    mask: Mask | None = None,
    state_file: Any = None,
    on_row: Callable[[Row], None] | None = None,
    names: dict[str, Any] | None = None,
    command: str = "",
    trials: Count = AUTO,
    fixed: Collection[str] = (),
    on_trial: Callable[[list[Trial]], None] | None = None,
    trials_file: Path | str | None = None,
    measures: Sequence[MeasureLike] = (),
    tracker: TrackerLike = None,
) -> Outcome:
    """Run a method, score its result beside the original and the retrained model, and record it.

    `Pipeline` does the whole comparison: it also makes the original and the retrained model.

    Args:
        model: The original model. It is left as it was.
        split: The split.
        method: A method, its class, its name, or `package.module:Class`.
        task: The task of the model.
        kind: Kind of the record: "unlearn", or "retrain" for a reference.
        original: Predictions of the original: see `expunge.audit.evaluate`.
        retrained: Predictions of the retrained model.
        seed: Seed of everything random in the run.
        compute: How the arithmetic is done.
        factory: Makes a model with fresh parameters.
        mask: Replaces the method's own mask.
        state_file: File that keeps a resumable state.
        on_row: Called with each row of the curves.
        names: {"model": ..., "data": ..., "classes": [...]}, for the record.
        command: The command as it can be typed again, for the record.
        trials: Number of settings to try on validation data before the run. None or 0: none are tried. "auto" adapts the
            settings of a method that is given by name or class, tries as many as it needs, and keeps the original if none
            improves on it; an instance runs with exactly its settings. The record lists all trials, and its seconds (RTE) are
            those of the one run whose model this is.
        fixed: Fields that trials leave as they are.
        on_trial: Called after each trial with all trials so far.
        trials_file: File that keeps finished trials, from which an interrupted call goes on.
        measures: Extra measures: names such as "ToW", `package.module:Class`, classes or instances of
            `expunge.audit.Measure`. Their values are added to the scores and leave the gap as it is.
        tracker: Watches the run and gets its scores: "tensorboard:DIR", "mlflow:URI", "wandb:PROJECT", a `Tracker`, or several.

    Returns:
        The run, the record, the predictions and the audit.

    Raises:
        ExpungeError: Settings, task, split or predictions do not fit.

    Example:
        >>> outcome = experiment(model, split, "salun", Classification(10), trials=4)  # doctest: +SKIP
        >>> print(outcome.audit)  # doctest: +SKIP
    """
    model, mask = plain_model(model), of_plain_model(model, mask)
    problems = argument_problems(model=model, split=split, task=task, mask=mask, seed=seed, compute=compute, factory=factory,
                                 state_file=state_file, on_row=on_row, on_trial=on_trial, trials_file=trials_file)  # fmt: skip
    raise_all(problems + _other_problems(kind, names, fixed, original, retrained), ExpungeError)
    seed = int(seed)
    pipeline = Pipeline(
        split=split,
        task=task,
        factory=factory,
        seed=seed,
        compute=compute,
        names=names,
        command=command,
        measures=make_measures(measures, task, retrained=retrained is not None or kind == "retrain"),
    )
    how = Trials(count=count_for(method, trials, kind), fixed=fixed, on_trial=on_trial, file=trials_file)
    made = make(method)
    with tracked(tracker, f"{kind} {made.name()}", run_settings(made, split, seed, names)) as tracking:
        watch = Watch(on_row=tracking.rows(on_row), state_file=state_file, mask=mask, trials=how)
        outcome = pipeline.step(model, made, watch, kind=kind, original=original, retrained=retrained)
        tracking.take_record(outcome.record)
    return outcome


def _other_problems(kind: Any, names: Any, fixed: Any, *evaluations: Any) -> list[str]:
    """What is wrong with the arguments that only `experiment` has, one sentence each."""
    problems = wrong_argument("names", names, Mapping, 'a dictionary such as {"model": "mlp"}')
    for name, value in zip(("original", "retrained"), evaluations, strict=True):
        problems += wrong_argument(
            name, value, Evaluation, "its evaluation: expunge.audit.evaluate(model, split, task)"
        )
    if kind not in ("unlearn", "retrain"):
        problems.append(f"kind is {kind!r}; it must be 'unlearn' or 'retrain'.")
    if isinstance(fixed, str):
        problems.append(f"fixed is {fixed!r}; give a list of fields, for example [{fixed!r}].")
    return problems


def judge_run(
    run: Run,
    method: Method | None,
    *,
    kind: str,
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    before: str = "",
    names: dict[str, Any] | None = None,
    command: str = "",
    measures: Sequence[MeasureLike] = (),
) -> Outcome:
    """Score and record a finished run, or a model from elsewhere.

    Arguments are those of `Pipeline.outcome`; the split, the task and the seed are those of the run.
    """
    pipeline = Pipeline(
        split=run.split, task=run.task, seed=run.seed, names=names, command=command, measures=measures
    )
    return pipeline.outcome(kind, run, method, before=before, original=original, retrained=retrained)
