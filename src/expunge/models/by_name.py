"""Models of timm and torchvision by name, and how the images of their published parameters are prepared.

Nothing is downloaded: a model has initial parameters until a checkpoint is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import MissingExtra, ModelError
from . import timm_models
from .timm_models import Options, normalisation, unknown

# models of torchvision that repeat the normalisation inside where they come with published parameters
TRANSFORM_INPUT = ("googlenet", "inception_v3")


def check_name(name: str) -> None:
    """Check a name such as `timm:vit_tiny_patch16_224` or `torchvision:resnet50@IMAGENET1K_V1`.

    Raises:
        ModelError: The library has no such model. Names the nearest.
        MissingExtra: The library is not installed.
    """
    kind, _, model = name.partition(":")
    _LIBRARIES[kind][0](model)


def make(name: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Make a model with initial parameters.

    Args:
        name: `timm:NAME`, `timm:NAME.TAG`, `timm:NAME?argument=value` with arguments of `timm.create_model`, `timm:DIR` of a folder that
            `save_for_hf` wrote, `torchvision:NAME` or `torchvision:NAME@WEIGHTS`.
        num_classes: Number of classes.
        shape: Shape (C, H, W) of one image.

    Raises:
        ModelError: The library has no such model, or the model cannot be made for these images.
        MissingExtra: The library is not installed.
    """
    if len(shape) != 3:
        raise ModelError(f"{name} takes images (C, H, W), but an input of the data has the shape {shape}.")
    check_name(name)
    kind, _, model = name.partition(":")
    try:
        return _LIBRARIES[kind][1](model, num_classes, shape)
    except ModelError:
        raise
    # the libraries raise many types of errors
    except Exception as error:
        raise ModelError(
            f"{name} cannot be made for images {shape}: {type(error).__name__}: {error}"
        ) from error


def data_options(name: str) -> Options:
    """Return how the images of a model are prepared, as options of a data source: size, crop, mean, std, interpolation.

    They come from `pretrained_cfg` of timm, or from the transforms of torchvision's weights (the default ones, or those after
    the `@`). What no option can express is left out.

    Raises:
        ModelError: The library has no such model.
        MissingExtra: The library is not installed.

    Example:
        >>> data_options("timm:vit_tiny_patch16_224")
        {'mean': '0.5,0.5,0.5', 'std': '0.5,0.5,0.5', 'size': '248', 'crop': '224'}
    """
    check_name(name)
    kind, _, model = name.partition(":")
    return _LIBRARIES[kind][2](model)


def _torchvision() -> Any:
    try:
        import torchvision
    # a torchvision for another torch raises RuntimeError
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("models of torchvision", "vision") from error
    return torchvision.models


def _torchvision_parts(name: str) -> tuple[str, str]:
    model, _, weights = name.partition("@")
    return model, weights


def _check_torchvision(name: str) -> None:
    models = _torchvision()
    model, weights = _torchvision_parts(name)
    known = models.list_models(module=models)
    if model not in known:
        raise ModelError(unknown("torchvision", model, known))
    names = [w.name for w in models.get_model_weights(model)]
    if weights and weights not in names:
        raise ModelError(
            f"torchvision has no weights '{weights}' of {model}; they are {', '.join(names) or 'none'}."
        )


def _make_torchvision(name: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    model, _ = _torchvision_parts(name)
    # without init_weights, they warn of a future default
    options = {"transform_input": True, "init_weights": True} if model in TRANSFORM_INPUT else {}
    return _torchvision().get_model(model, weights=None, num_classes=num_classes, **options)


def _torchvision_options(name: str) -> Options:
    model, chosen = _torchvision_parts(name)
    weights: Any = _torchvision().get_model_weights(model)
    if not len(weights):
        return {}
    used = (weights[chosen] if chosen else weights.DEFAULT).transforms()
    options = normalisation(used.mean, used.std, used.interpolation.value)
    return {**options, "size": str(used.resize_size[0]), "crop": str(used.crop_size[0])}


Library = tuple[
    Callable[[str], None], Callable[[str, int, tuple[int, ...]], nn.Module], Callable[[str], Options]
]
_LIBRARIES: dict[str, Library] = {
    "timm": (timm_models.check, timm_models.make, timm_models.data_options),
    "torchvision": (_check_torchvision, _make_torchvision, _torchvision_options),
}
KINDS = tuple(_LIBRARIES)
