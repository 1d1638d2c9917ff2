"""What is wrong with the ids of a request, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from .id_forms import nearest, twins
from .row_ids import by_row, id_hint

# ids that a message shows
SHOWN_IDS = 5


class WithIds(Protocol):
    """What is needed of data."""

    @property
    def ids(self) -> Any:
        """The ids (N,), or None."""

    def __len__(self) -> int: ...


def ids_of(data: WithIds) -> Iterable[str]:
    """Return the ids of data. Without ids, a position is an id."""
    return map(str, data.ids if data.ids is not None else range(len(data)))


def spaced_alike(wanted: Iterable[str], known: Iterable[str]) -> set[str]:
    """The wanted ids from which several ids of the data differ in the spaces around them only."""
    bare = {name.strip() for name in wanted}
    forms = Counter(form for name in set(known) if (form := name.strip()) in bare)
    return {name for name in wanted if forms[name.strip()] > 1}


def id_problems(
    counts: Counter[str], positions: dict[str, list[int]], train: WithIds, test: WithIds
) -> list[str]:
    """One sentence per reason why wanted ids cannot be used."""
    absent = {i for i in counts if i not in positions}
    alike = spaced_alike(absent, ids_of(train)) if absent else set()
    in_test = set() if test.ids is None else {str(i) for i in test.ids if i in absent}
    unknown = [i for i in counts if i in absent - in_test - alike]
    hint = _id_hint(unknown, train, test) if unknown else ""
    reasons = [
        (f"is unknown; compare it with the ids of the data{hint}", unknown),
        (
            "lies in the test set, which is never forgotten; if the model was trained on it, give the data a test set of its own "
            "(test=FILE for texts, a folder `test` for images), so that no training sample is held out",
            [i for i in counts if i in in_test],
        ),
        (
            "means several ids that differ only in the spaces around them; write it with the spaces of the data",
            [i for i in counts if i in alike - in_test],
        ),
        ("is given twice; give each id once", [i for i, times in counts.items() if times > 1]),
        (
            "belongs to several samples; give the data unique ids",
            [i for i, at in positions.items() if len(at) > 1],
        ),
    ]
    return [
        f"1 id, '{ids[0]}', {reason}."
        if len(ids) == 1
        else f"{len(ids)} ids (first: {ids[:SHOWN_IDS]}): each {reason}."
        for reason, ids in reasons
        if ids
    ]


def shared_id_problems(train: WithIds, test: WithIds) -> list[str]:
    """Return one sentence if training and test samples share ids: what a model was trained on would count as unseen."""
    if train.ids is None or test.ids is None:
        return []
    of_test = set(map(str, test.ids))
    shared = [name for name in map(str, train.ids) if name in of_test]
    if not shared:
        return []
    return [
        f"{len(shared):,} ids are in the training set and in the test set (first: {shared[:SHOWN_IDS]}), so samples that a model was "
        "trained on would count as unseen; remove them from one set, or give different samples different ids."
    ]


def twin_problems(wanted: Iterable[str], train: WithIds, test: WithIds) -> list[str]:
    """Return why ids to forget prove nothing: a receipt takes the Unicode forms of a name for one id."""
    pairs = twins(list(map(str, wanted)), [*ids_of(train), *(ids_of(test) if test.ids is not None else ())])
    if not pairs:
        return []
    first, second = map(ascii, pairs[0])
    return [
        f"the data has other Unicode forms of {len(pairs)} id{'s' if len(pairs) > 1 else ''} to forget (first: {first} and {second}). "
        "Receipts take both forms for one id, and would say that both are forgotten; give these samples ids that differ in more than "
        "their Unicode form."
    ]


def _id_hint(unknown: Sequence[str], train: WithIds, test: WithIds) -> str:
    """Return the ids that are most like unknown ones, and what ids the data has. Others may name people."""
    like = [] if by_row(train) else nearest(unknown, ids_of(train))
    return "".join(f"; {text}" for text in (*like, *id_hint(unknown, train, test)))
