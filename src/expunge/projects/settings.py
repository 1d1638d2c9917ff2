"""The settings of a project: the file `expunge.toml`, read and checked as a whole."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..models import check_name
from ..sources.spec import check_spec
from ..tasks.classification import Classification
from ..training.method import Method
from ..training.registry import find, serves, unsuited_text
from ..training.run import Compute
from ..training.settings import settings_problems
from ..tuning import presets

FILE = "expunge.toml"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ModelTable(_Table):
    """The table [model]: what is unlearned from."""

    data: str
    model: str
    device: str = "cpu"
    checkpoint: str


class SplitTable(_Table):
    """The table [split]: how the validation set is drawn."""

    validation: float = Field(default=0.1, ge=0, lt=1)
    split_seed: int = Field(default=0, ge=0)


class MethodTable(_Table):
    """The table [method]: the method, the seed of its runs, and its settings."""

    name: str = "salun"
    seed: int = Field(default=0, ge=0)
    rehearse: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)


class LimitsTable(_Table):
    """The table [limits]: when an earlier request counts as learned again, and the days to answer in."""

    tolerance: float = Field(default=2.0, ge=0, le=100)
    days: int = Field(default=28, ge=0, le=3650)


class KeysTable(_Table):
    """The table [keys]: the private key that signs receipts, and the file with its passphrase."""

    sign_key: str = ""
    passphrase_file: str = ""


class Settings(_Table):
    """The content of `expunge.toml`.

    Args:
        model: Data, model, device and checkpoint.
        split: How the validation set is drawn.
        method: The method and its settings.
        recipe: Fields of the training recipe (`Retrain`), with which retraining is compared. By default that of the data.
        compute: Fields of `Compute`: precision, memory layout and so on.
        limits: Limits of the audit and of the ledger.
        keys: Keys of the receipts.
    """

    model: ModelTable
    split: SplitTable = SplitTable()
    method: MethodTable = MethodTable()
    recipe: dict[str, Any] = Field(default_factory=dict)
    compute: dict[str, Any] = Field(default_factory=dict)
    limits: LimitsTable = LimitsTable()
    keys: KeysTable = KeysTable()

    def make_method(self, scenario: str = "ids") -> Method:
        """Return the method for a scenario: its preset for the data, with the fields of [method.settings]."""
        if ":" in self.method.name:
            return find(self.method.name)(**self.method.settings)
        return replace(presets.method(self.method.name, self.model.data, scenario), **self.method.settings)

    def make_recipe(self) -> Retrain:
        """Return the training recipe: that of the data, with the fields of [recipe]."""
        return replace(presets.recipe(self.model.data), **self.recipe)

    def make_compute(self) -> Compute:
        """Return how the arithmetic is done."""
        return Compute(**self.compute)

    def problems(self) -> list[str]:
        """Return what is wrong with names and settings, one sentence each. No data is read."""
        problems = _problems_of(lambda: check_spec(self.model.data), "[model] data")
        problems += _problems_of(lambda: check_name(self.model.model), "[model] model")
        problems += _problems_of(self._check_method, "[method]")
        problems += _problems_of(lambda: raise_all(settings_problems(self.make_recipe())), "[recipe]")
        problems += _problems_of(lambda: raise_all(self.make_compute().problems()), "[compute]")
        if self.keys.passphrase_file and not self.keys.sign_key:
            problems.append("[keys] passphrase_file opens the key sign_key, which is not given; give it too.")
        return problems

    def _check_method(self) -> None:
        method = find(self.method.name)
        if not serves(method, Classification):
            raise ExpungeError(unsuited_text(method, Classification))
        raise_all(settings_problems(self.make_method()))


def _problems_of(check: Any, place: str) -> list[str]:
    """Return the problems that a check raises, each with the table or key it belongs to."""
    try:
        check()
    except ExpungeError as error:
        return [f"{place}: {text}" for text in error.problems]
    except TypeError as error:
        # an unknown field of a dataclass
        return [f"{place}: {error}; leave out what is not known."]
    return []


def checked(values: dict[str, Any], source: str) -> Settings:
    """Return settings from plain values.

    Args:
        values: The tables, as TOML gives them.
        source: Name of the file, for messages.

    Raises:
        ExpungeError: Lists every problem: unknown keys, wrong types, unknown names.
    """
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ExpungeError([_sentence(source, e) for e in error.errors()]) from error
    raise_all([f"{source}: {text}" for text in settings.problems()])
    return settings


def _sentence(source: str, error: Any) -> str:
    """Return one problem of pydantic as a sentence."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{source}: {place} is unknown; leave it out, or see docs/projects.md for all keys."
    if error["type"] == "missing":
        return f"{source}: {place} is missing; give it."
    return f"{source}: {place} is {error['input']!r}: {error['msg'].lower()}."


def read_settings(folder: Path) -> Settings:
    """Read `expunge.toml` of a project folder.

    Raises:
        ExpungeError: The folder is no project, or lists every problem of the file.
    """
    path = folder / FILE
    if not path.is_file():
        raise ExpungeError(
            f"{folder} is no project: it has no {FILE}; make one with `expunge init {folder}`."
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExpungeError(f"{path} cannot be read: {error}; correct the file.") from error
    return checked(values, str(path))


def as_toml(settings: Settings) -> str:
    """Return settings as the text of `expunge.toml`, every key included."""
    lines = ["# The settings of this project. docs/projects.md explains every key."]
    for table, values in settings.model_dump().items():
        nested = {k: v for k, v in values.items() if isinstance(v, dict)}
        lines += ["", f"[{table}]", *(f"{k} = {_literal(v)}" for k, v in values.items() if k not in nested)]
        for name, inner in nested.items():
            if inner:
                lines += ["", f"[{table}.{name}]", *(f"{k} = {_literal(v)}" for k, v in inner.items())]
    return "\n".join(lines) + "\n"


def _literal(value: bool | int | float | str | list[Any]) -> str:
    """Return a value as TOML. JSON text is TOML for texts, numbers, truth values and lists."""
    return json.dumps(value, ensure_ascii=False)
