"""What is wrong with a grid file: every entry against what it may hold, before anything is loaded or trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from ..audit.measure import make_measures
from ..data.split import Goal
from ..data.split_settings import SplitSpec
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..models import check_name
from ..sources import check_spec
from ..tasks.classification import Classification
from ..torch_utils.module_state import check_seed
from ..training.registry import find, names
from ..training.run import Compute
from ..training.settings import faults

ENTRIES = (
    "title", "data", "models", "seeds", "threads", "note", "measures",
    "recipe", "compute", "tune", "defaults", "split", "method", "published",
)  # fmt: skip
METHOD_ENTRIES = ("name", "label", "settings", "vary", "only", "but")
SCENARIOS = {"forget_class": "class", "forget_share": "random", "forget_ids": "ids", "forget_group": "group"}
KINDS = (*SCENARIOS.values(), "part of a class")  # of forget sets, as `only` names them
OWN = "own"  # trials on each run's own split and original, as one would who must unlearn just that
TUNE = {"trials": 4, "seed": 100}  # a seed that no grid may report, or `OWN`
WORDS = {str: "a text", dict: "a table", list: "a list"}


def checked(values: dict[str, Any], tuned: str | None) -> tuple[list[str], dict[str, Any]]:
    """What is wrong with the file apart from each method's own settings, and the file without what is wrong, so that those
    can be looked at too. Raises `ExpungeError` where the file has not even the shape of a grid."""
    raise_all(_of_shape(values), ExpungeError)
    sound = {**values}
    found = [
        f"{key}: names {one!r} twice; name it once."
        for key in ("data", "models", "seeds", "split", "measures")
        for number, one in enumerate(values.get(key, []))
        if values[key].index(one) < number
    ]
    for key, check in (
        ("data", _told(check_spec)),
        ("models", _told(check_name)),
        ("seeds", _of_seed),
        ("split", _of_split),
        ("method", _of_method),
        ("published", _of_published),
        ("measures", _of_measure),
    ):
        told = [(one, check(one)) for one in values.get(key, [])]
        found += [f"{key}: {p}" for _, problems in told for p in problems]
        sound[key] = [one for one, problems in told if not problems]
    for key, kind in (("recipe", Retrain), ("compute", Compute)):
        if problems := settings_problems(key, kind, values.get(key, {})):
            found += [f"{key}: {p}" for p in problems]
            sound[key] = {}
    own = [m["name"] for m in sound["method"] if ":" in m["name"]]
    known = {f.name for name in [*names(), *own] for f in fields(find(name))}
    found += [
        f"defaults: '{k}' is no setting of any method." for k in values.get("defaults", {}) if k not in known
    ]
    return found + _of_tune(values, tuned), sound


def settings_problems(what: str, kind: Any, given: dict[str, Any]) -> list[str]:
    """What is wrong with fields of the dataclass `kind`: unknown ones, other types, and what it says itself of the values."""
    allowed = {f.name for f in fields(kind)}
    found = [
        f"'{k}' is no setting of {what}; known: {', '.join(sorted(allowed))}."
        for k in given
        if k not in allowed
    ]
    if found:
        return found
    return faults(kind(**given))


def _of_shape(values: dict[str, Any]) -> list[str]:
    """What is no entry, is missing, or is not a list, a table or a text as it must be."""
    found = [
        f"'{k}' is no entry of a grid; known: {', '.join(sorted(ENTRIES))}."
        for k in values
        if k not in ENTRIES
    ]
    found += [
        f"the grid has no '{k}'; add it." for k in ("data", "seeds", "split", "method") if not values.get(k)
    ]
    for kind, keys in (
        (list, ("data", "models", "seeds", "split", "method", "published", "measures")),
        (dict, ("recipe", "compute", "tune", "defaults")),
        (str, ("title", "note")),
    ):
        found += [
            f"'{k}' must be {WORDS[kind]}." for k in keys if k in values and not isinstance(values[k], kind)
        ]
    found += [
        f"an entry of '{key}' must be {WORDS[kind]}; {one!r} came."
        for key, kind in (
            ("data", str),
            ("models", str),
            ("split", dict),
            ("method", dict),
            ("published", dict),
            ("measures", str),
        )
        for one in (values.get(key) if isinstance(values.get(key), list) else [])  # type: ignore[union-attr]
        if not isinstance(one, kind)
    ]
    threads = values.get("threads", 1)
    if type(threads) is not int or threads < 1:
        found.append(f"'threads' is {threads!r}; give a whole number of 1 or more.")
    return found


def _told(check: Callable[[str], object]) -> Callable[[Any], list[str]]:
    """A check that raises, as one that tells."""

    def tell(given: Any) -> list[str]:
        try:
            check(given)
        except ExpungeError as error:
            return error.problems
        return []

    return tell


def _of_seed(seed: Any) -> list[str]:
    if type(seed) is not int:
        return [f"the seed is {seed!r}; give a whole number from 0."]
    return _told(check_seed)(seed)  # type: ignore[arg-type]


def _of_split(split: dict[str, Any]) -> list[str]:
    if sum(bool(split.get(flag)) for flag in SCENARIOS) != 1:
        also = [p for p in settings_problems("split", SplitSpec, split) if "is no setting" in p]
        return [*also, f"a split needs exactly one of {', '.join(SCENARIOS)}; {split} came."]
    if "split_seed" in split:
        return ["'split_seed' is not for a grid, whose 'seeds' draw its splits; leave it out."]
    found = [
        f"'{key}' must be {WORDS[kind]}; {split[key]!r} came."
        for key, kind in (("forget_class", list), ("forget_ids", str), ("forget_group", str))
        if key in split and not isinstance(split[key], kind)
    ]
    if split.get("goal", "untrain") not in get_args(Goal):
        found.append(f"goal is {split['goal']!r}; it must be {' or '.join(get_args(Goal))}.")
    if not found and "forget_ids" in split and not Path(split["forget_ids"]).is_file():
        found.append(f"forget_ids: {split['forget_ids']} is no file; name one with an id a line.")
    return found or settings_problems("split", SplitSpec, split)


def _of_method(entry: dict[str, Any]) -> list[str]:
    found = [
        f"'{k}' is no entry of a method; known: {', '.join(METHOD_ENTRIES)}."
        for k in entry
        if k not in METHOD_ENTRIES
    ]
    if entry.get("name") != "all" and entry.get("name") not in names():
        found += _of_own_method(entry.get("name"))
    for key, kind in (("label", str), ("settings", dict), ("vary", dict), ("only", list), ("but", list)):
        if key in entry and not isinstance(entry[key], kind):
            found.append(f"'{key}' must be {WORDS[kind]}; {entry[key]!r} came.")
    if found:
        return found
    found += [
        f"'{key}' names {one!r}; known: {', '.join(known)}."
        for key, known in (("only", KINDS), ("but", names()))
        for one in entry.get(key, [])
        if one not in known
    ]
    return found + [
        f"'vary' has {k} = {v!r}; give a list of one or more values."
        for k, v in entry.get("vary", {}).items()
        if not isinstance(v, list) or not v
    ]


def _of_own_method(name: Any) -> list[str]:
    """Return what is wrong with a method's name that is none of `names()`: `package.module:Class` is allowed."""
    if not isinstance(name, str) or ":" not in name:
        known = ", ".join(names())
        return [
            f"there is no method '{name}'; known: all, {known}. Write package.module:Class for one of your own."
        ]
    return _told(find)(name)


def _of_measure(name: str) -> list[str]:
    return _told(lambda name: make_measures([name], Classification(2)))(name)


def _of_published(table: dict[str, Any]) -> list[str]:
    rows = table.get("rows")
    whole = set(table) == {"source", "split", "rows"} and isinstance(rows, list)
    if whole and all(isinstance(row, list) and len(row) == 6 for row in table["rows"]):
        return []
    return [
        "a published table needs `source`, `split`, and `rows` of a method's name with UA, RA, TA, MIA and avg. gap."
    ]


def _of_tune(values: dict[str, Any], tuned: str | None) -> list[str]:
    found = [
        f"'{k}' is no setting of tune; known: seed, trials." for k in values.get("tune", {}) if k not in TUNE
    ]
    tune = {**TUNE, **values.get("tune", {})}
    seed, trials = tune["seed"], tune["trials"]
    if seed != OWN and type(seed) is not int:
        found.append(f"the seed of tune is {seed!r}; give a number, or '{OWN}' for each run's own.")
    if type(trials) is not int or trials < 1:
        found.append(f"the trials of tune are {trials!r}; give a whole number of 1 or more.")
    if tuned and seed in values["seeds"]:
        found.append(
            f"tuning uses seed {seed}, which is also reported; give [tune] another seed, or '{OWN}' for trials on each run's own."
        )
    return found
