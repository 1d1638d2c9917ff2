"""Make models with initial parameters: built-in ones by name, and yours by `package.module:factory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import ModelError
from ..imports import call_object
from ..secret_text import secret_problem
from . import adapters, by_name
from .airbench import Airbench
from .cnn import CNN, MLP
from .pretrained import FOLDERS, from_folder
from .resnet import resnet18, resnet20
from .transformer import TextTransformer, ViT
from .vgg import VGG

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "mlp": MLP,
    "airbench": Airbench,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "vgg16_bn": VGG,
    "vit_tiny": ViT,
    "text_transformer": TextTransformer,
}
# number of axes of an input (None: any number) and a description; the other models take images
# what stands before the colon of a model that no file of the user's makes
KINDS = (*FOLDERS, adapters.KIND, *by_name.KINDS)
TAKES = {"mlp": (None, "anything of a fixed shape"), "text_transformer": (1, "token numbers (T,)")}


def names() -> list[str]:
    """Return the names of the built-in models."""
    return list(MODELS)


def build(name: str, *, num_classes: int, shape: tuple[int, ...] = (3, 32, 32), **options: Any) -> nn.Module:
    """Make a model with initial parameters.

    A factory is called with the arguments it names among `num_classes`, `shape` and `in_channels`. A factory that
    takes any keyword, as those of torchvision, also gets `num_classes`.

    Args:
        name: A built-in name, `hf-config:DIR` or `hf-weights:DIR` (see `pretrained.from_folder`), `peft:DIR`
            (see `adapters.with_adapter`), `timm:NAME` or `torchvision:NAME` (see `by_name.make`), or `package.module:factory`.
        num_classes: Number of classes.
        shape: Shape of one input, (C, H, W) for images.
        options: Further arguments of the model.

    Raises:
        ModelError: If the name is unknown, the model cannot take the shape, or the factory fails.
        MissingExtra: If the model needs a library that is not installed.

    Example:
        >>> model = build("resnet18", num_classes=10)
    """
    if name.partition(":")[0] in FOLDERS:
        return from_folder(name, num_classes, shape)
    if name.partition(":")[0] == adapters.KIND:
        return adapters.with_adapter(name, num_classes, tuple(shape))
    if name.partition(":")[0] in by_name.KINDS:
        return by_name.make(name, num_classes, tuple(shape))
    given = {"num_classes": num_classes, "shape": tuple(shape), "in_channels": shape[0] if shape else 1}
    if ":" in name:
        model = call_object(
            name, {**given, **options}, ModelError, always=set(options), hidden=("num_classes",)
        )
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"{name} returned {type(model).__name__}; a model factory must return an nn.Module."
            )
        if lazy := [n for n, p in model.named_parameters() if is_lazy(p)]:
            raise ModelError(
                f"{name} returned a model whose parameters have no shape yet (first: {lazy[:3]}); run a batch through it "
                "in the factory, or replace the lazy layers by layers with sizes."
            )
        return model
    check_name(name)
    _check_shape(name, tuple(shape))
    return MODELS[name](num_classes=num_classes, shape=tuple(shape), **options)


def check_name(name: str) -> None:
    """Raise `ModelError` for an unknown name. A folder or a factory is checked when the model is made."""
    if problem := secret_problem("the name of the model", name):
        raise ModelError(problem)
    if name.partition(":")[0] in by_name.KINDS:
        by_name.check_name(name)
    if ":" not in name and name not in MODELS:
        raise ModelError(
            f"there is no model '{name}'; choose one of {', '.join(MODELS)}, hf-config:DIR, hf-weights:DIR, "
            "peft:DIR, timm:NAME, torchvision:NAME or package.module:factory."
        )


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise `ModelError` if a built-in model cannot take this shape. The message names the models that can."""
    takes = {m: TAKES.get(m, (3, "images (C, H, W)")) for m in MODELS}
    axes, expected = takes[name]
    if axes not in (None, len(shape)):
        others = [f"{m} ({words})" for m, (n, words) in takes.items() if n in (None, len(shape))]
        raise ModelError(
            f"{name} takes {expected}, but an input of the data has the shape {shape}; take {' or '.join(others)}, or "
            "your own model by package.module:factory."
        )
