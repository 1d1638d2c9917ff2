"""`state.json`: which files belong to a project, and the state of each request. It is checked whenever it is read."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..errors import ExpungeError, raise_all
from .requests import ProjectRequest, RequestState

FORMAT = "expunge-project/v1"


def _inside(name: str) -> str:
    """Return the name of a file inside the project. Another one could overwrite any file."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError("it must name a file inside the project")
    return name


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


Inside = Annotated[str, AfterValidator(_inside)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True)


class ModelEntry(_Checked):
    """Hold a model of the project.

    Args:
        file: The checkpoint, inside the project.
        sha256: Its hash.
        receipt: Id of the receipt of its run, or empty.
        requests: Hash of its request file; empty if it has none, None in projects of an earlier version.
    """

    file: Inside
    sha256: str
    receipt: str = ""
    requests: str | None = None


class DrawnEntry(_Checked):
    """Hold what the splits of answered requests were drawn from. It may not change after the first request.

    Args:
        validation: Share of the validation set.
        validation_from: The set that it was drawn from. Projects of an earlier version drew it from the training set.
        split_seed: Its seed.
        classes: Names of the classes, in the order of their numbers.
        data: Fingerprint of the training data at the first request.
        held_out: Hash of the file with the ids of the validation set; empty if there is none.
        inputs: Settings that decide what the model sees; empty in projects of an earlier version.
        samples: Hash of the file with the fingerprints of all samples; empty in projects of an earlier version.
    """

    validation: float
    validation_from: Literal["train", "test"] = "train"
    split_seed: int
    classes: list[str]
    data: str
    held_out: str = ""
    inputs: dict[str, str] = Field(default_factory=dict)
    samples: str = ""


class _WantedEntry(_Checked):
    ids: list[str]
    classes: list[str]
    group: str = ""
    goal: Literal["untrain", "unlearn"] | None = None
    subject: str = ""
    due: str = ""
    received: str = ""


class _RequestEntry(_Checked):
    number: Annotated[int, Field(ge=1)]
    subject: str
    due: Annotated[str, AfterValidator(_day)]
    what: _WantedEntry
    kind: Literal["ids", "class", "group"]
    samples: Annotated[int, Field(ge=0)]
    state: RequestState = "waiting"
    request: str = ""
    run: Annotated[int, Field(ge=0)] = 0
    part: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    before: dict[str, list[Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)
    tried: str = ""
    then: dict[str, float] = Field(default_factory=dict)
    now: dict[str, float] = Field(default_factory=dict)
    audited: Annotated[int, Field(ge=0)] = 0
    gone: str = ""
    not_shown: bool = False
    unreliable_mia: bool = False
    reason: str = ""
    scores_of: Annotated[int, Field(ge=0)] = 0


class _Seal(_Checked):
    entries: dict[str, str]
    all: str


class _State(_Checked):
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    requests: list[_RequestEntry]
    moves: list[tuple[Inside, Inside]] = Field(default_factory=list)
    ledger: str = ""
    files: dict[Inside, str] = Field(default_factory=dict)
    stats: dict[Inside, list[int]] = Field(default_factory=dict)
    drawn: DrawnEntry | None = None
    seal: _Seal | None = None


def read_state(path: Path) -> dict[str, Any]:
    """Read and check the state of a project.

    Raises:
        ExpungeError: The file cannot be read, or entries are missing or wrong. All are listed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        state = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ExpungeError(f"{path} cannot be read: {error}; restore it from a backup.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ExpungeError(f"{path} is no state in the format {FORMAT}; upgrade Expunge.")
    try:
        # JSON has no tuples, so the text is checked and not the values
        checked = _State.model_validate_json(text)
    except ValidationError as error:
        problems = [f"{path}: {_sentence(e)}" for e in error.errors(include_url=False, include_input=False)]
        raise ExpungeError(problems) from error
    raise_all([f"{path}: {text}" for text in _contradictions(checked)])
    return state


def _contradictions(state: _State) -> list[str]:
    """Return what is wrong with entries that are right on their own."""
    times = Counter(request.number for request in state.requests)
    problems = [
        f"request {n} is there {k} times; restore the file from a backup." for n, k in times.items() if k > 1
    ]
    last = len(state.models) - 1
    problems += [
        f"request {r.number} names run {r.run}, and the last one is run {last}; restore the file from a backup."
        for r in state.requests
        if r.run > last
    ]
    return problems


def _sentence(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"the entry {where} is missing; restore the file from a backup."
    reason = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"the entry {where} is wrong (allowed: {reason}); restore the file from a backup."


def request_entries(state: dict[str, Any]) -> list[ProjectRequest]:
    """Return the requests of a state, in the order of entry."""
    return [ProjectRequest.from_dict(values) for values in state["requests"]]
