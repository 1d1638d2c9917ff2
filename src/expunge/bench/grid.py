"""Read a grid file, and list the runs that it asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all
from ..records.record import SCHEMA, settings_of
from ..records.statistics import grouped
from ..tasks.classification import Classification
from ..training.registry import METHODS, find, serves
from ..training.settings import field_problems
from ..tuning import presets
from ..tuning.search import By
from . import own_sources
from .checks import OWN, SCENARIOS, TUNE, checked


@dataclass(frozen=True)
class Job:
    """One run. It holds values only, so any process on any machine can do it.

    Args:
        data: Name of the data, as for `--data`.
        model: Name of the model, as for `--model`.
        split: The split, as the grid file gives it.
        seed: Seed of the run.
        method: Name of the method.
        label: Name of the run in tables.
        settings: Fields of the method, from presets and grid.
        recipe: Fields of the training recipe.
        compute: Fields of `Compute`.
        tuning: Number of trials and their seed, and "by" if the gap to Retrain chooses. None without tuning.
        vary: The settings that the grid varies, with this run's values.
        measures: Extra measures, by name.
    """

    data: str
    model: str
    split: dict[str, Any]
    seed: int
    method: str
    label: str
    settings: dict[str, Any]
    recipe: dict[str, Any]
    compute: dict[str, Any]
    tuning: dict[str, Any] | None = None
    vary: dict[str, Any] = field(default_factory=dict)
    measures: tuple[str, ...] = ()

    def key(self, *parts: str) -> str:
        """Return a cache key of the fields `parts`. By default, of all fields that the result depends on."""
        chosen = parts or tuple(f.name for f in fields(self) if f.name not in ("label", "vary"))
        values = {p: getattr(self, p) for p in chosen}
        # A file with other ids gives another forget set.
        for key, name in (("ids", "forget_ids"), ("unseen", "unseen_ids")):
            if "split" in values and (ids := self.split.get(name)):
                values[key] = hashlib.sha256(Path(ids).read_bytes()).hexdigest()
        if not self.measures:  # records made before there were extra measures keep their names
            values.pop("measures", None)
        values |= {f"source of {p}": code for p in chosen if (code := self._own_code(p))}
        text = json.dumps([SCHEMA, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _own_code(self, part: str) -> own_sources.Hashes:
        """Hashes of the source of code that is not in this package: another version of it gives another result."""
        hashes = {
            "method": lambda: own_sources.of_method(self.method),
            "measures": lambda: own_sources.of_measures(self.measures),
            "data": lambda: own_sources.of_data(self.data),
            "model": lambda: own_sources.of_model(self.model),
        }
        return hashes[part]() if part in hashes else []

    @property
    def measured(self) -> str:
        """Key of the extra measures, for the records of the references; empty without any."""
        return self.key("measures") if self.measures else ""

    @property
    def origin(self) -> str:
        """Cache key of the original."""
        return self.key("data", "model", "seed", "recipe", "compute")

    @property
    def place(self) -> str:
        """Cache key of the retrained model."""
        return self.key("data", "model", "split", "seed", "recipe", "compute")

    @property
    def choice(self) -> str:
        """Cache key of the tuning result. Jobs that differ only in their seed share it, unless each tunes on its own."""
        seed = ("seed",) if (self.tuning or {}).get("seed") == OWN else ()
        return self.key("data", "model", "split", *seed, "method", "settings", "recipe", "compute", "tuning")

    @property
    def tuned_on(self) -> Job:
        """The job whose split and original the trials use."""
        seed = (self.tuning or {}).get("seed", OWN)
        return self if seed == OWN else replace(self, seed=seed)


@dataclass
class Grid:
    """A grid file that was read and checked.

    Args:
        name: Name of the file.
        title: Title of the result.
        jobs: The runs, in the order of data, models, splits, seeds and methods. An interrupted grid therefore has whole
            rows of the first splits.
        threads: Number of threads of each process.
        note: Remark for the results page.
        skipped: Methods that do not support a split of the file.
        published: Published tables, each for one split.
    """

    name: str
    title: str
    jobs: list[Job]
    threads: int = 1
    note: str = ""
    skipped: list[str] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)


def read_grid(path: Path, *, tuned: By | None = None) -> Grid:
    """Read and check a grid file.

    Args:
        path: The file.
        tuned: What chooses the settings of each method before its runs. None uses the settings as they are.

    Raises:
        ExpungeError: Lists every problem.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExpungeError(f"{path} cannot be read as a grid: {error}.") from error
    for split in _splits(values):
        # A text would otherwise be read as a list of its letters.
        if isinstance(split.get("forget_class"), str | int):
            split["forget_class"] = [split["forget_class"]]
    try:
        problems, sound = checked(values, tuned)
        jobs, skipped, more = _jobs(sound, tuned)
        problems += more
        raise_all(problems or _same(jobs), ExpungeError)
        if not jobs:
            raise ExpungeError(
                f"no method supports any split of the grid ({'; '.join(skipped)}); add another method or split."
            )
    except ExpungeError as error:
        raise ExpungeError([f"{path.name}: {p}" for p in error.problems]) from error
    return Grid(path.stem, values.get("title", path.stem), jobs, values.get("threads", 1), values.get("note", ""),
                skipped, values.get("published", []))  # fmt: skip


def _jobs(values: dict[str, Any], tuned: By | None) -> tuple[list[Job], list[str], list[str]]:
    """Return the runs, the methods that do not support a split, and the problems of the methods' settings."""
    jobs, skipped, problems = [], [], []
    axes = itertools.product(
        values["data"], values["models"] or [""], values["split"], values["seeds"], list(_methods(values))
    )
    for data, model, split, seed, (name, entry, extra) in axes:
        method, scenario = find(name), _scenario(split)
        label = entry.get("label", name) + "".join(f", {k} {v}" for k, v in extra.items())
        suited = serves(method, Classification) and (not method.scenarios or scenario in method.scenarios)
        if not suited or scenario not in entry.get("only", [scenario]):
            skipped.append(f"{label} ({scenario})")
            continue
        fixed = {**entry.get("settings", {}), **extra}
        preset = presets.SETTINGS.get((presets.data_name(data), scenario), {}).get(name, {})
        # Exact methods are trained by the recipe.
        has = set() if method.exact else {f.name for f in fields(method)}
        shared = {k: v for k, v in values.get("defaults", {}).items() if k in has}
        tuning = None
        if tuned:
            # Other trials chose the values of the preset.
            preset = {k: v for k, v in preset.items() if k not in method.search}
            tuning = {**TUNE, **values.get("tune", {}), **({"by": "gap"} if tuned == "gap" else {})}
        settings = {**preset, **shared, **fixed}
        problems += [f"{label}: {p}" for p in field_problems(name, method, settings)]
        recipe = settings_of(replace(presets.recipe(data), **values.get("recipe", {})))
        model = model or presets.MODELS.get(presets.data_name(data), "cnn")
        jobs.append(
            Job(data, model, split, seed, name, label, settings, recipe,
                values.get("compute", {}), tuning, extra, tuple(values.get("measures", ()))))  # fmt: skip
    return jobs, sorted(set(skipped)), list(dict.fromkeys(problems))


def _splits(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every split of the file, with those of published tables. The file is not checked yet."""
    for key in ("split", "published"):
        for entry in values[key] if isinstance(values.get(key), list) else []:
            split = entry.get("split") if key == "published" and isinstance(entry, dict) else entry
            if isinstance(split, dict):
                yield split


def _same(jobs: list[Job]) -> list[str]:
    """Find runs that a table would show in one row as if they were seeds, and runs that have two labels."""
    problems = {}
    for of in (lambda j: (j.place, j.label), lambda j: j.key()):
        for group in grouped(jobs, of):
            if len(group) > 1:
                a, b = group[:2]
                problems[a.label, b.label] = (
                    f"two methods are called '{a.label}'; give one a 'label'."
                    if a.label == b.label
                    else f"'{a.label}' and '{b.label}' are the same run; leave one out."
                )
    return list(problems.values())


def _scenario(split: dict[str, Any]) -> str:
    if split.get("forget_class") and split.get("class_share", 1) != 1 and split.get("goal") == "untrain":
        return "part of a class"
    return next(scenario for flag, scenario in SCENARIOS.items() if split.get(flag))


def _methods(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield (name, entry, varied settings) of each run. "all" stands for the methods that no other entry names."""
    named = {e["name"] for e in values["method"] if not e.get("vary") and not e.get("label")}
    for entry in values["method"]:
        which = [entry["name"]]
        # Exact methods are references, so they are no part of "all".
        if entry["name"] == "all":
            left_out = {*entry.get("but", []), *named}
            which = [n for n, m in METHODS.classes().items() if not m.exact and n not in left_out]
        vary = entry.get("vary", {})
        for name in which:
            for chosen in itertools.product(*vary.values()):
                yield name, entry, dict(zip(vary, chosen, strict=True))
