"""What a grid file says: the runs it asks for, each by values alone, every problem of the file told at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .. import presets
from ..errors import ExpungeError, raise_all
from ..method import find, names
from ..methods.retrain import Retrain
from ..record import SCHEMA, plain
from ..run import Compute
from ..split_spec import SplitSpec
from ..tuning import By

ENTRIES = (
    "title", "data", "models", "seeds", "threads", "note", "recipe", "compute", "tune", "defaults", "split", "method", "published",
)  # fmt: skip
METHOD_ENTRIES = ("name", "label", "settings", "vary", "only", "but")
SCENARIOS = {"forget_class": "class", "forget_share": "random", "forget_ids": "ids", "forget_group": "group"}
OWN = "own"  # trials on each run's own split and original, as one would who must unlearn just that
TUNE = {"trials": 4, "seed": 100}  # a seed that no grid may report, or `OWN`


@dataclass(frozen=True)
class Job:
    """One run, by values alone, so that any process on any machine can do it."""

    data: str
    model: str
    split: dict[str, Any]
    seed: int
    method: str
    label: str
    settings: dict[str, Any]  # the method's fields, as the presets and the grid have them
    recipe: dict[str, Any]
    compute: dict[str, Any]
    tuning: dict[str, Any] | None = None  # trials and seed; by="gap" where the oracle chooses
    vary: dict[str, Any] = field(default_factory=dict)  # the fields of `settings` that this grid varies

    def key(self, *parts: str) -> str:
        """A name by content: of the fields `parts`, or of all that the result depends on."""
        chosen = parts or tuple(f.name for f in fields(self) if f.name not in ("label", "vary"))
        text = json.dumps([SCHEMA, {p: getattr(self, p) for p in chosen}], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def origin(self) -> str:
        """The same for jobs whose originals are made alike."""
        return self.key("data", "model", "seed", "recipe", "compute")

    @property
    def place(self) -> str:
        """The same for jobs that are judged by one retrained model."""
        return self.key("data", "model", "split", "seed", "recipe", "compute")

    @property
    def choice(self) -> str:
        """The same for jobs that one tuning serves: those that differ in the seed alone, if that has a seed of its own."""
        own = ("seed",) if (self.tuning or {}).get("seed") == OWN else ()
        return self.key("data", "model", "split", *own, "method", "settings", "recipe", "compute", "tuning")

    @property
    def tuned_on(self) -> Job:
        """The job on whose split and original its trials are made."""
        seed = (self.tuning or {}).get("seed", OWN)
        return self if seed == OWN else replace(self, seed=seed)


@dataclass
class Grid:
    """A grid file, read and checked. The jobs of one split stand together, in it those of one seed, the methods in the
    file's order: a grid that is interrupted has whole rows of the first split before it goes to the next."""

    name: str
    title: str
    jobs: list[Job]
    threads: int = 1
    note: str = ""
    skipped: list[str] = field(default_factory=list)  # methods that do not serve a split
    published: list[dict[str, Any]] = field(
        default_factory=list
    )  # tables of others, for the splits they were made on


def read_grid(path: Path, *, tuned: By | None = None) -> Grid:
    """Read and check a grid; with `tuned`, each method's settings are chosen before its runs.

    Raises `ExpungeError` with every problem at once.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExpungeError(f"{path} cannot be read as a grid: {error}.") from error
    raise_all([f"{path.name}: {p}" for p in _problems(values, tuned)], ExpungeError)
    grid = Grid(
        path.stem,
        values.get("title", path.stem),
        [],
        values.get("threads", 1),
        values.get("note", ""),
        published=values.get("published", []),
    )
    problems: list[str] = []
    axes = itertools.product(
        values["data"], values.get("models") or [""], values["split"], values["seeds"], list(_methods(values))
    )
    for data, model, split, seed, (name, entry, extra) in axes:
        kind, scenario = find(name), _scenario(split)
        label = entry.get("label", name) + "".join(f", {k} {v}" for k, v in extra.items())
        serves = "classification" in kind.tasks and (not kind.scenarios or scenario in kind.scenarios)
        if not serves or scenario not in entry.get("only", [scenario]):
            grid.skipped.append(f"{label} ({scenario})")
            continue
        fixed = {**entry.get("settings", {}), **extra}
        own = presets.SETTINGS.get((presets.kind(data), scenario), {}).get(name, {})
        # exact methods are trained by the recipe
        own_fields = set() if kind.exact else {f.name for f in fields(kind)}
        shared = {k: v for k, v in values.get("defaults", {}).items() if k in own_fields}
        problems += [f"{label}: {p}" for p in _unknown(name, fixed, kind)]
        tuning = None
        if tuned:
            # a field that every method's trials choose may not come from a preset that other trials chose
            own = {k: v for k, v in own.items() if k not in kind.search}
            tuning = {**TUNE, **values.get("tune", {}), **({"by": "gap"} if tuned == "gap" else {})}
        recipe = plain(asdict(replace(presets.recipe(data), **values.get("recipe", {}))))
        model = model or presets.MODELS.get(presets.kind(data), "cnn")
        grid.jobs.append(
            Job(data, model, split, seed, name, label, {**own, **shared, **fixed}, recipe,
                values.get("compute", {}), tuning, extra))  # fmt: skip
    raise_all([f"{path.name}: {p}" for p in dict.fromkeys(problems)], ExpungeError)
    grid.skipped = sorted(set(grid.skipped))
    return grid


def _problems(values: dict[str, Any], tuned: By | None) -> list[str]:
    """What is wrong with the file apart from the methods' own settings."""
    found = [
        f"'{k}' is no entry of a grid; known: {', '.join(sorted(ENTRIES))}."
        for k in values
        if k not in ENTRIES
    ]
    found += [
        f"the grid has no '{k}'; add it." for k in ("data", "seeds", "split", "method") if not values.get(k)
    ]
    for key in ("data", "models", "seeds", "split", "method", "published"):
        if key in values and not isinstance(values[key], list):
            found.append(f"'{key}' must be a list.")
    for key in ("recipe", "compute", "tune", "defaults"):
        if key in values and not isinstance(values[key], dict):
            found.append(f"'{key}' must be a table.")
    if found:
        return found
    found += _unknown("recipe", values.get("recipe", {}), Retrain)
    found += _unknown("compute", values.get("compute", {}), Compute)
    found += [
        f"'{k}' is no setting of tune; known: seed, trials." for k in values.get("tune", {}) if k not in TUNE
    ]
    for split in values["split"]:
        found += _unknown("split", split, SplitSpec)
        if sum(bool(split.get(flag)) for flag in SCENARIOS) != 1:
            found.append(f"a split needs exactly one of {', '.join(SCENARIOS)}; {split} came.")
    found += [
        "a published table needs `source`, `split`, and `rows` of a method's name with UA, RA, TA, MIA and avg. gap."
        for table in values.get("published", [])
        if set(table) != {"source", "split", "rows"} or any(len(row) != 6 for row in table["rows"])
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
    for entry in values["method"]:
        found += [
            f"'{k}' is no entry of a method; known: {', '.join(METHOD_ENTRIES)}."
            for k in entry
            if k not in METHOD_ENTRIES
        ]
        if entry.get("name") != "all" and entry.get("name") not in names():
            found.append(f"there is no method '{entry.get('name')}'; known: all, {', '.join(names())}.")
    return found


def _unknown(what: str, given: dict[str, Any], kind: type) -> list[str]:
    allowed = {f.name for f in fields(kind)}
    return [
        f"'{k}' is no setting of {what}; known: {', '.join(sorted(allowed))}."
        for k in given
        if k not in allowed
    ]


def _scenario(split: dict[str, Any]) -> str:
    if split.get("forget_class") and split.get("class_share", 1) != 1 and split.get("goal") == "untrain":
        return "part of a class"
    return next(scenario for flag, scenario in SCENARIOS.items() if split.get(flag))


def _methods(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, entry, varied fields): `name = "all"` stands for all methods not named before, `vary` for a product."""
    plainly = {e["name"] for e in values["method"] if not e.get("vary") and not e.get("label")}
    for entry in values["method"]:
        which = [entry["name"]]
        if entry["name"] == "all":  # exact methods are references, trained in their own way: not among them
            which = [n for n in names() if not find(n).exact and n not in {*entry.get("but", []), *plainly}]
        vary = entry.get("vary", {})
        for name in which:
            for chosen in itertools.product(*vary.values()):
                yield name, entry, dict(zip(vary, chosen, strict=True))
