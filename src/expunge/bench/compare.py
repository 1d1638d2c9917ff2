"""Compare methods from Python: one call makes originals, references and unlearned models for several seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from torch import nn

from ..audit.measure import MeasureLike, make_measures
from ..data.convert import as_data
from ..data.samples import Data
from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..models import build
from ..models import check_name as check_model
from ..pipeline.factory import seeded_factory
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Trials, Watch
from ..sources.loading import load
from ..sources.source import Source, input_shape
from ..sources.spec import check_spec, locate
from ..tasks.classification import Classification
from ..tasks.task import Task
from ..torch_utils.module_state import check_seed
from ..training.execute import check_run
from ..training.method import Method
from ..training.registry import MethodLike, make
from ..training.run import Compute
from ..tuning import presets
from .comparison import Comparison

# what to forget: a share, classes, a spec, or a function of training data, test data and seed
Forget: TypeAlias = float | int | str | Sequence[str | int] | SplitSpec | Callable[[Data, Data, int], Split]
DataLike: TypeAlias = str | Source | Split | tuple[Any, Any]
ModelLike: TypeAlias = str | Callable[[], nn.Module]


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
    trials: int = 1,
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
        model: A model spec such as "cnn" or "package.module:factory", or a function without arguments that returns a model
            with fresh parameters.
        forget: What to forget, unless `data` is a `Split`: a share such as 0.1, a class or a list of classes, a `SplitSpec`,
            or a function (train, test, seed) -> `Split`.
        seeds: Seeds of the splits, parameters and runs.
        task: The task of the models. The default is `Classification`.
        recipe: How originals and references are trained. The default suits a known data spec, else `Retrain()`.
        measures: Extra measures: names such as "ToW", `package.module:Class`, classes or instances.
        trials: Number of settings to try per method on validation data. 1: none are tried.
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
    labelled = _labelled(methods)
    seeds = [seeds] if isinstance(seeds, int) else list(seeds)
    problems = _seed_problems(seeds) + _early_problems(labelled, data, model, forget, task)
    raise_all(problems, ExpungeError)
    made_measures = make_measures(measures, task or Classification(2))
    source = _source(data)
    task = task or Classification(len(_classes(source)))
    recipe = recipe or (presets.recipe(data) if isinstance(data, str) else Retrain())
    result = Comparison([], {})
    for seed in seeds:
        split = source if isinstance(source, Split) else _draw(forget, source, seed)
        pipeline = Pipeline(
            split=split,
            task=task,
            factory=seeded_factory(_factory(model, source, device), seed),
            recipe=recipe,
            seed=seed,
            compute=compute,
            names=_names(model, source),
            measures=made_measures,
            watch=lambda label, method: nullcontext(
                Watch(trials=Trials(count=1 if label in ("original", "retrain") else trials))
            ),
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
            result.failed[f"{label}, seed {pipeline.seed}"] = f"{type(error).__name__}: {error}"
            warnings.warn(f"{label} failed with seed {pipeline.seed}: {error}", RuntimeWarning, stacklevel=3)
        else:
            add(label, outcome)


def _labelled(methods: Iterable[MethodLike] | Mapping[str, MethodLike]) -> dict[str, Method]:
    """Return {label: method}. The default label is the name as it was given, or the name of the class."""
    if isinstance(methods, str | Method | type):
        methods = [methods]
    if isinstance(methods, Mapping):
        return {label: make(method) for label, method in methods.items()}
    pairs = [(make(m), m if isinstance(m, str) else make(m).name()) for m in methods]
    # a class of the user's own is called by its name, not by its place
    labels = [name.rpartition(":")[2] for _, name in pairs]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    raise_all([f"two methods are called '{label}'; pass {{label: method}}." for label in twice], ExpungeError)
    return dict(zip(labels, (method for method, _ in pairs), strict=True))


def _seed_problems(seeds: Sequence[int]) -> list[str]:
    if not seeds or len(set(seeds)) < len(seeds):
        return [f"the seeds are {seeds}; give one or more, each once."]
    try:
        for seed in seeds:
            check_seed(seed)
    except ExpungeError as error:
        return error.problems
    return []


def _early_problems(
    methods: Mapping[str, Method], data: DataLike, model: ModelLike, forget: Forget | None, task: Task | None
) -> list[str]:
    """Return what is wrong with the arguments, before data is read."""
    problems = [] if methods else ["there is no method to compare; give at least one."]
    problems += [
        f"'{label}' is the label of a reference; choose another."
        for label in methods
        if label in ("Original", "Retrain")
    ]
    if isinstance(model, nn.Module) or not (isinstance(model, str) or callable(model)):
        problems.append(
            f"model is a {type(model).__name__}; give a model spec, or a function that returns a model with fresh parameters."
        )
    if (forget is None) != isinstance(data, Split):
        problems.append(
            "forget says what to forget, and a Split says it too; give forget with any other data, and only then."
        )
    checks: list[Callable[[], object]] = [
        partial(check_run, method, None, task or Classification(2)) for method in methods.values()
    ]
    if isinstance(data, str):
        checks.append(partial(_check_data, data))
    if isinstance(model, str):
        checks.append(partial(check_model, model))
    for check in checks:
        try:
            check()
        except ExpungeError as error:
            problems += error.problems
    return problems


def _check_data(spec: str) -> None:
    check_spec(locate(spec))


def _source(data: DataLike) -> Source | Split:
    if isinstance(data, str):
        return load(locate(data))
    if isinstance(data, Source | Split):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ExpungeError(
            f"data is a {type(data).__name__}; give a data spec, a Source, a Split or a pair (train, test)."
        )
    train, test = as_data(data[0]), as_data(data[1])
    return Source(train, test, _class_names(train), input_shape(train), train.name)


def _class_names(train: Data) -> list[str]:
    return [str(c) for c in (train.classes or range(int(train.labels.max()) + 1))]


def _classes(source: Source | Split) -> list[str]:
    return source.classes if isinstance(source, Source) else _class_names(source.forget.data)


def _draw(forget: Any, source: Source, seed: int) -> Split:
    """Draw the split of one seed."""
    if callable(forget):
        return forget(source.train, source.test, seed)
    if isinstance(forget, SplitSpec):
        spec = forget
    elif isinstance(forget, float):
        spec = SplitSpec(forget_share=forget)
    else:
        classes = [forget] if isinstance(forget, str | int) else forget
        spec = SplitSpec(forget_class=tuple(map(str, classes)))
    return replace(spec, split_seed=seed).draw(source.train, source.test)


def _factory(model: ModelLike, source: Source | Split, device: str) -> Callable[[], nn.Module]:
    """Return a function that makes the model on its device."""
    if not isinstance(model, str):
        return lambda: model().to(device)
    name, classes = model, len(_classes(source))
    shape = source.shape if isinstance(source, Source) else input_shape(source.forget.data)
    return lambda: build(name, num_classes=classes, shape=shape).to(device)


def _names(model: ModelLike, source: Source | Split) -> dict[str, Any]:
    """Return names for records."""
    name = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    if isinstance(source, Split):
        return {"model": name}
    return {"model": name, "data": source.name, "classes": source.classes}
