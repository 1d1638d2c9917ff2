"""Check that a model of transformers and its data number the classes alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

# ending of the names of the classifiers of transformers
CLASSIFIER = "Classification"
# classes that a message shows
SHOWN = 5


def class_order_problems(model: nn.Module, classes: Sequence[str] | None) -> list[str]:
    """Return one sentence if the data has the class names of the model in another order: every label would be wrong.

    Args:
        model: The model. The `config.id2label` of a classifier of transformers counts, also inside a wrapper.
        classes: Class names of the data in the order of their numbers, or None.
    """
    if not classes:
        return []
    labels = [_plain(name) for name in classes]
    for module in model.modules():
        names = _names(module) if type(module).__name__.endswith(CLASSIFIER) else []
        plain = [_plain(name) for name in names]
        if plain != labels and sorted(plain) == sorted(labels) and len(set(plain)) == len(plain):
            return [
                f"the model numbers its classes {_listed(names)} (config.id2label), and the data {_listed(classes)}, so the wrong "
                "class would be forgotten; number the labels as the model does: classes=FOLDER of its config.json in a data spec, "
                "or classes=[...] with labels that fit."
            ]
    return []


def _names(module: Any) -> list[str]:
    names = getattr(getattr(module, "config", None), "id2label", None)
    try:
        numbered = {int(k): str(v) for k, v in dict(names or {}).items()}
    # a config of the user's may hold anything
    except (TypeError, ValueError):
        return []
    return [numbered[k] for k in sorted(numbered)]


def _plain(name: str) -> str:
    return " ".join(str(name).casefold().split())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{k} = {name}" for k, name in enumerate(names[:SHOWN]))
    return f"{shown}{', ...' if len(names) > SHOWN else ''}"
