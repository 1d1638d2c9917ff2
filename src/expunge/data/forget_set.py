"""Find the samples to forget: by class, id or group."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import SplitError, raise_all
from .id_file import read_ids
from .id_forms import as_text, composed, encodable, folded, nearest, resolve_ids
from .id_problems import SHOWN_IDS, id_problems, ids_of, spaced_alike
from .row_ids import OwnIds, by_row, row_id_problems
from .samples import Data
from .validation_source import Ids

# group values that a message shows
SHOWN_VALUES = 20


def class_numbers(wanted: Sequence[int | str], data: Data, num_classes: int) -> list[int]:
    """Return the numbers of the classes to forget, in ascending order.

    Args:
        wanted: Numbers or names. A text is a number only if no class has that name, since folders "0" to "11" are
            numbered in the order of texts.
        data: The training data.
        num_classes: Number of classes.

    Raises:
        SplitError: Classes are unknown or given twice, or none is given.
    """
    names = list(data.classes or [])
    numbers: list[int] = []
    problems = []
    for value in wanted:
        written = composed(encodable(value)) if isinstance(value, str) else None
        matches = [k for k, name in enumerate(names) if composed(name) == written]
        if matches:
            number: int | None = matches[0]
        else:
            whole = re.fullmatch(r"(-?[0-9]+)(\.0*)?", str(value))
            number = int(whole[1]) if whole else None
        if len(matches) > 1:
            problems.append(
                f"the name '{value}' belongs to the classes {matches}; give the number of the class."
            )
        elif number is None:
            known = f"{names[:SHOWN_VALUES]}{' ...' if len(names) > SHOWN_VALUES else ''}" if names else ""
            likely = "".join(f"; {text}" for text in nearest([str(value)], names))
            problems.append(
                f"there is no class named '{value}'; known classes: {known or 'the data has no names, give numbers'}{likely}."
            )
        elif not 0 <= number < num_classes:
            problems.append(f"there is no class {number}; labels go from 0 to {num_classes - 1}.")
        elif not (data.labels == number).any():
            problems.append(
                f"class {number} has no training samples, so there is nothing to forget of it; give another class."
            )
        elif number in numbers:
            problems.append(f"class {number} is given twice; give each class once.")
        else:
            numbers.append(number)
    if not wanted:
        problems.append("no class to forget is given; give at least one.")
    raise_all(problems, SplitError)
    return sorted(numbers)


def samples_with_ids(ids: str | Path | Iterable[str | int], train: Data, test: Data) -> Tensor:
    """Find the training samples with these ids. Without ids in the data, a position is an id.

    Args:
        ids: A list of ids, or a text file with one id per line.
        train: The training data.
        test: The test data.

    Returns:
        Bool (N,), the samples.

    Raises:
        SplitError: Ids are unknown, given twice, shared by several samples, or in the test set; or they are positions, and a column
            has them as its values.
    """
    wanted = read_ids(ids, SplitError) if isinstance(ids, str | Path) else [encodable(str(i)) for i in ids]
    counts = Counter(wanted)
    positions = _positions(counts, train)
    if absent := [name for name in counts if name not in positions]:
        counts = _resolved(counts, absent, train, test)
        positions = _positions(counts, train)
    problems = id_problems(counts, positions, train, test)
    if not problems and not isinstance(ids, OwnIds):
        problems = row_id_problems(positions, train, test)
    raise_all(problems, SplitError)
    forget = torch.zeros(len(train), dtype=torch.bool)
    forget[[at[0] for at in positions.values()]] = True
    return forget


def ids_spec(forgotten: Tensor, train: Data) -> dict[str, Any]:
    """Return what a record says of a request by ids: how many (N,) is true for, and whether ids are positions."""
    return {"count": int(forgotten.sum()), **({"ids": "positions of rows"} if by_row(train) else {})}


def named_samples(ids: Ids, train: Data, test: Data) -> tuple[Tensor, Tensor]:
    """Find the samples that a user names as never seen. Without ids in the data, an id is a position in the training data.

    Args:
        ids: A list of ids, or a text file with one id per line. All lie in the training data, or all in the test data.
        train: The training data.
        test: The test data.

    Returns:
        The samples of the training data, bool (N,), and of the test data, bool (M,).

    Raises:
        SplitError: Lists ids that are unknown or given twice, or lie in both sets.
    """
    wanted = read_ids(ids, SplitError) if isinstance(ids, str | Path) else [encodable(str(i)) for i in ids]
    if not wanted:
        raise SplitError("no id of an unseen sample is given; give at least one, or leave unseen_ids out.")
    of_train, of_test = (set() if d.ids is None else set(map(str, d.ids)) for d in (train, test))
    if train.ids is not None:
        counts = Counter(wanted)
        # another spelling of an id, in either set; each has a root of its own
        for first, second in ((train, test), (test, train)):
            if absent := [name for name in counts if name not in of_train | of_test]:
                counts = _resolved(counts, absent, first, second)
        wanted = [*counts.elements()]
    in_test = [name for name in wanted if name in of_test - of_train]
    in_train = [name for name in wanted if name in of_train]
    if in_test and in_train:
        raise SplitError(
            f"{len(in_train)} ids of unseen samples are in the training set (first: {in_train[:SHOWN_IDS]}) and {len(in_test)} in "
            f"the test set (first: {in_test[:SHOWN_IDS]}); name samples of one set."
        )
    none = [torch.zeros(len(d), dtype=torch.bool) for d in (train, test)]
    try:
        if in_test:
            return none[0], samples_with_ids(wanted, test, train)
        return samples_with_ids(wanted, train, test), none[1]
    except SplitError as error:
        raise SplitError([f"unseen samples: {text}" for text in error.problems]) from error


def _positions(counts: Counter[str], train: Data) -> dict[str, list[int]]:
    """The positions of the wanted ids."""
    # Only for the wanted ids: a search in sorted ids fails on NumPy's variable-width text.
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(ids_of(train)):
        if name in counts:
            positions.setdefault(name, []).append(position)
    return positions


def _resolved(counts: Counter[str], absent: list[str], train: Data, test: Data) -> Counter[str]:
    """The wanted ids as the data writes them. An id that means none, or two, stays as it is.

    Spaces around an id count if the data has such an id, and else only if they decide between two.
    """
    known = [*ids_of(train), *(() if test.ids is None else ids_of(test))]
    meant = resolve_ids(absent, known, train.root) if train.ids is not None else {}
    spaced = {name: name.strip() for name in absent if name not in meant and name != name.strip()}
    spaced = {name: form for name, form in spaced.items() if name not in spaced_alike(spaced, known)}
    bare = [*spaced.values()]
    found = resolve_ids(bare, known, train.root) if bare else {}
    meant |= {name: found[form] for name, form in spaced.items() if form in found}
    resolved: Counter[str] = Counter()
    for name, times in counts.items():
        ids = set(meant.get(name, [name]))
        resolved[ids.pop() if len(ids) == 1 else name] += times
    return resolved


def in_classes(data: Data, classes: Sequence[int]) -> Tensor:
    """Return which samples are of some classes, bool (N,). Without classes, labels may be of any shape."""
    if not classes:
        return torch.zeros(len(data), dtype=torch.bool)
    return torch.isin(data.labels, torch.tensor(list(classes), dtype=torch.int64))


def samples_in_group(column: str, values: Any, train: Data) -> Tensor:
    """Find the training samples whose group `column` has one of `values`: bool (N,).

    Raises:
        SplitError: The data has no such column, or no sample has one of the values.
    """
    groups = train.groups
    if column not in groups:
        raise SplitError(
            f"there is no group column '{column}'; columns of the data: {sorted(groups) or 'none'}."
        )
    existing, wanted = as_text(groups[column]), as_texts(values)
    different = [str(v) for v in np.unique(existing)]
    # Nobody sees a difference between two Unicode forms of one name, so a request means both.
    meant = {composed(v) for v in wanted}
    chosen = [v for v in different if composed(v) in meant]
    if absent := [v for v in wanted if composed(v) not in set(map(composed, chosen))]:
        listed = [v for v in absent if "," in v and all(part in different for part in v.split(","))]
        remedy = "; give each value on its own (--forget-group COLUMN=VALUE, repeated)" if listed else ""
        likely = nearest(absent, different)
        # the values may be names of people, who are no concern of this request
        raise SplitError(
            f"no sample has {column} = {absent}; the column has {len(different):,} values{remedy}"
            f"{'; ' + ', '.join(likely) if likely else ''}."
        )
    alike = set(map(folded, chosen))
    if kept := [v for v in different if v not in chosen and folded(v) in alike]:
        counts = ", ".join(f"'{v}' ({int((existing == v).sum())} samples)" for v in kept[:SHOWN_VALUES])
        warnings.warn(
            f"{column} = {counts} differs from a forgotten value only in spaces or case, and is retained; name it too if it is "
            "the same.",
            stacklevel=3,
        )
    return torch.from_numpy(np.isin(existing, chosen))


def as_texts(values: Any) -> list[str]:
    """Return one value, or several, as a list of texts."""
    several = isinstance(values, Iterable) and not isinstance(values, str)
    return [encodable(str(v)) for v in (values if several else [values])]
