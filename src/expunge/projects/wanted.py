"""What one deletion request asks for: samples by ids, whole classes, or a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch

from ..data.copies import CopyHandling
from ..data.id_forms import encodable
from ..data.joined_copies import joined_copies
from ..data.row_ids import OwnIds
from ..data.samples import Data
from ..data.split import Split
from ..data.validation_source import ValidationFrom
from ..errors import SplitError, raise_all
from ..receipts.limits import LONGEST
from .arguments import names_of, text_problems

# Name of a request that has no subject.
NO_SUBJECT = "no subject"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Hold what one request asks for. Exactly one of `ids`, `classes` and `group` is given.

    Args:
        ids: Ids of samples, or their positions if the data has no ids.
        classes: Class names, or numbers.
        group: Group as COLUMN=VALUE.
        goal: "untrain" or "unlearn". By default "unlearn" for classes and "untrain" for all else.
        subject: A reference to the person, for the ledger. Do not use the name.
        due: Day by which the request must be answered, as 2026-01-31. By default `days` of the project after it came.
        received: Day on which the request came, as 2026-01-31. By default today (UTC).
        lines: Line of each id in the CSV file that it came from, for messages. It is not kept.
    """

    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    group: str = ""
    goal: Literal["untrain", "unlearn"] | None = None
    subject: str = ""
    due: str = ""
    received: str = ""
    lines: tuple[int, ...] = field(default=(), compare=False, repr=False)

    def problems(self) -> list[str]:
        """Return what is wrong with these values, one sentence each."""
        given = [k for k in ("ids", "classes", "group") if getattr(self, k)]
        texts = ("group", "subject", "due", "received")
        problems = text_problems({name: getattr(self, name) for name in texts})
        for name in ("ids", "classes"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(isinstance(v, str) for v in values):
                problems.append(f"{name} is {values!r}; give a tuple of texts, or use `wanted`.")
        if self.goal is not None and self.goal not in ("untrain", "unlearn"):
            problems.append(f"goal is {self.goal!r}; give untrain or unlearn, or leave it out.")
        if problems:
            return problems
        if len(self.subject) > (most := LONGEST["subject"]):
            problems.append(f"the subject has {len(self.subject):,} characters; give at most {most}.")
        if len(given) != 1:
            problems.append(
                f"{len(given)} of ids, classes and group are given ({', '.join(given) or 'none'}); give exactly one."
            )
        column, equals, value = self.group.partition("=")
        if self.group and not (column and equals and value):
            problems.append(f"the group is '{self.group}'; write COLUMN=VALUE.")
        return problems

    def draw(
        self,
        train: Data,
        test: Data,
        *,
        validation: float,
        seed: int,
        validation_from: ValidationFrom = "train",
        copies: CopyHandling | None = None,
    ) -> Split:
        """Draw the split of this request alone. Raises `SplitError`."""
        raise_all(self.problems())
        options: dict[str, Any] = {
            "validation": validation,
            "validation_from": validation_from,
            "seed": seed,
        }
        if copies is not None:
            options["copies"] = copies
        if self.goal is not None:
            options["goal"] = self.goal
        if self.classes:
            return Split.by_class(train, test, self.classes, **options)
        if self.ids:
            return Split.by_ids(train, test, self.ids, **options)
        column, _, value = self.group.partition("=")
        # the whole text is one value, because a name may hold a comma
        return Split.by_group(train, test, column, [value], **options)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        values = {name: value for name, value in asdict(self).items() if name != "lines"}
        return {**values, "ids": list(self.ids), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Wanted:
        """Make a request from what `to_dict` returned."""
        lists = {k: tuple(values[k]) for k in ("ids", "classes")}
        return cls(**{**values, **lists})


def wanted(
    *,
    ids: str | int | Iterable[str | int] | None = None,
    classes: str | int | Iterable[str | int] | None = None,
    group: str = "",
    **options: Any,
) -> Wanted:
    """Make a request from what users write: numbers or texts, one or several, also arrays and tensors.

    Raises:
        ExpungeError: An id or a class is neither a text nor a whole number, or a list of them is empty.
    """
    lists = {"ids": ids, "classes": classes}
    ids, classes = (
        [encodable(v) for v in names_of(k, values)] for k, values in (("ids", ids), ("classes", classes))
    )
    raise_all(
        [
            f"{name} is an empty list, so the request asks for nothing; give at least one, or leave {name} out."
            for name, values in (("ids", ids), ("classes", classes))
            if not values and lists[name] is not None
        ]
    )
    return Wanted(ids=tuple(ids), classes=tuple(classes), group=group, **options)


def union_of(
    splits: Sequence[Split],
    train: Data,
    test: Data,
    *,
    validation: float,
    seed: int,
    validation_from: ValidationFrom = "train",
) -> Split:
    """Return one split whose forget set is that of all `splits` together.

    Requests for classes stay a request for classes. Any other mixture becomes a request for samples, with goal "untrain"
    if every request has it. Test samples of the requested classes are test samples of forgotten classes in both cases.

    Raises:
        SplitError: The requests together leave nothing to retain or to test.
    """
    goals = {s.goal for s in splits}
    options: dict[str, Any] = {
        "validation": validation,
        "validation_from": validation_from,
        "seed": seed,
        # each split has its own copies already
        "copies": "ignore",
        "goal": "untrain" if goals == {"untrain"} else "unlearn",
    }
    if all(s.forget_classes for s in splits) and len(goals) == 1:
        classes = sorted({k for s in splits for k in s.forget_classes})
        return _with_copies_of(splits, Split.by_class(train, test, classes, **options))
    positions = torch.cat([s.forget.index for s in splits]).unique()
    ids = (
        [str(n) for n in positions.tolist()] if train.ids is None else [str(train.ids[n]) for n in positions]
    )
    union = _with_copies_of(splits, Split.by_ids(train, test, OwnIds(ids), **options))
    return _without_classes(union, sorted({k for s in splits for k in s.forget_classes}))


def _with_copies_of(splits: Sequence[Split], union: Split) -> Split:
    """Return the union whose description says how the splits handled copies, and how many they included or left out."""
    kept = {name: value for name, value in union.spec.items() if not name.startswith("copies")}
    # the union itself is drawn by ids, also where no request was
    if not any("ids" in split.spec for split in splits):
        kept.pop("ids", None)
    counts = {
        name: sum(split.spec.get(name, 0) for split in splits)
        for name in ("copies_included", "copies_left_out")
    }
    handling = ", ".join(sorted({split.copies.handling for split in splits}))
    spec = {**kept, "copies": handling, **{name: n for name, n in counts.items() if n}}
    return replace(union, spec=spec, copies=joined_copies([s.copies for s in splits], union.forget.index))


def _without_classes(union: Split, classes: Sequence[int]) -> Split:
    """Return the union of requests for samples and for classes, with test sets as `Split.by_class` makes them."""
    if not classes:
        return union
    test = union.test
    forgotten = torch.isin(test.labels, torch.tensor(classes))
    if forgotten.all():
        raise SplitError(
            "the requests together leave no test samples of other classes; answer some of them in another run, or train a "
            "new model."
        )
    return replace(
        union,
        forget_classes=tuple(classes),
        test=test.take(~forgotten),
        test_forgotten=test.take(forgotten),
    )
