"""The requests that the latest model of a project has answered, and the ids of samples that requests named or removed."""

from __future__ import annotations

from typing import Any

from ..data.past_requests import PastRequest
from ..records.request_file import read_requests
from .folder import Folder, request_file


def read_answered(folder: Folder, state: dict[str, Any]) -> list[PastRequest]:
    """Return the requests that the latest model has answered; none without its request file. Raises `ExpungeError` for a broken one."""
    path = request_file(folder, state)
    return read_requests(path) if path.exists() else []


def named_samples(folder: Folder, state: dict[str, Any]) -> set[str]:
    """Return the ids of all samples that requests named or removed, also those that the first model of the project had answered."""
    answered = (past.ids for past in read_answered(folder, state))
    return set[str]().union(*answered, *(r["what"]["ids"] for r in state["requests"]))


def removed_samples(folder: Folder, state: dict[str, Any]) -> dict[str, int]:
    """Return {id: number of the request} of all samples that were requested or removed."""
    numbers = {r["request"]: r["number"] for r in state["requests"]}
    answered = read_answered(folder, state)
    waiting = {name: r["number"] for r in state["requests"] for name in r["what"]["ids"]}
    return waiting | {name: numbers[p.request] for p in answered if p.request in numbers for name in p.ids}
