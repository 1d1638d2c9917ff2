"""Check that a model and its data number the classes alike, where the model or its file names them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from ..data.class_lists import listed, plain_name, remembered_classes

# ending of the names of the classifiers of transformers
CLASSIFIER = "Classification"


def class_order_problems(model: nn.Module, classes: Sequence[str] | None) -> list[str]:
    """Return one sentence if the data gives class names of the model other numbers: labels would be wrong.

    Args:
        model: The model. The `config.id2label` of a classifier of transformers counts, also inside a wrapper, and the class names
            of the checkpoint that was loaded into it.
        classes: Class names of the data in the order of their numbers, or None.
    """
    if not classes:
        return []
    labels = [plain_name(name) for name in classes]
    for place, names in _numberings(model):
        plain = [plain_name(name) for name in names]
        if len(plain) != len(labels) or len(set(plain)) < len(plain):
            continue
        if any(name in labels and labels.index(name) != k for k, name in enumerate(plain)):
            return [
                f"the model numbers its classes {listed(names)} ({place}), and the data {listed(classes)}, so the wrong "
                "class would be forgotten; number the labels as the model does: classes=PLACE in a data spec, with the folder of its "
                "config.json or a JSON file of class names in this order, or classes=[...] with labels that fit."
            ]
    return []


def _numberings(model: nn.Module) -> Iterator[tuple[str, list[str]]]:
    """Yield where a model names its classes, and the names in the order of their numbers."""
    for module in model.modules():
        if type(module).__name__.endswith(CLASSIFIER):
            yield "config.id2label", _names(module)
    yield from remembered_classes(model).items()


def _names(module: Any) -> list[str]:
    names = getattr(getattr(module, "config", None), "id2label", None)
    try:
        numbered = {int(k): str(v) for k, v in dict(names or {}).items()}
    # a config of the user's may hold anything
    except (TypeError, ValueError):
        return []
    return [numbered[k] for k in sorted(numbered)]
