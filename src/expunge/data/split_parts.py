"""The steps of drawing a split: check the data, draw at random, check the sets. `Split` calls them."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from ..errors import SplitError, raise_all
from ..torch_utils.module_state import check_seed
from .class_names import not_finite
from .forget_set import SHOWN_IDS, named_samples
from .id_problems import shared_id_problems, twin_problems
from .past_requests import Goal
from .samples import Data, Samples
from .validation_source import Ids, ValidationFrom, source_problems


class Pool(NamedTuple):
    """The data that a forget set is drawn from.

    Args:
        train: The training data.
        test: The test data.
        for_training: Bool (N,), the training samples that models are trained on.
        for_validation: Bool (N,), the training samples that are held out for validation.
        from_test: Bool (M,), the test samples that are the validation set instead.
        settings: The settings that every way of drawing has.
    """

    train: Data
    test: Data
    for_training: Tensor
    for_validation: Tensor
    from_test: Tensor
    settings: dict[str, Any]


def draw_validation(
    train_data: Data,
    test_data: Data,
    validation: float,
    seed: int,
    goal: str = "untrain",
    validation_from: ValidationFrom = "train",
    unseen_ids: Ids | None = None,
) -> Pool:
    """Check the data and draw the validation set.

    Args:
        train_data: The training data.
        test_data: The test data.
        validation: Share of each class to draw, at least 0 and below 1.
        seed: Seed of the draw.
        goal: "untrain" or "unlearn".
        validation_from: The set to draw from, "train" or "test".
        unseen_ids: Ids of the validation set, instead of a draw.

    Raises:
        SplitError: The data, the share or the goal cannot be used.
    """
    check_seed(seed)
    raise_all(_setting_problems(validation, goal, validation_from, unseen_ids is not None), SplitError)
    _check_data(train_data, test_data)
    settings: dict[str, Any] = {"goal": goal, "validation": validation, "seed": seed}
    if unseen_ids is not None:
        held_out, from_test = named_samples(unseen_ids, train_data, test_data)
        settings |= {"validation": 0.0, "unseen_ids": int(held_out.sum() + from_test.sum())}
    else:
        held_out, from_test = _drawn(train_data, test_data, validation, seed, validation_from)
        settings |= {"validation_from": "test"} if validation_from == "test" else {}
    return Pool(train_data, test_data, ~held_out, held_out, from_test, settings)


def _check_data(train_data: Data, test_data: Data) -> None:
    """Raise `SplitError` with every reason why the data cannot be divided."""
    both = (("training", train_data), ("test", test_data))
    problems = [f"the {name} set is empty; give at least one sample." for name, d in both if not len(d)]
    problems += [
        f"the {name} set has labels below 0 (lowest: {int(d.labels.min())}); number the classes from 0."
        for name, d in both
        if d.has_classes and len(d) and d.labels.min() < 0
    ]
    if train_data is test_data:
        problems.append(
            "the training set and the test set are the same object, so forget and test set would overlap; give separate data."
        )
    if train_data.classes and test_data.classes and list(train_data.classes) != list(test_data.classes):
        problems.append(
            f"the classes of the training data are {list(train_data.classes)[:SHOWN_IDS]}, of the test data "
            f"{list(test_data.classes)[:SHOWN_IDS]}; give both the same names in the same order (classes=[...])."
        )
    shapes = [(d.labels.dtype, tuple(d.labels.shape[1:])) for _, d in both]
    if shapes[0] != shapes[1]:
        problems.append(
            f"training labels are {shapes[0][0]} of shape (N, {shapes[0][1]}), test labels {shapes[1][0]} of shape (N, "
            f"{shapes[1][1]}); give labels of one kind."
        )
    problems += [p for name, d in both for p in not_finite(name, d)]
    problems += shared_id_problems(train_data, test_data) if train_data is not test_data else []
    raise_all(problems, SplitError)
    if test_data.has_classes and int(test_data.labels.max()) >= train_data.num_classes:
        raise SplitError(
            f"test labels are out of range: they go up to {int(test_data.labels.max())}, training labels up to "
            f"{int(train_data.labels.max())}; number the classes of both sets alike."
        )


def _drawn(
    train: Data, test: Data, validation: float, seed: int, validation_from: ValidationFrom
) -> tuple[Tensor, Tensor]:
    """Draw the validation set: bool (N,) of the training data and bool (M,) of the test data."""
    held_out, from_test = (torch.zeros(len(d), dtype=torch.bool) for d in (train, test))
    if not validation:
        return held_out, from_test
    data = test if validation_from == "test" else train
    everything = torch.ones(len(data), dtype=torch.bool)
    drawn = draw_share(everything, validation, seed, per_class=data.labels if data.has_classes else None)
    if validation_from == "train":
        return drawn, from_test
    if not drawn.any():
        raise SplitError(
            f"a share of {validation:g} of the {len(test):,} test samples is none; give a larger share for validation."
        )
    return held_out, drawn


def _setting_problems(validation: float, goal: str, validation_from: str, named: bool) -> list[str]:
    problems = []
    if not 0 <= validation < 1:
        problems.append(
            f"validation is {validation}; give the share of each class to hold out, at least 0 and below 1."
        )
    problems += source_problems(validation, validation_from, named)
    if goal not in get_args(Goal):
        problems.append(f"goal is '{goal}'; give {' or '.join(get_args(Goal))}.")
    return problems


def draw_share(
    candidates: Tensor, share: float, seed: int, *, per_class: Tensor | None = None, count: int | None = None
) -> Tensor:
    """Draw samples at random.

    Args:
        candidates: Bool (N,), the samples to draw from.
        share: Share to draw, above 0 and at most 1.
        seed: Seed of the draw.
        per_class: Labels (N,). If given, draw the share of each class.
        count: Number of samples to draw, instead of a share.

    Returns:
        Bool (N,), the drawn samples.

    Raises:
        SplitError: The share or the count cannot be drawn.
    """
    if not 0 < share <= 1:
        raise SplitError(f"the share is {share}; give a share above 0 and at most 1.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros_like(candidates)
    groups = [candidates]
    if per_class is not None:
        groups = [candidates & (per_class == k) for k in per_class[candidates].unique()]
    for group in groups:
        positions = group.nonzero()[:, 0]
        size = round(share * len(positions)) if count is None else count
        if not 0 <= size <= len(positions):
            raise SplitError(
                f"{size} samples cannot be drawn from {len(positions)}; ask for 1 to {len(positions) - 1}."
            )
        drawn[positions[torch.randperm(len(positions), generator=generator)[:size]]] = True
    return drawn


def check_sets(
    pool: Pool, forget: Tensor, retain: Tensor, test_forgotten: Tensor, *, by_id: bool = False
) -> None:
    """Raise `SplitError` with every reason why these sets cannot be used.

    Args:
        pool: The data.
        forget: Bool (N,), the training samples to forget.
        retain: Bool (N,), the training samples to keep.
        test_forgotten: Bool (M,), the test samples of the forgotten classes.
        by_id: Whether the samples to forget were named by their ids.
    """
    train, test = pool.train, pool.test
    problems = []
    both = train.samples((forget & pool.for_validation).nonzero()[:, 0])
    if by_id and "unseen_ids" in pool.settings and len(both):
        problems.append(
            f"{len(both)} requested ids are also named as never seen (first: {both.ids[:SHOWN_IDS]}); a model has nothing to "
            "forget of them, so remove each from one list."
        )
    if not forget.any():
        problems.append("the forget set is empty; give at least one training sample to forget.")
    if not retain.any():
        problems.append(
            "the retain set is empty; keep at least one sample, or train a new model to forget everything."
        )
    if test_forgotten.all():
        problems.append(
            "the test set has only forgotten classes; give test samples of the retained classes too."
        )
    elif (test_forgotten | pool.from_test).all():
        problems.append(
            "the validation set leaves no test samples of the retained classes; take fewer test samples for it."
        )
    if train.ids is not None:
        problems += twin_problems(train.ids[forget.numpy()], train, test)
    raise_all(problems, SplitError)


def fields_of(
    pool: Pool, forget: Tensor, retain: Tensor, withheld: Tensor, test_forgotten: Tensor, left_out: Tensor
) -> dict[str, Any]:
    """Return the sets of a split as its fields.

    Args:
        pool: The data.
        forget: Bool (N,), the training samples to forget.
        retain: Bool (N,), the training samples to keep.
        withheld: Bool (N,), training samples that the method does not get.
        test_forgotten: Bool (M,), the test samples of the forgotten classes.
        left_out: Positions (m,) of the test samples that were drawn for validation, and belong to no set.
    """
    train, test = pool.train, pool.test
    from_test = pool.from_test.clone()
    from_test[left_out] = False
    samples = lambda which, data: Samples(data, which.nonzero()[:, 0])  # noqa: E731
    held_out = samples(pool.for_validation & ~forget, train)
    return {
        "forget": samples(forget, train),
        "retain": samples(retain, train),
        "validation": samples(from_test, test) if pool.from_test.any() else held_out,
        "test": samples(~test_forgotten & ~pool.from_test, test),
        "test_forgotten": samples(test_forgotten & ~pool.from_test, test),
        "withheld": samples(withheld, train),
        "num_classes": train.num_classes,
        "goal": pool.settings["goal"],
        "held_out": (forget & pool.for_validation).nonzero()[:, 0],
    }
