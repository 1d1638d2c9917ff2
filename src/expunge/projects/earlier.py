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
    """Return the latest request of a project that is done and proved, and removed all that a split asks for, or None.

    Also None if another request for some of these samples came back or was reopened: then the latest model may know them.
    """
    by_hash = {past.request: past for past in answered}
    known, asked = {past.request: past.ids for past in answered}, set(split.as_request("").ids)
    for request in requests:
        again = request.is_open and (request.state == "came back" or request.is_reopened)
        if again and not asked.isdisjoint(request.all_ids(known)):
            return None
    for request in reversed(requests):
        past = by_hash.get(request.request)
        done = request.state == "done" and not request.is_open
        if past is not None and done and request.run and covers(past, split):
            return request
    return None
