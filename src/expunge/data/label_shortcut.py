"""Which labels of a user's `Dataset` may be taken from an attribute, so that its items need not be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .items import label_name

# libraries whose data sets give items with the labels that their attributes have
LIBRARIES = ("torch", "torchvision", "datasets", "expunge")
# labels whose items are compared; a list with more is compared in the first ones
MOST_COMPARED = 10_000


def labels_without_items(dataset: Any, label: str) -> Iterator[Any]:
    """Yield the labels that a data set of a library shows without reading items. Each must be compared with some items.

    A class of the user, or one that gives items by code of its own, may change the labels of some items: it shows none.

    Args:
        dataset: A map-style data set.
        label: The entry of an item that holds the label.
    """
    if not made_by_library(dataset):
        return
    # what changes labels may change some of them alone
    if not changes_labels(dataset):
        samples = getattr(dataset, "samples", None)
        # folders of torchvision give the label in `samples`; `targets` is a copy
        if isinstance(samples, list) and all(isinstance(s, tuple) and len(s) == 2 for s in samples):
            yield [y for _, y in samples]
        else:
            yield from (getattr(dataset, name, None) for name in ("targets", "labels"))
    if not has_transform(dataset):
        yield label_column(dataset, label)


def made_by_library(dataset: Any) -> bool:
    """Whether a library wrote the code that gives the items of a data set."""
    for name in ("__getitem__", "__getitems__"):
        owner = next((c for c in type(dataset).__mro__ if name in vars(c)), None)
        if owner is not None and owner.__module__.partition(".")[0] not in LIBRARIES:
            return False
    return True


def has_transform(dataset: Any) -> bool:
    """Whether a data set of Hugging Face makes its items by a function of the user (`with_transform`)."""
    form = getattr(dataset, "format", None)
    return isinstance(form, dict) and form.get("type") == "custom"


def label_column(dataset: Any, label: str) -> Any:
    """Return the labels of a data set of Hugging Face as its column has them. None for others."""
    columns = getattr(dataset, "column_names", None)
    name = label_name(columns, label) if isinstance(columns, list) else None
    # numbers, and not tensors of `with_format`; without a function of the user
    plain = getattr(dataset, "with_format", None)
    return None if name is None or plain is None else list(plain(None)[name])


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
