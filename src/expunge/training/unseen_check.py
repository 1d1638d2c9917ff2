"""Check that a split has the unseen samples that a method cannot do without."""

from __future__ import annotations

from ..data.split import Split
from ..data.validation_source import NO_UNSEEN, REMEDY
from .method import Method


def unseen_problems(method: Method, split: Split) -> list[str]:
    """Return that a method refuses a split without unseen samples. A forgotten class needs none."""
    if not method.needs_unseen or len(split.validation) or split.forget_classes:
        return []
    return [f"{method.name()} {method.needs_unseen}, and {NO_UNSEEN}; {REMEDY}."]
