"""What an extra measure is: one number, or several named ones, that the audit adds to the standard scores.

Each measure has a file of its own: under `audit/measures/`, or in the user's code.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from ..errors import ExpungeError, ModelError, raise_all
from ..extensions import Extensions
from ..own_code import remember_source, source_of
from ..secret_text import error_text
from ..tasks.task import Capability, Task, missing_capabilities, missing_text
from ..training.method_class import attribute_problems
from .evaluation import Evaluation

# names that the standard audits use for their own scores
RESERVED = ("UA", "RA", "TA", "MIA", "MIA_entropy", "TFA", "gap", "avg")


class Measure(ABC):
    """An extra measure of a model. Subclasses set `name` and `glossary`, and write `compute`.

    Attributes:
        name: Name of the score in records, tables and reports. A built-in measure is in the file `name.lower()`.
        glossary: One plain sentence on what the value says, for the report.
        unit: Unit of the value: "percent", "bits", "points", or empty for a plain number.
        needs: Capabilities that the measure needs from a task, beyond "scores" (see `expunge.tasks.task`).
        reference: Whether the measure needs a retrained model.
        parts: For a measure of several numbers: {part: its glossary sentence}. The scores are then called NAME_PART.

    Example:
        >>> class WorstForget(Measure):
        ...     name = "worst_forget"
        ...     glossary = "Highest confidence of the model in the label of a forget sample."
        ...     unit = "percent"
        ...
        ...     def compute(self, unlearned, original, retrained, task):
        ...         return 100 * unlearned.forget.confidence.max().item()
    """

    name: ClassVar[str]
    glossary: ClassVar[str]
    unit: ClassVar[str] = "percent"
    needs: ClassVar[tuple[Capability, ...]] = ()
    reference: ClassVar[bool] = False
    parts: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        remember_source(cls)
        if cls.__name__.startswith("_"):  # a base of several measures
            return
        problems = [
            f"{cls.__name__} has no `{key}`; set it to a text."
            for key in ("name", "glossary")
            if not isinstance(getattr(cls, key, None), str) or not getattr(cls, key).strip()
        ]
        problems += [
            f"{cls.__name__}.name is '{name}', a score of the standard audit; choose another."
            for name in (cls.score_names() if hasattr(cls, "name") else [])
            if name in RESERVED
        ]
        problems += attribute_problems(cls, ("needs",))
        if problems:
            raise TypeError(" ".join(problems))

    @abstractmethod
    def compute(
        self,
        unlearned: Evaluation,
        original: Evaluation | None,
        retrained: Evaluation | None,
        task: Task,
    ) -> float | Mapping[str, float | None] | None:
        """Return the value for one model, or None if it has none. With `parts`, return {part: value or None}.

        An evaluation holds the predictions on each set (`forget`, `retain`, `test`, `test_forgotten`), the `scores`, the
        `split` and the `model`. Do not change the model.

        Args:
            unlearned: The evaluation of the measured model. The original and the retrained model are measured too.
            original: The evaluation of the original, or None if it was not given.
            retrained: The evaluation of the retrained model. Never None if `reference` is true.
            task: The task of the models.
        """

    @classmethod
    def score_names(cls) -> list[str]:
        """Return the names of the scores: `name`, or NAME_PART for each part."""
        return [f"{cls.name}_{part}" for part in cls.parts] or [cls.name]

    def described(self) -> dict[str, dict[str, Any]]:
        """Return what a record keeps: {score: its unit, its glossary entry, the class and the hash of its source}."""
        texts = list(self.parts.values()) or [self.glossary]
        return {
            name: {"unit": self.unit, "glossary": text, **source_of(type(self))}
            for name, text in zip(self.score_names(), texts, strict=True)
        }


MeasureLike: TypeAlias = Measure | type[Measure] | str

MEASURES: Extensions[Measure] = Extensions(
    Measure,  # type: ignore[type-abstract]
    "measure",
    f"{__name__.rpartition('.')[0]}.measures",
    "expunge.measures",
)


def measure_names() -> list[str]:
    """Return the names of the built-in measures and of those that installed packages add (`expunge.measures`)."""
    return MEASURES.names()


def find_measure(name: MeasureLike) -> type[Measure]:
    """Return the class of a measure.

    Args:
        name: A name of `measure_names()` or a built-in measure's `name`, `package.module:Class` for a class of your own, or
            a class or instance.

    Raises:
        ExpungeError: There is no such measure; the message lists the known names.

    Example:
        >>> find_measure("ToW").unit
        ''
    """
    if isinstance(name, str) and name.lower() in MEASURES.files():
        name = name.lower()
    return MEASURES.find(name)


def make_measures(
    measures: Iterable[MeasureLike], task: Task | None = None, *, retrained: bool = True
) -> list[Measure]:
    """Return instances of measures, after a check that they can be computed.

    Args:
        measures: Names, `package.module:Class`, classes or instances.
        task: The task of the models. It must offer what the measures need.
        retrained: Whether there is a retrained model.

    Raises:
        ExpungeError: A measure is unknown or cannot be made, or two have the same name, or one needs a retrained model.
        ModelError: The task does not offer what a measure needs.
    """
    if isinstance(measures, str | Measure | type) or not isinstance(measures, Iterable):
        raise ExpungeError(f"measures is {measures!r}; give a list of measures.")
    made = [make_measure(m) for m in measures]
    names = [name for m in made for name in m.score_names()]
    twice = sorted({n for n in names if names.count(n) > 1})
    raise_all([f"two measures are called '{n}'; leave one out." for n in twice], ExpungeError)
    if task is not None:
        raise_all([p for m in made for p in _unmet(m, task)], ModelError)
    if not retrained:
        raise_all(
            [
                f"the measure {m.name} compares with a retrained model, and none is given; give one, or leave the measure out."
                for m in made
                if m.reference
            ],
            ExpungeError,
        )
    return made


def _unmet(measure: Measure, task: Task) -> list[str]:
    missing = missing_capabilities(task, ("scores", *measure.needs))
    if not missing:
        return []
    text = missing_text(f"the measure {measure.name}", task.name, type(task).__name__, missing)
    return [text.replace("another method", "another measure")]


def make_measure(measure: MeasureLike) -> Measure:
    """Return an instance: the one given, or one of a class or name without arguments. Raises `ExpungeError`."""
    if isinstance(measure, Measure):
        return measure
    cls = find_measure(measure)
    try:
        return cls()
    except TypeError as error:
        raise ExpungeError(
            f"the measure {cls.__name__} cannot be made without arguments: {error}; give an instance, or give each argument "
            "a default."
        ) from error


def compute_measures(
    measures: Sequence[Measure],
    unlearned: Evaluation,
    original: Evaluation | None,
    retrained: Evaluation | None,
    task: Task,
) -> tuple[dict[str, float | None], list[str]]:
    """Compute extra measures of one model.

    A measure that fails does not end the audit, because the run before it may have taken hours.

    Returns:
        {score: value or None}, and a sentence for each measure that failed.
    """
    values: dict[str, float | None] = {}
    problems = []
    for measure in measures:
        values |= dict.fromkeys(measure.score_names())
        if measure.reference and retrained is None:
            continue
        try:
            value = measure.compute(unlearned, original, retrained, task)
            values |= {name: _finite(v) for name, v in _named(measure, value).items()}
        except Exception as error:  # the measure may be the user's code
            problems.append(f"The measure {measure.name} failed and has no value: {error_text(error)}")
            warnings.warn(problems[-1], RuntimeWarning, stacklevel=3)
    return values, problems


def _named(measure: Measure, value: Any) -> dict[str, Any]:
    """Return {score: value} of what a measure computed. Raise `ValueError` if its parts are not those it declares."""
    if value is None or not measure.parts:
        return dict.fromkeys(measure.score_names(), value)
    if not isinstance(value, Mapping) or set(value) != set(measure.parts):
        raise ValueError(f"it returned {value!r}; return a value for each of {', '.join(measure.parts)}")
    return {f"{measure.name}_{part}": value[part] for part in measure.parts}


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
