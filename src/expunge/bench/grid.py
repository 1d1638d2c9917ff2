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

from ..audit.measure import find_measure
from ..errors import ExpungeError, raise_all
from ..extensions import source_of
from ..records.record import SCHEMA, plain
from ..records.statistics import grouped
from ..tasks.classification import Classification
from ..training.method import PACKAGE
from ..training.registry import find, names, serves
from ..tuning import presets
from ..tuning.trials import By
from .checks import OWN, SCENARIOS, TUNE, checked, settings_problems


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
    measures: tuple[str, ...] = ()  # extra measures, by name

    def key(self, *parts: str) -> str:
        """A name by content: of the fields `parts`, or of all that the result depends on."""
        chosen = parts or tuple(f.name for f in fields(self) if f.name not in ("label", "vary"))
        values = {p: getattr(self, p) for p in chosen}
        if "split" in values and (ids := self.split.get("forget_ids")):  # another list is another forget set
            values["ids"] = hashlib.sha256(Path(ids).read_bytes()).hexdigest()
        if not self.measures:  # records made before there were extra measures keep their names
            values.pop("measures", None)
        values |= {f"source of {p}": code for p in chosen if (code := self._own_code(p))}
        text = json.dumps([SCHEMA, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _own_code(self, part: str) -> list[str | None]:
        """Hashes of the source of code that is not in this package: another version of it gives another result."""
        classes: list[type] = []
        if part == "method":
            classes = [find(self.method)]
        elif part == "measures":
            classes = [find_measure(m) for m in self.measures]
        return [source_of(c)["source_sha256"] for c in classes if not c.__module__.startswith(f"{PACKAGE}.")]

    @property
    def measured(self) -> str:
        """Key of the extra measures, for the records of the references; empty without any."""
        return self.key("measures") if self.measures else ""

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
    for split in _splits(values):
        if isinstance(split.get("forget_class"), str | int):  # one class: a text is not a list of its letters
            split["forget_class"] = [split["forget_class"]]
    try:
        problems, sound = checked(values, tuned)
        jobs, skipped, more = _jobs(sound, tuned)
        problems += more
        raise_all(problems or _same(jobs), ExpungeError)
        if not jobs:
            raise ExpungeError(f"no method serves a split that it is asked for ({'; '.join(skipped)}).")
    except ExpungeError as error:
        raise ExpungeError([f"{path.name}: {p}" for p in error.problems]) from error
    return Grid(path.stem, values.get("title", path.stem), jobs, values.get("threads", 1), values.get("note", ""),
                skipped, values.get("published", []))  # fmt: skip


def _jobs(values: dict[str, Any], tuned: By | None) -> tuple[list[Job], list[str], list[str]]:
    """The runs, the methods that do not serve a split, and what is wrong with the settings of methods."""
    jobs, skipped, problems = [], [], []
    axes = itertools.product(
        values["data"], values["models"] or [""], values["split"], values["seeds"], list(_methods(values))
    )
    for data, model, split, seed, (name, entry, extra) in axes:
        kind, scenario = find(name), _scenario(split)
        label = entry.get("label", name) + "".join(f", {k} {v}" for k, v in extra.items())
        suited = serves(kind, Classification) and (not kind.scenarios or scenario in kind.scenarios)
        if not suited or scenario not in entry.get("only", [scenario]):
            skipped.append(f"{label} ({scenario})")
            continue
        fixed = {**entry.get("settings", {}), **extra}
        own = presets.SETTINGS.get((presets.data_name(data), scenario), {}).get(name, {})
        # exact methods are trained by the recipe
        own_fields = set() if kind.exact else {f.name for f in fields(kind)}
        shared = {k: v for k, v in values.get("defaults", {}).items() if k in own_fields}
        tuning = None
        if tuned:
            # a field that every method's trials choose may not come from a preset that other trials chose
            own = {k: v for k, v in own.items() if k not in kind.search}
            tuning = {**TUNE, **values.get("tune", {}), **({"by": "gap"} if tuned == "gap" else {})}
        settings = {**own, **shared, **fixed}
        problems += [f"{label}: {p}" for p in settings_problems(name, kind, settings)]
        recipe = plain(asdict(replace(presets.recipe(data), **values.get("recipe", {}))))
        model = model or presets.MODELS.get(presets.data_name(data), "cnn")
        jobs.append(
            Job(data, model, split, seed, name, label, settings, recipe,
                values.get("compute", {}), tuning, extra, tuple(values.get("measures", ()))))  # fmt: skip
    return jobs, sorted(set(skipped)), list(dict.fromkeys(problems))


def _splits(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every split that the file names, those of published tables among them."""
    for key in ("split", "published"):
        for one in values[key] if isinstance(values.get(key), list) else []:
            split = one.get("split") if key == "published" and isinstance(one, dict) else one
            if isinstance(split, dict):
                yield split


def _same(jobs: list[Job]) -> list[str]:
    """Runs that would stand in one row as if they were seeds, or that are one run under two labels."""
    found = {}
    for of in (lambda j: (j.place, j.label), lambda j: j.key()):
        for group in grouped(jobs, of):
            if len(group) > 1:
                a, b = group[:2]
                found[a.label, b.label] = (
                    f"two methods are called '{a.label}'; give one a 'label'."
                    if a.label == b.label
                    else f"'{a.label}' and '{b.label}' are the same run; leave one out."
                )
    return list(found.values())


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
