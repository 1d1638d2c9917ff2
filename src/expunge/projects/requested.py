"""From requests to splits: what a project's requests name in the data."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..sources.source import Source
from .settings import SplitTable
from .state import ProjectRequest


def split_of(request: ProjectRequest, source: Source, table: SplitTable) -> Split:
    """Draw the split of one request.

    Raises:
        SplitError: Ids, classes or values are unknown.
    """
    options = {"validation": table.validation, "seed": table.split_seed}
    if request.kind == "class":
        return Split.by_class(source.train, source.test, request.values, **options)  # type: ignore[arg-type]
    if request.kind == "group":
        return Split.by_group(source.train, source.test, request.column, request.values, **options)  # type: ignore[arg-type]
    return Split.by_ids(source.train, source.test, request.values, **options)  # type: ignore[arg-type]


def union_of(requests: Sequence[ProjectRequest], source: Source, table: SplitTable) -> Split:
    """Draw the split of several requests together: all classes, or all samples of ids and groups.

    Raises:
        SplitError: Ids, classes or values are unknown.
    """
    if len(requests) == 1:
        return split_of(requests[0], source, table)
    options = {"validation": table.validation, "seed": table.split_seed}
    if requests[0].kind == "class":
        classes = list(dict.fromkeys(v for r in requests for v in r.values))
        return Split.by_class(source.train, source.test, classes, **options)  # type: ignore[arg-type]
    ids = list(dict.fromkeys(i for r in requests for i in split_of(r, source, table).forget.ids))
    return Split.by_ids(source.train, source.test, ids, **options)  # type: ignore[arg-type]


def batches_of(requests: Sequence[ProjectRequest]) -> list[list[ProjectRequest]]:
    """Return the requests that one run answers together: those for classes, and all others."""
    classes = [r for r in requests if r.kind == "class"]
    others = [r for r in requests if r.kind != "class"]
    return [part for part in (classes, others) if part]


def new_request(
    number: int,
    *,
    ids: Sequence[str | int] = (),
    classes: Sequence[str | int] = (),
    group: tuple[str, Sequence[str]] | None = None,
    subject: str = "",
    due: str = "",
) -> ProjectRequest:
    """Return a waiting request.

    Raises:
        ExpungeError: Not exactly one of ids, classes and group is given.
    """
    named = {"ids": ids, "classes": classes, "group": group}
    given = [name for name, value in named.items() if value is not None and len(value)]
    if len(given) != 1:
        raise_all(
            [
                f"{len(given)} of ids, classes and group are given ({', '.join(given) or 'none'}); give exactly one."
            ]
        )
    shared = {"number": number, "subject": subject or f"request {number}", "due": due}
    if group is not None and given == ["group"]:
        column, values = group
        if not values:
            raise ExpungeError("a group needs a value; give column and values.")
        return ProjectRequest(kind="group", column=column, values=tuple(map(str, values)), **shared)  # type: ignore[arg-type]
    kind, named_by = ("class", classes) if given == ["classes"] else ("ids", ids)
    return ProjectRequest(kind=kind, values=tuple(map(str, named_by)), **shared)  # type: ignore[arg-type]
