"""Answered requests whose samples are no longer in the data: what later audits can still score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import quote

from ..data.earlier_samples import find_samples
from ..data.past_requests import EarlierRequest, PastRequest
from ..data.samples import Data
from ..sources.source import Source
from .requests import ProjectRequest
from .wanted import Wanted

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
    known = {past.request: past.ids for past in answered}
    news = []
    for request in requests:
        entry = found.get(request.request)
        text = "" if entry is None or here is None else _sentence(entry, here, request, known)
        if text and text != request.gone:
            news.append(f"request {request.number}: {text}.")
        request.gone = text
    for text in news[:SHOWN]:
        say(text)
    if len(news) > SHOWN:
        say(
            f"the same holds for {len(news) - SHOWN:,} more requests; `expunge status` lists them after the next run."
        )


def _sentence(
    entry: EarlierRequest, here: set[str], request: ProjectRequest, known: Mapping[str, Sequence[str]]
) -> str:
    """Return which samples of a request are gone, and what audits still score; empty if all are there.

    The run that answered it may have removed more than it asks for.
    """
    own, run = request.all_ids(known), request.run
    count, gone = len(own), sum(name not in here for name in own)
    if not gone:
        return ""
    if entry.count and gone == count:
        return f"the data no longer has its {count:,} samples, and audits score the others that run {run} removed"
    if entry.count:
        return f"the data no longer has {gone:,} of its {count:,} samples, and audits score the others"
    if entry.is_scored_by_test:
        return (
            f"the data no longer has its {count:,} training samples, and audits score the {entry.test_count:,} test "
            "samples of the classes"
        )
    its = "its sample" if count == 1 else f"its {count:,} samples"
    return f"not audited any more, as the data no longer has {its}"


def removed_before(
    wanted: Wanted,
    requests: Sequence[ProjectRequest],
    answered: Sequence[PastRequest],
    train: Data,
    models: Sequence[Mapping[str, str]],
    root: Path,
) -> list[str]:
    """Return which earlier requests removed what a new request asks for and the data no longer has, one sentence each.

    Args:
        wanted: What the new request asks for.
        requests: The requests of the project.
        answered: Those that the model has answered.
        train: Today's training data.
        models: The models of the project, by run (`state.json`).
        root: The folder of the project.
    """
    here = set() if train.ids is None else set(map(str, train.ids))
    by_hash = {past.request: past for past in answered}
    others = _others(wanted, answered, here)
    # what of the request the proofs answer
    reach = "for that part; ask for the other samples only." if others else "this request; no run is needed."
    sentences = []
    for request in requests:
        past = by_hash.get(request.request)
        what = "" if past is None else _removed_by(past, wanted, train, here)
        if what and request.state == "done":
            receipt = quote((root / models[request.run]["file"]).with_suffix(".receipt.json").as_posix())
            proofs = f"Its receipt ({receipt}) and proofs (`expunge verify {receipt} --prove ID`) answer"
            sentences.append(
                f"request {request.number} removed {what} in run {request.run}, and the data no longer has what it removed. {proofs} "
                f"{reach}"
            )
    known = {split for request in requests for split in (request.request, *request.before)}
    for number, past in enumerate(answered, 1):
        if past.request not in known and (what := _removed_by(past, wanted, train, here)):
            sentences.append(_by_earlier_project(past, number, what, reach))
    return sentences


def _by_earlier_project(past: PastRequest, number: int, what: str, reach: str) -> str:
    """Return that a request removed samples which the model had answered before the project began."""
    start = (
        f"request {number} of the request file of the model, which an earlier project or command answered, removed {what}, and the data "
        "no longer has what it removed."
    )
    if not past.receipt:
        return f"{start} It has no receipt; the record of its run shows what was run."
    return (
        f"{start} Its receipt has the id {past.receipt}: look for the file with this id in the earlier project. The receipt and proofs "
        f"(`expunge verify RECEIPT --prove ID`) answer {reach}"
    )


def _others(wanted: Wanted, answered: Sequence[PastRequest], here: set[str]) -> bool:
    """Return whether a new request asks for ids that no earlier one removed, or that the data still has."""
    removed = {name for past in answered for name in past.ids if name not in here}
    return any(name not in removed for name in wanted.ids) or len(wanted.classes) > 1


def _removed_by(past: PastRequest, wanted: Wanted, train: Data, here: set[str]) -> str:
    """Return what of a new request an earlier one removed and the data no longer has; empty for nothing."""
    gone = [name for name in past.ids if name not in here]
    if ids := [name for name in wanted.ids if name in set(gone)]:
        return f"{len(ids):,} of these samples ('{ids[0]}')" if len(ids) > 1 else f"'{ids[0]}'"
    column, _, value = wanted.group.partition("=")
    if gone and wanted.group and past.description.get("column") == column:
        return f"{wanted.group}" if value in past.description.get("values", ()) else ""
    names = list(train.classes or map(str, range(train.num_classes)))
    removed = {str(k) for k in past.classes} | {names[k] for k in past.classes if k < len(names)}
    classes = [name for name in wanted.classes if name in removed]
    return f"the class {classes[0]}" if classes and gone else ""
