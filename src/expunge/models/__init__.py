"""Models to start from, by name, and the user's own by `package.module:factory`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import MissingExtra, ModelError
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
IMPORTABLE = "write package.module:function, importable from here."
EXTRAS = {"torchvision": "vision", "transformers": "text", "diffusers": "diffusion"}


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
        made = called(name, {**given, **options}, ModelError, always=set(options), hidden=("num_classes",))
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


def imported(spec: str, error: type[Exception]) -> Callable[..., Any]:
    """The function that `package.module:function` names; modules of the current folder are found too.

    Raises `error` for what cannot be imported, whatever the reason, and for what cannot be called.
    """
    module, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as caught:
        package = (caught.name or "").partition(".")[0]
        if package in EXTRAS and find_spec(package) is None:
            raise MissingExtra(spec, EXTRAS[package]) from caught
        raise error(f"{spec} cannot be imported: {caught}; {IMPORTABLE}") from caught
    except Exception as caught:  # the module's own code runs here and may raise anything
        raise error(f"{spec} cannot be imported: {type(caught).__name__}: {caught}; {IMPORTABLE}") from caught
    if not callable(found) or isinstance(found, nn.Module):
        raise error(f"{spec} is a {type(found).__name__}; name a function or a class that makes one.")
    return found


def called(
    spec: str,
    given: dict[str, Any],
    error: type[Exception],
    always: Collection[str] = (),
    hidden: Collection[str] = (),
) -> Any:
    """What the function named by `spec` returns, called with whichever of `given` it names, and with all of `always`.

    One that takes any keyword hands most of them to another function, which may know few: it gets those in `hidden` too.
    """
    factory = imported(spec, error)
    try:
        takes = inspect.signature(factory).parameters
    except ValueError:  # some functions written in C do not say
        takes = {}  # type: ignore[assignment]
    more = hidden if any(p.kind is p.VAR_KEYWORD for p in takes.values()) else ()
    chosen = {k: v for k, v in given.items() if k in takes or k in always or k in more}
    if needed := [
        n
        for n, p in takes.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and n not in chosen
    ]:
        raise error(
            f"{spec} needs the arguments {', '.join(needed)}; it is called with "
            + (f"whichever of {', '.join(given)} it takes" if given else "no arguments")
            + ": give the others a default."
        )
    try:
        return factory(**chosen)
    except Exception as caught:  # the factory is the user's code
        raise error(f"{spec} failed: {type(caught).__name__}: {caught}") from caught
