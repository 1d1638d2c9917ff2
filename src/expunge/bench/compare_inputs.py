"""What `bench` takes: check methods, data and model before data is read, then open them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from torch import nn

from ..data.class_names import class_names as names_of_classes
from ..data.class_names import pair_problems
from ..data.convert import as_data
from ..data.samples import Data
from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..errors import ExpungeError, raise_all
from ..models import check_name as check_model
from ..models.preparation import ordered_spec
from ..sources.loading import load
from ..sources.source import Source, input_shape
from ..sources.spec import check_spec, locate
from ..tasks.classification import Classification
from ..tasks.task import Task
from ..torch_utils.module_state import seed_problems
from ..training.execute import check_run
from ..training.method import Method
from ..training.registry import MethodLike, make
from ..tuning.search import Count, count_for
from .labels import label_problems
from .model_factories import NamedFactory, OwnFactory

# what to forget: a share, classes, a spec, or a function of training data, test data and seed
Forget: TypeAlias = float | int | str | Sequence[str | int] | SplitSpec | Callable[[Data, Data, int], Split]
DataLike: TypeAlias = str | Source | Split | tuple[Any, Any]
ModelLike: TypeAlias = str | Callable[..., nn.Module]


def labelled_methods(methods: Iterable[MethodLike] | Mapping[str, MethodLike]) -> dict[str, Method]:
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


def trial_counts(
    methods: Iterable[MethodLike] | Mapping[str, MethodLike], labels: Iterable[str], trials: Count
) -> dict[str, Count]:
    """Return {label: number of trials}: "auto" is for methods that were given by name or class."""
    if isinstance(methods, Mapping):
        given = list(methods.values())
    else:
        given = [methods] if isinstance(methods, str | Method | type) else list(methods)
    return {label: count_for(m, trials) for label, m in zip(labels, given, strict=True)}


def problems_of_seeds(seeds: Sequence[int]) -> list[str]:
    """Return what is wrong with the seeds, one sentence each."""
    if wrong := [problem for seed in seeds for problem in seed_problems(seed)]:
        return wrong
    if not seeds or len(set(seeds)) < len(seeds):
        return [f"the seeds are {seeds}; give one or more, each once."]
    return []


def early_problems(
    methods: Mapping[str, Method], data: DataLike, model: ModelLike, forget: Forget | None, task: Task | None
) -> list[str]:
    """Return what is wrong with the arguments, before data is read."""
    problems = [] if methods else ["there is no method to compare; give at least one."]
    problems += [problem for label in methods for problem in label_problems(label)]
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


def open_source(data: DataLike, model: ModelLike) -> Source | Split:
    """Load or wrap the data, with the order of classes that the model names. Raises `ExpungeError` for what is no data."""
    if isinstance(data, str):
        spec = locate(data)
        return load(ordered_spec(spec, model) if isinstance(model, str) else spec)
    if isinstance(data, Source | Split):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ExpungeError(
            f"data is a {type(data).__name__}; give a data spec, a Source, a Split or a pair (train, test)."
        )
    train, test = as_data(data[0]), as_data(data[1])
    raise_all(pair_problems(train, test), ExpungeError)
    return Source(train, test, names_of_classes(train), input_shape(train), train.name)


def class_names(source: Source | Split) -> list[str]:
    """Return the class names, or the class numbers as texts."""
    return source.classes if isinstance(source, Source) else names_of_classes(source.forget.data)


def draw_split(forget: Any, source: Source, seed: int) -> Split:
    """Draw the split of one seed."""
    if callable(forget):
        return _own_split(forget, source, seed)
    if getattr(forget, "ndim", None) == 0:
        # a number of NumPy or torch
        forget = forget.item()
    if isinstance(forget, SplitSpec):
        spec = forget
    elif isinstance(forget, float):
        spec = SplitSpec(forget_share=forget)
    else:
        classes = [forget] if isinstance(forget, str | int) else forget
        spec = SplitSpec(forget_class=tuple(map(str, classes)))
    return replace(spec, split_seed=seed).draw(source.train, source.test)


def _own_split(forget: Callable[..., Any], source: Source, seed: int) -> Split:
    name = getattr(forget, "__qualname__", type(forget).__name__)
    try:
        split = forget(source.train, source.test, seed)
    except ExpungeError:
        raise
    except Exception as error:  # the function is the user's code
        raise ExpungeError(
            f"the function {name} of forget failed: {type(error).__name__}: {error}; it is called with training data, test data "
            "and the seed."
        ) from error
    if not isinstance(split, Split):
        raise ExpungeError(f"the function {name} of forget returned {type(split).__name__}; return a Split.")
    return split


def model_factory(model: ModelLike, source: Source | Split, device: str) -> Callable[[], nn.Module]:
    """Return a function that makes the model on its device."""
    classes = len(class_names(source))
    shape = source.shape if isinstance(source, Source) else input_shape(source.forget.data)
    if isinstance(model, str):
        return NamedFactory(model, classes, tuple(shape), device)
    return OwnFactory(model, classes, tuple(shape), device).checked()


def record_names(model: ModelLike, source: Source | Split) -> dict[str, Any]:
    """Return names for records."""
    name = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    if isinstance(source, Split):
        return {"model": name}
    return {"model": name, "data": source.name, "classes": source.classes}
