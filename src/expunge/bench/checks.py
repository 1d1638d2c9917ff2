"""Check a grid file: every entry against what it may hold, before anything is loaded or trained."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Required, get_args

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..audit.measure import make_measures
from ..data.split import Goal
from ..data.split_settings import SplitSpec
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..models import check_name
from ..sources.spec import check_spec
from ..tasks.classification import Classification
from ..torch_utils.module_state import check_seed
from ..training.registry import METHODS, find, names
from ..training.run import Compute
from ..training.settings import field_problems
from .labels import label_problems

SCENARIOS = {"forget_class": "class", "forget_share": "random", "forget_ids": "ids", "forget_group": "group"}
# The forget sets that `only` can name. The last one is forgotten by class too.
ForgetSet = Literal["class", "random", "ids", "group", "part of a class"]
# The seed of trials on each run's own split and original, as someone has them who must unlearn just that.
OWN = "own"
# The default seed is one that no grid may report.
TUNE = {"trials": 4, "seed": 100}


def _check_split(split: dict[str, Any]) -> None:
    if "split_seed" in split:
        raise ExpungeError("'split_seed' is not for a grid, whose 'seeds' draw its splits; leave it out.")
    types: dict[str, tuple[type, str]] = {
        "forget_class": (list, "a list"), "forget_ids": (str, "a text"), "forget_group": (str, "a text"),
        "unseen_ids": (str, "a text"),
    }  # fmt: skip
    problems = [
        f"{key} is {split[key]!r}; it must be {words}."
        for key, (kind, words) in types.items()
        if key in split and not isinstance(split[key], kind)
    ]
    if split.get("goal", "untrain") not in get_args(Goal):
        problems.append(f"goal is {split['goal']!r}; it must be {' or '.join(get_args(Goal))}.")
    problems += [
        f"{key}: {ids} is no file; give a file with one id per line."
        for key in ("forget_ids", "unseen_ids")
        if isinstance(ids := split.get(key), str) and not Path(ids).is_file()
    ]
    problems = problems or field_problems("split", SplitSpec, split)
    if not problems and not any(split.get(flag) for flag in SCENARIOS):
        problems.append(f"it names nothing to forget; give one of {', '.join(SCENARIOS)}.")
    raise_all(problems)


def _check_method(name: str) -> None:
    if ":" in name:
        find(name)
    elif name not in ("all", *names()):
        raise ExpungeError(
            f"there is no method '{name}'; known: all, {', '.join(names())}. Write package.module:Class for one of your own."
        )


def _check_label(label: str) -> None:
    raise_all(label_problems(label))


def _check_measure(name: str) -> None:
    make_measures([name], Classification(2))


def _default_problems(values: Table) -> list[str]:
    """Return the defaults that are no setting of a built-in method or of one that the grid names."""
    own = [find(m["name"]) for m in values["method"] if ":" in m["name"]]
    known = {f.name for method in [*METHODS.classes().values(), *own] for f in fields(method)}
    return [
        f"defaults: '{k}' is no setting of any method." for k in values.get("defaults", {}) if k not in known
    ]


def _check_published(table: dict[str, Any]) -> None:
    rows = table.get("rows")
    if set(table) != {"source", "split", "rows"} or not (
        isinstance(rows, list) and all(isinstance(row, list) and len(row) == 6 for row in rows)
    ):
        raise ExpungeError(
            "a published table needs `source`, `split`, and `rows` of a method's name with UA, RA, TA, MIA and avg. gap."
        )


def _check_tuning_seed(seed: Any) -> None:
    if seed != OWN and type(seed) is not int:
        raise ExpungeError(f"the seed is {seed!r}; give a number, or '{OWN}' for each run's own.")


def _settings_of(owner: str, settings: Any) -> AfterValidator:
    return AfterValidator(lambda values: raise_all(field_problems(owner, settings, values)))


STRICT = ConfigDict(extra="forbid", strict=True)
Table = dict[str, Any]
Positive = Annotated[int, Field(ge=1)]
MethodName = Annotated[str, AfterValidator(_check_method)]


class MethodEntry(TypedDict, total=False):
    """One `[[method]]` of a grid file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    name: Required[MethodName]
    label: Annotated[str, AfterValidator(_check_label)]
    settings: Table
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]]
    only: list[ForgetSet]
    but: list[MethodName]


class Tuning(TypedDict, total=False):
    """The `[tune]` of a grid file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    trials: Positive
    seed: Annotated[Any, AfterValidator(_check_tuning_seed)]


class GridFile(TypedDict, total=False):
    """A grid file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    title: str
    data: Required[Annotated[list[Annotated[str, AfterValidator(check_spec)]], Field(min_length=1)]]
    models: list[Annotated[str, AfterValidator(check_name)]]
    seeds: Required[Annotated[list[Annotated[int, AfterValidator(check_seed)]], Field(min_length=1)]]
    threads: Positive
    note: str
    recipe: Annotated[Table, _settings_of("recipe", Retrain)]
    compute: Annotated[Table, _settings_of("compute", Compute)]
    tune: Tuning
    defaults: Table
    split: Required[Annotated[list[Annotated[Table, AfterValidator(_check_split)]], Field(min_length=1)]]
    method: Required[Annotated[list[MethodEntry], Field(min_length=1)]]
    published: list[Annotated[Table, AfterValidator(_check_published)]]
    measures: list[Annotated[str, AfterValidator(_check_measure)]]


ENTRIES = {"": GridFile, "method": MethodEntry, "tune": Tuning}


def checked(values: Table, tuned: str | None) -> tuple[list[str], Table]:
    """Check a grid file, apart from the settings of each method.

    Args:
        values: The file.
        tuned: How the settings are chosen, or None if they are not.

    Returns:
        The problems, and the file without the entries that have problems.
    """
    errors: list[Any] = []
    try:
        TypeAdapter(GridFile).validate_python(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    problems = [p for error in errors for p in _sentences(error)]
    wrong = {error["loc"][:2] for error in errors}
    sound: Table = {"data": [], "models": [], "seeds": [], "split": [], "method": []}
    for key, value in values.items():
        if isinstance(value, list):
            value = [entry for n, entry in enumerate(value) if (key, n) not in wrong]
        elif isinstance(value, dict):
            value = {k: v for k, v in value.items() if (key, k) not in wrong}
        if (key,) not in wrong:
            sound[key] = value
    problems += [
        f"{key}: names {entry!r} twice; name it once."
        for key in ("data", "models", "seeds", "split", "measures")
        for number, entry in enumerate(sound.get(key, []))
        if sound[key].index(entry) < number
    ]
    problems += _default_problems(sound)
    if tuned and (seed := {**TUNE, **sound.get("tune", {})}["seed"]) in sound["seeds"]:
        problems.append(
            f"tuning uses seed {seed}, which is also reported; give [tune] another seed, or '{OWN}' for trials on each run's own."
        )
    return problems, sound


def _sentences(error: Any) -> list[str]:
    """Say where an entry is wrong, and what is allowed there. Lists count from 1."""
    place, value, kind = error["loc"], error["input"], error["type"]
    where = "".join(f" {k + 1}" if isinstance(k, int) else f", {k}" for k in place).removeprefix(", ")
    if isinstance(cause := error.get("ctx", {}).get("error"), ExpungeError):
        return [f"{where}: {p}" for p in cause.problems]
    if kind == "extra_forbidden":
        known = ENTRIES[place[0] if len(place) > 1 else ""].__annotations__
        return [f"{where} is no entry; known: {', '.join(sorted(known))}."]
    if kind in ("missing", "too_short"):
        return [f"{where} is {'missing; add it' if kind == 'missing' else 'empty; give one or more values'}."]
    allowed = error["msg"].removeprefix("Input should be ").replace("valid dictionary", "table")
    return [
        f"{where} is {value!r}; it must be {allowed.replace('a valid integer', 'an integer').replace('valid ', '')}."
    ]
