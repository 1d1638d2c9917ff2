"""`Split`: the forget, retain, validation and test set of one run, with a content hash.

The validation set is drawn first, from the seed alone. One original model, trained on all other samples, therefore
serves every forget set. Requested samples then leave the validation set, so the forget set is exactly what was
requested. `held_out` names those that the original never saw. With `validation_from="test"` the validation set comes
from the test set, for an original that saw all training samples.

The published code of SalUn draws the validation set twice with two seeds: a tenth of its forget set was never seen by
the model that should forget it. Here the hash of the original's training samples is stored in its checkpoint metadata
and checked when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SplitError
from .convert import as_data
from .copies import CopyHandling
from .copy_search import copy_settings, include_copies
from .forget_set import as_texts, class_numbers, ids_spec, in_classes, samples_in_group, samples_with_ids
from .past_requests import Goal
from .split_parts import Pool, check_sets, draw_share, draw_validation, fields_of
from .split_sets import SplitSets
from .validation_source import Ids, ValidationFrom

__all__ = ["Goal", "Split"]


@dataclass(frozen=True, eq=False, repr=False)
class Split(SplitSets):
    """The sets of one run, and four ways to draw them.

    Draw a split with `by_class`, `random`, `by_ids` or `by_group`. Their arguments `train` and `test` are whatever
    `as_data` takes: `Data`, tensors (x, y), a `Dataset` or a `DataLoader`. The sets, sizes and hashes are the
    attributes of `SplitSets`.

    Example:
        >>> split = Split.by_class((x, y), (x_test, y_test), forget=3)
        >>> split.sizes["forget"]
        500
    """

    @classmethod
    def by_class(
        cls,
        train: Any,
        test: Any,
        forget: int | str | Sequence[int | str],
        *,
        share: float = 1.0,
        goal: Goal = "unlearn",
        validation: float = 0.1,
        validation_from: ValidationFrom = "train",
        unseen_ids: Ids | None = None,
        seed: int = 0,
        copies: CopyHandling = "report",
    ) -> Split:
        """Forget one or several classes.

        Args:
            train: Training data.
            test: Test data.
            forget: Class names or numbers. A text is a number only if no class has that name.
            share: Share of each class to forget, above 0 and at most 1. Below 1, the rest of the class is withheld from
                method and reference if goal is "unlearn", and retained if goal is "untrain".
            goal: "unlearn" or "untrain".
            validation: Share of each class to draw for validation, at least 0 and below 1.
            validation_from: "train" holds it out of training, "test" takes it out of the test set.
            unseen_ids: Ids that the original never saw, which are the validation set instead of a draw.
            seed: Seed of the validation set and of the share.
            copies: "report" copies in other sets, "include" exact ones in the forget set, or "ignore" them.

        Raises:
            SplitError: Lists every problem.

        Example:
            >>> split = Split.by_class(train, test, forget=["cat", "dog"])
        """
        if share > 1:
            raise SplitError(f"the share of a class is {share}; give a share above 0 and at most 1.")
        pool = draw_validation(
            as_data(train), as_data(test), validation, seed, goal, validation_from, unseen_ids
        )
        if not pool.train.has_classes:
            raise SplitError(
                "labels are no class numbers, so no class can be forgotten; number the classes from 0, one whole number per sample."
            )
        labels = pool.train.labels
        wanted = [forget] if isinstance(forget, str) or not isinstance(forget, Iterable) else list(forget)
        classes = class_numbers(wanted, pool.train, pool.train.num_classes)
        of_class = torch.isin(labels, torch.tensor(classes))
        # A share is drawn from the samples that models are trained on. A whole class has no exception.
        trained = of_class & pool.for_training
        forgotten = of_class if share == 1 else draw_share(trained, share, seed, per_class=labels)
        spec = {"forget": classes, "share": share}
        if share < 1 and goal == "untrain":
            return _build(pool, forgotten, "part of a class", spec, copies)
        return _build(pool, forgotten, "class", spec, copies, withheld=trained & ~forgotten, classes=classes)

    @classmethod
    def random(
        cls,
        train: Any,
        test: Any,
        share: float = 0.1,
        *,
        count: int | None = None,
        goal: Goal = "untrain",
        validation: float = 0.1,
        validation_from: ValidationFrom = "train",
        unseen_ids: Ids | None = None,
        seed: int = 0,
        copies: CopyHandling = "report",
    ) -> Split:
        """Forget random training samples.

        Args:
            train: Training data.
            test: Test data.
            share: Share of the training samples to forget, above 0. Default 0.1.
            count: Number of samples to forget, instead of a share.
            goal: "untrain" or "unlearn".
            validation: Share of each class to draw for validation, at least 0 and below 1.
            validation_from: "train" holds it out of training, "test" takes it out of the test set.
            unseen_ids: Ids that the original never saw, which are the validation set instead of a draw.
            seed: Seed of the validation set and of the forget set.
            copies: "report" copies in other sets, "include" exact ones in the forget set, or "ignore" them.

        Raises:
            SplitError: Lists every problem.

        Example:
            >>> split = Split.random(train, test, count=100, seed=1)
        """
        pool = draw_validation(
            as_data(train), as_data(test), validation, seed, goal, validation_from, unseen_ids
        )
        forgotten = draw_share(pool.for_training, share, seed, count=count)
        return _build(pool, forgotten, "random", {"share": None if count else share, "count": count}, copies)

    @classmethod
    def by_ids(
        cls,
        train: Any,
        test: Any,
        ids: str | Path | Iterable[str | int],
        *,
        goal: Goal = "untrain",
        validation: float = 0.1,
        validation_from: ValidationFrom = "train",
        unseen_ids: Ids | None = None,
        seed: int = 0,
        copies: CopyHandling = "include",
    ) -> Split:
        """Forget the samples with these ids.

        Args:
            train: Training data. Its ids are `Data.ids`, or positions if it has none.
            test: Test data.
            ids: A list of ids, or a text file with one id per line.
            goal: "untrain" or "unlearn".
            validation: Share of each class to draw for validation, at least 0 and below 1.
            validation_from: "train" holds it out of training, "test" takes it out of the test set.
            unseen_ids: Ids that the original never saw, which are the validation set instead of a draw.
            seed: Seed of the validation set.
            copies: "include" exact copies from other sets in the forget set, "report" them only, or "ignore" them.

        Raises:
            SplitError: Lists every problem, such as ids that are unknown, given twice, or in the test set.

        Example:
            >>> split = Split.by_ids(train, test, "request.txt", validation=0)
        """
        pool = draw_validation(
            as_data(train), as_data(test), validation, seed, goal, validation_from, unseen_ids
        )
        forgotten = samples_with_ids(ids, pool.train, pool.test)
        return _build(pool, forgotten, "ids", ids_spec(forgotten, pool.train), copies)

    @classmethod
    def by_group(
        cls,
        train: Any,
        test: Any,
        column: str,
        values: Any,
        *,
        goal: Goal = "untrain",
        validation: float = 0.1,
        validation_from: ValidationFrom = "train",
        unseen_ids: Ids | None = None,
        seed: int = 0,
        copies: CopyHandling = "include",
    ) -> Split:
        """Forget the samples of a group, such as all samples of one user.

        Args:
            train: Training data with groups (`Data.groups`).
            test: Test data.
            column: The group column.
            values: One value, or a list of values. They are compared as texts.
            goal: "untrain" or "unlearn".
            validation: Share of each class to draw for validation, at least 0 and below 1.
            validation_from: "train" holds it out of training, "test" takes it out of the test set.
            unseen_ids: Ids that the original never saw, which are the validation set instead of a draw.
            seed: Seed of the validation set.
            copies: "include" exact copies from other sets in the forget set, "report" them only, or "ignore" them.

        Raises:
            SplitError: Lists every problem, such as an unknown column or value.

        Example:
            >>> split = Split.by_group(train, test, "user", ["alice", "bob"])
        """
        pool = draw_validation(
            as_data(train), as_data(test), validation, seed, goal, validation_from, unseen_ids
        )
        spec = {"column": column, "values": as_texts(values)}
        forgotten = samples_in_group(column, values, pool.train)
        return _build(pool, forgotten, "group", spec, copies)


def _build(
    pool: Pool,
    forget: Tensor,
    scenario: str,
    spec: dict[str, Any],
    handling: CopyHandling,
    *,
    withheld: Tensor | None = None,
    classes: Sequence[int] = (),
) -> Split:
    """Build the split with this forget set. `forget` and `withheld` are bool (N,)."""
    withheld = forget & False if withheld is None else withheld
    retain = pool.for_training & ~forget & ~withheld
    test_forgotten = in_classes(pool.test, classes)
    check_sets(pool, forget, retain, test_forgotten, by_id=scenario == "ids")
    validation = pool.for_validation & ~forget
    sets = (forget, retain, validation, pool.from_test)
    forget, retain, copies = include_copies(pool.train, pool.test, *sets, handling)
    how = {"scenario": scenario, **spec, **pool.settings, **copy_settings(scenario, copies)}
    fields = fields_of(pool, forget, retain, withheld, test_forgotten, copies.left_out)
    return Split(**fields, scenario=scenario, spec=how, forget_classes=tuple(classes), copies=copies)
