"""`expunge.toml`: everything that the commands of a project share, checked as a whole."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ..data.validation_source import source_problems
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..models import check_name
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import check_original
from ..records.checkpoint_requests import public_requests
from ..sources.loading import load
from ..sources.source import Source
from ..sources.spec import check_spec
from ..tasks.classification import Classification
from ..torch_utils.module_state import seed_problems
from ..training.execute import check_run
from ..training.method import Method
from ..training.registry import find
from ..training.run import Compute
from ..training.settings import field_problems
from ..tuning import presets
from ..tuning.checks import trial_problems
from ..tuning.search import AUTO, tries
from .device_entry import check_device
from .entries import Entries
from .held_out import any_split
from .own_modules import use_modules
from .setting_paths import fixed_paths, missing_places


class ProjectSettings(Entries):
    """The entries of `expunge.toml`, and what they stand for. `Entries` documents each of them."""

    def make_method(self, scenario: Literal["class", "random"] = "random") -> Method:
        """Return the method with the settings of the file above those of the preset."""
        chosen = find(self.method)
        made = presets.method(self.method, self.data, scenario) if ":" not in self.method else chosen()
        values = {f.name: getattr(made, f.name) for f in fields(made)}
        return chosen(**{**values, **_tuples(self.settings)})

    def make_recipe(self, trained: Method | None = None) -> Retrain:
        """Return the training recipe of the reference: `[recipe]` of the file, above that of the model, above the preset.

        Args:
            trained: How the model was trained, if its checkpoint says it (`recipe_from_metadata`).
        """
        made = trained if type(trained) is Retrain else presets.recipe(self.data)
        values = {f.name: getattr(made, f.name) for f in fields(made)}
        return Retrain(**{**values, **_tuples(self.recipe)})

    def build(self, source: Source) -> Any:
        """Return the model with fresh parameters, on the CPU."""
        from ..models import build

        return build(self.model, num_classes=len(source.classes), shape=source.shape)


def checked(values: dict[str, Any], where: str = "expunge.toml") -> ProjectSettings:
    """Check entries as a whole.

    Args:
        values: The entries.
        where: Where they stand, for messages.

    Raises:
        ExpungeError: Lists every problem with the entry and what is allowed.
    """
    errors: list[Any] = []
    try:
        ProjectSettings.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    problems = [_sentence(error) for error in errors]
    wrong = {str(error["loc"][0]) for error in errors if error["loc"]}
    # entries with a problem get a value that has none, so that the others are checked too
    filled = {"data": "digits", "model": "cnn", **{k: v for k, v in values.items() if k not in wrong}}
    settings = ProjectSettings.model_validate(filled)
    problems += _value_problems(settings, set(values) - wrong)
    raise_all([f"{where}: {p}" for p in dict.fromkeys(problems)])
    return settings


def read_settings(path: Path) -> ProjectSettings:
    """Read and check the file; its relative paths begin at its folder. Raises `ExpungeError` with every problem."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExpungeError(f"{path} cannot be read: {error}; write it in TOML.") from error
    return checked(fixed_paths(values, path.parent), path.name)


def _value_problems(settings: ProjectSettings, given: set[str]) -> list[str]:
    """Return what is wrong with entries that have the right types, one sentence each."""
    checks: dict[str, Any] = {
        # the others import modules
        "modules": lambda: use_modules(settings),
        "data": lambda: check_spec(settings.data),
        "model": lambda: check_name(settings.model),
        "validation_from": lambda: raise_all(
            source_problems(settings.validation, settings.validation_from, False)
        ),
        "seed": lambda: raise_all(seed_problems(settings.seed)),
        "split_seed": lambda: raise_all(seed_problems(settings.split_seed)),
        "method": lambda: _check_method(settings.method),
        "measures": lambda: _check_measures(settings),
        "compute": lambda: _check_fields("compute", Compute, settings.compute),
        "recipe": lambda: _check_fields("recipe", Retrain, settings.recipe),
        "device": lambda: check_device(settings.device),
    }
    problems = {name: _problems_of(check) for name, check in checks.items()}
    if not problems["method"]:
        chosen = find(settings.method)
        problems["settings"] = _problems_of(lambda: _check_fields(settings.method, chosen, settings.settings))
        if not problems["settings"]:
            problems["trials"] = _trial_problems(settings)
    sentences = [
        f"{name}: {p}"
        for name, found in problems.items()
        if name in {*given, "settings", "trials"}
        for p in found
    ]
    for name in ("sign_key", "passphrase_file"):
        if (file := getattr(settings, name)) is not None and not Path(file).expanduser().is_file():
            sentences.append(f"{name}: {file} is no file; name an existing one.")
    if settings.max_gap is not None and not settings.reference:
        sentences.append(
            "max_gap: without a reference there is no gap; add reference = true, or leave max_gap out."
        )
    if not problems["data"]:
        sentences += [f"data: {text}" for text in missing_places(settings.data)]
    return sentences


def load_original(
    settings: ProjectSettings, checkpoint: Path, known: Sequence[str] = ()
) -> tuple[Checkpoint | None, Source | None, list[str]]:
    """Load data and checkpoint, and check that they fit together. `known` are classes that keep their numbers.

    Returns:
        The checkpoint, the data, and what is wrong with data and checkpoint, one sentence each.
    """
    loaded: dict[str, Any] = {}
    problems = [f"data: {p}" for p in _problems_of(lambda: loaded.update(source=load(settings.data, known)))]
    problems += [
        f"checkpoint: {p}"
        for p in _problems_of(lambda: loaded.update(checkpoint=read_checkpoint(checkpoint, settings.ema)))
    ]
    if not problems:
        problems += [f"checkpoint: {p}" for p in _problems_of(lambda: _check_fit(settings, **loaded))]
    return loaded.get("checkpoint"), loaded.get("source"), problems


def _check_fit(settings: ProjectSettings, source: Source, checkpoint: Checkpoint) -> None:
    model = settings.build(source)
    load_into(model, checkpoint)
    check_inputs(model, source)
    # of a model that has answered requests, the data may have lost samples since
    split = any_split(source, settings.validation, settings.split_seed, settings.validation_from)
    check_original(checkpoint, split, same_data=not public_requests(checkpoint))


def check_inputs(model: Any, source: Source) -> None:
    """Run two samples through the model. Raises `ExpungeError` with every reason why model and data do not fit."""
    task = Classification(len(source.classes))
    raise_all(
        [f"data and model: {p}" for p in _problems_of(lambda: task.check(model, source.train.samples()))]
    )


def _trial_problems(settings: ProjectSettings) -> list[str]:
    """Return what is wrong with a number of trials. "auto" takes the settings as they are where there is nothing to try."""
    count = settings.trials
    if count == AUTO or not tries(count):
        return []
    problems = trial_problems(settings.make_method(), count, sorted(settings.settings))
    if not settings.validation:
        problems.append(
            'trials are chosen on validation samples; set validation (validation_from = "test" if the model saw all training '
            'samples), or trials to "auto" or 0.'
        )
    return problems


def _check_method(name: str) -> None:
    """Raise `ExpungeError` if a method does not exist, or cannot answer requests: its file would still have what the model knew."""
    chosen = find(name)
    if reason := chosen.python_only or chosen.hides_only:
        raise ExpungeError(reason)
    check_run(chosen(), None, Classification(2))


def _check_fields(owner: str, made: Any, values: dict[str, Any]) -> None:
    """Raise `ExpungeError` for fields that a dataclass lacks or refuses."""
    raise_all(field_problems(owner, made, _tuples(values)))


def _check_measures(settings: ProjectSettings) -> None:
    from ..audit.measure import make_measures

    make_measures(settings.measures, Classification(2), retrained=settings.reference)


def _problems_of(check: Any) -> list[str]:
    try:
        check()
    except ExpungeError as error:
        return error.problems
    return []


def _sentence(error: Any) -> str:
    where, kind = ".".join(map(str, error["loc"])), error["type"]
    if kind == "extra_forbidden":
        return f"'{where}' is no entry; known: {', '.join(sorted(ProjectSettings.model_fields))}."
    if kind == "missing":
        return f"'{where}' is missing; add it."
    if error["loc"][0] == "trials":
        return f'trials is {error["input"]!r}; it must be a whole number of at least 0, or "auto".'
    return f"{where} is {error['input']!r}; it must be {error['msg'].removeprefix('Input should be ')}."


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
