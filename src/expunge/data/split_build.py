"""Build the sets of a split from its forget set. `Split` calls it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .copies import CopyHandling
from .copy_search import copy_settings, include_copies
from .samples import Samples
from .split_parts import Pool, check_sets


def build_sets(
    pool: Pool,
    forget: Tensor,
    scenario: str,
    spec: dict[str, Any],
    handling: CopyHandling,
    *,
    withheld: Tensor | None = None,
    classes: Sequence[int] = (),
) -> dict[str, Any]:
    """Return the fields of the split with this forget set.

    Args:
        pool: The data, with the samples that the original never saw.
        forget: Bool (N,), the requested samples.
        scenario: "class", "part of a class", "random", "ids" or "group".
        spec: How the forget set was drawn.
        handling: What is done about copies.
        withheld: Bool (N,), samples that the method does not get.
        classes: Numbers of the forgotten classes.

    Raises:
        SplitError: Lists every problem.
    """
    train, test, for_training, for_validation, from_test, settings = pool
    withheld = forget & False if withheld is None else withheld
    retain = for_training & ~forget & ~withheld
    test_forgotten = torch.zeros(len(test), dtype=torch.bool)
    if classes:
        test_forgotten = torch.isin(test.labels, torch.tensor(list(classes), dtype=torch.int64))
    check_sets(pool, forget, retain, test_forgotten)
    forget, retain, copies = include_copies(train, test, forget, retain, for_validation & ~forget, handling)
    for text in copies.warnings:
        # The warning points at the caller of Split.random, Split.by_class, ...
        warnings.warn(text, stacklevel=3)
    samples = lambda which, data: Samples(data, which.nonzero()[:, 0])  # noqa: E731
    return {
        "forget": samples(forget, train),
        "retain": samples(retain, train),
        "validation": samples(from_test, test)
        if from_test.any()
        else samples(for_validation & ~forget, train),
        "test": samples(~test_forgotten & ~from_test, test),
        "test_forgotten": samples(test_forgotten & ~from_test, test),
        "withheld": samples(withheld, train),
        "num_classes": train.num_classes,
        "scenario": scenario,
        "goal": settings["goal"],
        "spec": {"scenario": scenario, **spec, **settings, **copy_settings(scenario, copies)},
        "forget_classes": tuple(classes),
        "held_out": (forget & for_validation).nonzero()[:, 0],
        "copies": copies,
    }
