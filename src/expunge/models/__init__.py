"""Models to start from, by name, and the user's own by `package.module:factory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import ModelError
from ..imports import call_object
from .cnn import CNN, MLP
from .pretrained import KINDS, from_folder
from .resnet import resnet18, resnet20
from .transformer import TextTransformer, ViT
from .vgg import VGG

MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": CNN,
    "mlp": MLP,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "vgg16_bn": VGG,
    "vit_tiny": ViT,
    "text_transformer": TextTransformer,
}
# axes of an input (None for any number), in words; the other models take images
TAKES = {"mlp": (None, "anything of a fixed shape"), "text_transformer": (1, "token numbers (T,)")}


def names() -> list[str]:
    """The built-in models."""
    return list(MODELS)


def build(name: str, *, num_classes: int, shape: tuple[int, ...] = (3, 32, 32), **options: Any) -> nn.Module:
    """A model with fresh weights: a built-in name, `hf-config:DIR` or `hf-weights:DIR` (see `pretrained.from_folder`), or
    `package.module:factory`, called with whichever of `num_classes`, `shape` (C, H, W) and `in_channels` it names, and with
    `num_classes` if it takes any keyword, as those of torchvision do. Raises `ModelError` for unknown names and for what is
    no `nn.Module`."""
    if name.partition(":")[0] in KINDS:
        return from_folder(name, num_classes, shape)
    given = {"num_classes": num_classes, "shape": tuple(shape), "in_channels": shape[0] if shape else 1}
    if ":" in name:
        made = call_object(
            name, {**given, **options}, ModelError, always=set(options), hidden=("num_classes",)
        )
        if not isinstance(made, nn.Module):
            raise ModelError(f"{name} returned {type(made).__name__}; a model factory returns an nn.Module.")
        if lazy := [n for n, p in made.named_parameters() if is_lazy(p)]:
            raise ModelError(
                f"{name} returned a model whose weights have no shape yet (first: {lazy[:3]}); run a batch through it "
                "in the factory, or give its layers their sizes."
            )
        return made
    check_name(name)
    _check_shape(name, tuple(shape))
    return MODELS[name](num_classes=num_classes, shape=tuple(shape), **options)


def check_name(name: str) -> None:
    """Raise `ModelError` for what is neither a built-in name nor written as a place of models."""
    if ":" not in name and name not in MODELS:
        raise ModelError(
            f"there is no model '{name}'; known: {', '.join(MODELS)}, hf-config:DIR, hf-weights:DIR or package.module:factory."
        )


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise `ModelError` where a built-in model cannot take inputs of this shape, with those that can."""
    takes = {m: TAKES.get(m, (3, "images (C, H, W)")) for m in MODELS}
    axes, what = takes[name]
    if axes not in (None, len(shape)):
        others = [f"{m} ({words})" for m, (n, words) in takes.items() if n in (None, len(shape))]
        raise ModelError(
            f"{name} takes {what} and an input of the data has the shape {shape}; for that take {' or '.join(others)}, or "
            "a model of your own by package.module:factory."
        )
