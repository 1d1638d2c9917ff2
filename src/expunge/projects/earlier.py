"""Which earlier request removed already what a new one asks for."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.past_requests import PastRequest
from ..data.split import Split
from .requests import ProjectRequest


def covers(past: PastRequest, split: Split) -> bool:
    """Return whether an answered request removed all that a split asks for."""
    asked = split.as_request("")
    if asked.goal == "unlearn" and past.goal != "unlearn":
        return False
    return set(asked.classes) <= set(past.classes) and set(asked.ids) <= set(past.ids)


def earlier_answer(
    split: Split, answered: Sequence[PastRequest], requests: Sequence[ProjectRequest]
) -> ProjectRequest | None:
    """Return the latest request of a project that is done and proved, and removed all that a split asks for, or None."""
    by_hash = {past.request: past for past in answered}
    for request in reversed(requests):
        past = by_hash.get(request.request)
        done = request.state == "done" and not request.is_open
        if past is not None and done and request.run and covers(past, split):
            return request
    return None
