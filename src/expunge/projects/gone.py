"""Answered requests whose samples are no longer in the data: what later audits can still score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..data.past_requests import EarlierRequest, PastRequest, find_samples
from ..sources.source import Source
from .requests import ProjectRequest

# sentences that one command prints
SHOWN = 5


def note_gone(
    requests: Sequence[ProjectRequest],
    answered: Sequence[PastRequest],
    source: Source,
    say: Callable[[str], None],
) -> None:
    """Write on the requests which of their samples the data no longer has. What is new is said.

    The law asks to delete the samples of a request. Then no audit can score them any more, and the last one counts.

    Raises:
        SplitError: The ids of a request are positions, and the data has changed since.
    """
    here = set(map(str, source.train.ids)) if source.train.ids is not None else None
    found = {e.past.request: e for e in find_samples(answered, source.train, source.test)}
    news = []
    for request in requests:
        entry = found.get(request.request)
        text = "" if entry is None or here is None else _sentence(entry, here)
        if text and text != request.gone:
            news.append(f"request {request.number}: {text}.")
        request.gone = text
    for text in news[:SHOWN]:
        say(text)
    if len(news) > SHOWN:
        say(f"the same holds for {len(news) - SHOWN:,} more requests; `expunge status` lists them after the next run.")


def _sentence(entry: EarlierRequest, here: set[str]) -> str:
    """Return which samples of a request are gone, and what audits still score; empty if all are there."""
    count = len(entry.past.ids)
    gone = sum(name not in here for name in entry.past.ids)
    if not gone:
        return ""
    if len(entry.forget):
        return f"the data no longer has {gone:,} of its {count:,} samples, and audits score the others"
    if entry.is_scored_by_test:
        return (
            f"the data no longer has its {count:,} training samples, and audits score the {len(entry.test_forgotten):,} test "
            "samples of the classes"
        )
    its = "its sample" if count == 1 else f"its {count:,} samples"
    return f"not audited any more, as the data no longer has {its}"
