"""The pieces of drawing a split: data checked, shares, classes and ids found, copies told. `Split` puts them together."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import SplitError, raise_all
from ..records.atomic_files import read_ids
from ..torch_utils.module_state import check_seed
from .samples import Data, as_text
from .tensors import TensorData, as_data

Goal = Literal["untrain", "unlearn"]


class Pool(NamedTuple):
    """What a forget set is drawn from: the data, and which training samples are kept for training and which are held for
    validation, bool (N,) each; `settings` are those that every way of drawing has."""

    train: Data
    test: Data
    keep: Tensor
    held: Tensor
    settings: dict[str, Any]


def begin(train: Any, test: Any, validation: float, seed: int, goal: str = "untrain") -> Pool:
    """The data with the validation set drawn. Raises `SplitError` with what is wrong with either, or with the goal."""
    check_seed(seed)
    raise_all(_settings_problems(validation, goal), SplitError)
    data, held_out = as_data(train), as_data(test)
    problems = [
        f"the {name} set is empty; give at least one sample."
        for name, d in (("training", data), ("test", held_out))
        if not len(d)
    ]
    problems += [
        f"the {name} set has labels below 0 (lowest {int(d.labels.min())}); number classes from 0."
        for name, d in (("training", data), ("test", held_out))
        if len(d) and d.labels.min() < 0
    ]
    if data is held_out:
        problems.append(
            "the training and the test set are the same object: forget and test would overlap; give separate data."
        )
    raise_all(problems, SplitError)
    if held_out.labels.max() > data.labels.max():
        raise SplitError(
            f"the test set has labels up to {int(held_out.labels.max())}, the training set up to "
            f"{int(data.labels.max())}: labels out of range; number both alike."
        )
    held = torch.zeros(len(data), dtype=torch.bool)
    if validation:
        held = share_of(~held, validation, seed, per_class=data.labels)
    return Pool(data, held_out, ~held, held, {"goal": goal, "validation": validation, "seed": seed})


def _settings_problems(validation: float, goal: str) -> list[str]:
    found = []
    if not 0 <= validation < 1:
        found.append(f"validation is a share of each class, at least 0 and below 1; {validation} came.")
    if goal not in get_args(Goal):
        found.append(f"goal is '{goal}'; it must be {' or '.join(get_args(Goal))}.")
    return found


def share_of(
    among: Tensor, share: float, seed: int, *, per_class: Tensor | None = None, count: int | None = None
) -> Tensor:
    """Which of the samples `among` (bool) are drawn: a share of all, of each class, or a count."""
    if not 0 < share <= 1:
        raise SplitError(f"a share is above 0 and at most 1; {share} came.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros_like(among)
    groups = [among] if per_class is None else [among & (per_class == k) for k in per_class[among].unique()]
    for group in groups:
        place = group.nonzero()[:, 0]
        size = round(share * len(place)) if count is None else count
        if not 0 <= size <= len(place):
            raise SplitError(
                f"{size} samples were asked for and {len(place)} are there; ask for 1 to {len(place) - 1}."
            )
        drawn[place[torch.randperm(len(place), generator=generator)[:size]]] = True
    return drawn


def class_numbers(wanted: Sequence[int | str], data: Data, num_classes: int) -> list[int]:
    """The classes by number, in order. A text is a name, and a number only where no class has that name: folders `0` to `11`
    are sorted as texts. Raises `SplitError` with all that are unknown or named twice."""
    names = list(data.classes or [])
    found, problems = [], []
    for value in wanted:
        if isinstance(value, str) and value in names:
            number: int | None = names.index(value)
        else:
            number = int(value) if re.fullmatch(r"-?[0-9]+", str(value)) else None
        if number is None:
            problems.append(f"there is no class named '{value}'; known: {names or 'no names, use numbers'}.")
        elif not 0 <= number < num_classes or not (data.labels == number).any():
            problems.append(f"class {number} is not there; labels run from 0 to {num_classes - 1}.")
        elif number in found:
            problems.append(f"class {number} is named twice; name each once.")
        else:
            found.append(number)
    if not wanted:
        problems.append("no class is named; name at least one to forget.")
    raise_all(problems, SplitError)
    return sorted(found)


def positions(ids: str | Path | Iterable[str | int], pool: Pool) -> Tensor:
    """Which samples have these ids, or stand at these positions: bool (N,). Raises `SplitError` with all that fail."""
    data = pool.train
    if isinstance(ids, str | Path):
        wanted = read_ids(ids, SplitError)
    else:
        wanted = [str(i) for i in ids]
    asked = Counter(wanted)
    known: Iterable[str] = data.ids if data.ids is not None else map(str, range(len(data)))
    there: dict[
        str, list[int]
    ] = {}  # of the asked ids alone; a search of the sorted ids fails on NumPy's variable-width text
    for place, name in enumerate(known):
        if name in asked:
            there.setdefault(str(name), []).append(place)
    absent = {k for k in asked if k not in there}
    tested = set() if pool.test.ids is None else {str(k) for k in pool.test.ids if k in absent}
    texts = [
        ("is unknown; check it against the data's ids", [k for k in asked if k in absent - tested]),
        (
            "lies in the test set, which is never forgotten; if the model was trained on it, give the data a test set of its own "
            "(test=FILE of texts, a folder `test` of images), so that none of its training samples is held out",
            [k for k in asked if k in tested],
        ),
        ("is asked for twice; name each once", [k for k, times in asked.items() if times > 1]),
        (
            "belongs to several samples; give the data unique ids",
            [k for k, at in there.items() if len(at) > 1],
        ),
        (
            "lies in the validation set, which this split holds out of training; if the model was trained on it, draw without "
            "validation samples (--validation 0, validation=0), else leave it out",
            [k for k, at in there.items() if len(at) == 1 and not pool.keep[at[0]]],
        ),
    ]
    problems = [
        f"{len(found)} id(s) like '{found[0]}': each {text} (first: {found[:5]})."
        for text, found in texts
        if len(found)
    ]
    raise_all(problems, SplitError)
    named = torch.zeros(len(data), dtype=torch.bool)
    named[[at[0] for at in there.values()]] = True
    return named


def in_group(column: str, values: Any, pool: Pool) -> Tensor:
    """Which samples have one of `values` (a value, or several) in the column of `Data.groups`: bool (N,). Raises `SplitError`
    for a column or values that are not there."""
    groups = pool.train.groups
    if column not in groups:
        raise SplitError(f"there is no group column '{column}'; the data has {sorted(groups) or 'none'}.")
    there, wanted = as_text(groups[column]), listed(values)
    if absent := [v for v in wanted if v not in there]:
        raise SplitError(
            f"no sample has {column} = {absent}; it takes the values {np.unique(there)[:20].tolist()}."
        )
    return torch.from_numpy(np.isin(there, wanted)) & pool.keep


def listed(values: Any) -> list[str]:
    """One value, or several, as texts."""
    several = isinstance(values, Iterable) and not isinstance(values, str)
    return [str(v) for v in (values if several else [values])]


def check_sets(pool: Pool, named: Tensor, retain: Tensor, forgotten: Tensor) -> None:
    """Raise `SplitError` with every reason why these are no forget set (N,), no retain set (N,), or leave no test set:
    `forgotten` (M,) are the test samples of the forgotten classes."""
    train, test, problems = pool.train, pool.test, []
    if not named.any():
        problems.append("the forget set is empty; name at least one training sample.")
    if not retain.any():
        problems.append(
            "the retain set is empty: forgetting everything is training a new model; keep at least one sample."
        )
    if forgotten.all():
        problems.append("the test set has only forgotten classes; give test samples of the retained ones.")
    if train.ids is not None and test.ids is not None:
        both = np.intersect1d(train.ids[named.numpy()], test.ids)
        if len(both):
            problems.append(
                f"{len(both)} ids are in the forget and in the test set (first: {both[:5].tolist()}); remove them from one."
            )
    raise_all(problems, SplitError)


def digest(*parts: str | Tensor) -> str:
    """SHA-256 (hex) of texts and positions (n,), each told from the next."""
    found = hashlib.sha256()
    for part in parts:
        found.update(
            json.dumps(part).encode()
            if isinstance(part, str)
            else f"{len(part)}:".encode() + part.to(torch.int64).numpy().tobytes()
        )
    return found.hexdigest()


def warn_of_copies(train: Data, test: Data, named: Tensor) -> None:
    """Warn of forget samples that stand in the test set as well, byte for byte (of tensors alone)."""
    if not (
        isinstance(train, TensorData)
        and isinstance(test, TensorData)
        and isinstance(train.x, Tensor)
        and isinstance(test.x, Tensor)
    ):
        return
    copies = len(_rows(train.x[named]) & _rows(test.x)) if train.x.dtype == test.x.dtype else 0
    if copies:
        warnings.warn(
            f"{copies} forget samples also stand in the test set, byte for byte: their forgetting cannot be judged on it.",
            stacklevel=4,
        )


def _rows(x: Tensor) -> set[bytes]:
    rows = x.cpu().unsqueeze(1).flatten(1).contiguous().view(torch.uint8)  # NumPy has no bfloat16
    return {hashlib.blake2b(r.tobytes(), digest_size=8).digest() for r in rows.numpy()}
