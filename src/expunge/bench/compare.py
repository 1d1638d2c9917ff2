"""Compare methods from Python: one call makes originals, references and unlearned models for several seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

from ..audit.measure import MeasureLike, make_measures
from ..data.class_names import check_class_numbers
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..pipeline.factory import seeded_factory
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Trials, Watch
from ..secret_text import error_text
from ..tasks.classification import Classification
from ..tasks.task import Task
from ..training.arguments import argument_problems, wrong_argument
from ..training.method import Method
from ..training.registry import MethodLike
from ..training.run import Compute
from ..tuning import presets
from ..tuning.search import AUTO, Count
from .compare_inputs import (
    DataLike,
    Forget,
    ModelLike,
    class_names,
    draw_split,
    early_problems,
    labelled_methods,
    model_factory,
    open_source,
    problems_of_seeds,
    record_names,
    trial_counts,
)
from .comparison import Comparison


def bench(
    methods: Iterable[MethodLike] | Mapping[str, MethodLike],
    *,
    data: DataLike,
    model: ModelLike,
    forget: Forget | None = None,
    seeds: int | Iterable[int] = (0,),
    task: Task | None = None,
    recipe: Retrain | None = None,
    measures: Iterable[MeasureLike] = (),
    trials: Count = AUTO,
    compute: Compute | None = None,
    device: str = "cpu",
    on_outcome: Callable[[str, Outcome], None] | None = None,
) -> Comparison:
    """Compare methods in this process: for each seed, train an original and a reference, then run every method.

    `expunge bench GRID.toml` does the same in several processes, and keeps finished runs on disk.

    Args:
        methods: Methods, their classes, names, or `package.module:Class`; with labels as {label: method}. A class or name runs
            with its default settings.
        data: A data spec such as "digits", a `Source`, a pair (train, test) of what `as_data` takes, or a `Split`.
        model: A model spec such as "cnn" or "package.module:factory", or a function that returns a model with fresh
            parameters. It is called with whichever of `num_classes`, `shape` and `in_channels` it names.
        forget: What to forget, unless `data` is a `Split`: a share such as 0.1, a class or a list of classes, a `SplitSpec`,
            or a function (train, test, seed) -> `Split`.
        seeds: Seeds of the splits, parameters and runs.
        task: The task of the models. The default is `Classification`.
        recipe: How originals and references are trained. The default suits a known data spec, else `Retrain()`.
        measures: Extra measures: names such as "ToW", `package.module:Class`, classes or instances.
        trials: Number of settings to try per method on validation data. None or 0: none are tried. "auto" chooses settings for
            names and classes as `experiment` does; instances run with exactly their settings.
        compute: How the arithmetic is done.
        device: Where the models are.
        on_outcome: Called with label and outcome of each run when it ends.

    Returns:
        The outcomes. Printing it shows the table.

    Raises:
        ExpungeError: Methods, measures, data, model or task do not fit. A method that fails while it runs does not stop the
            others: a warning names it, and the result lists it.

    Example:
        >>> bench([SalUn(epochs=5), "finetune"], data="digits", model="cnn", forget="3", seeds=[0, 1])  # doctest: +SKIP
    """
    # an iterator can be read only once
    methods = methods if isinstance(methods, Mapping | str | Method | type) else list(methods)
    labelled = labelled_methods(methods)
    seeds = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    problems = argument_problems(compute=compute, on_outcome=on_outcome)
    problems += [] if task is None else argument_problems(task=task)
    problems += wrong_argument("recipe", recipe, Retrain, "a recipe, for example Retrain(epochs=20)")
    if trials not in (None, AUTO) and (type(trials) is not int or trials < 0):
        problems.append(
            f"trials is {trials!r}; it must be a whole number, 0 or None for no trials, or 'auto'."
        )
    raise_all(problems, ExpungeError)
    counts = trial_counts(methods, labelled, trials)
    problems = problems_of_seeds(seeds) + early_problems(labelled, data, model, forget, task)
    raise_all(problems, ExpungeError)
    made_measures = make_measures(measures, task or Classification(2))
    source = open_source(data, model)
    if task is None:
        check_class_numbers(source.forget.data if isinstance(source, Split) else source.train)
        task = Classification(len(class_names(source)))
    recipe = recipe or (presets.recipe(data) if isinstance(data, str) else Retrain())
    factory = model_factory(model, source, device)
    seeds = [int(seed) for seed in seeds]
    result = Comparison([], {})
    for seed in seeds:
        split = source if isinstance(source, Split) else draw_split(forget, source, seed)
        pipeline = Pipeline(
            split=split,
            task=task,
            factory=seeded_factory(factory, seed),
            recipe=recipe,
            seed=seed,
            compute=compute,
            names=record_names(model, source),
            measures=made_measures,
            watch=lambda label, method: nullcontext(Watch(trials=Trials(count=counts.get(label)))),
        )
        _run(pipeline, labelled, result, on_outcome)
    return result


def _run(
    pipeline: Pipeline,
    methods: Mapping[str, Method],
    result: Comparison,
    on_outcome: Callable[[str, Outcome], None] | None,
) -> None:
    """Add the outcomes of one seed to the result."""

    def add(label: str, outcome: Outcome) -> None:
        outcome.record.details["label"] = label
        result.outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(label, outcome)

    references = pipeline.references()
    assert references.retrained is not None
    add("Original", references.original)
    add("Retrain", references.retrained)
    for label, method in methods.items():
        try:
            outcome = pipeline.unlearn(references.original.model, method, label, references)
        except Exception as error:  # a method that fails must not cost the results of the others
            result.failed[f"{label}, seed {pipeline.seed}"] = error_text(error)
            warnings.warn(f"{label} failed with seed {pipeline.seed}: {error}", RuntimeWarning, stacklevel=3)
        else:
            add(label, outcome)
