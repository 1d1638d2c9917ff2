"""Which labels of a user's `Dataset` may be taken from an attribute, so that its items need not be read."""

from __future__ import annotations

from typing import Any

# labels whose items are compared; a list with more is compared in the first ones
MOST_COMPARED = 10_000


def changes_labels(dataset: Any) -> bool:
    """Whether a data set, or one inside of it (`Subset`, `ConcatDataset`), has a transform that may change labels.

    Args:
        dataset: A map-style data set. `target_transform` and a joint `transforms` are those of torchvision.
    """
    joint = getattr(dataset, "transforms", None)
    # torchvision joins two separate transforms in this class
    separate = joint is None or type(joint).__name__ == "StandardTransform"
    if getattr(dataset, "target_transform", None) is not None or not separate:
        return True
    inner = getattr(dataset, "datasets", None)
    parts = list(inner) if isinstance(inner, list | tuple) else [getattr(dataset, "dataset", None)]
    return any(part is not None and part is not dataset and changes_labels(part) for part in parts)


def one_per_label(labels: Any, count: int) -> list[int]:
    """Return positions whose items show whether labels are those of the items: first, middle, last, and the first of each label.

    Args:
        labels: Labels (N,), or anything else that a data set has under that name.
        count: Number of items. The result is empty if there are not as many labels.
    """
    first: dict[Any, int] = {}
    try:
        values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        if len(values) != count or not count:
            return []
        for position, value in enumerate(values):
            first.setdefault(value, position)
            if len(first) >= MOST_COMPARED:
                break
    # no list, or labels that are lists themselves
    except TypeError:
        return []
    return sorted({0, count // 2, count - 1, *first.values()})
