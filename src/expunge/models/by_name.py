"""Models of timm and torchvision by name, and how the images of their published parameters are prepared.

Nothing is downloaded: a model has initial parameters until a checkpoint is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from torch import nn

from ..errors import MissingExtra, ModelError

Options = dict[str, str]

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
        name: `timm:NAME`, `timm:NAME.TAG`, `torchvision:NAME` or `torchvision:NAME@WEIGHTS`.
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


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("models of timm", "vision") from error
    return timm


def _torchvision() -> Any:
    try:
        import torchvision
    # a torchvision for another torch raises RuntimeError
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("models of torchvision", "vision") from error
    return torchvision.models


def _check_timm(name: str) -> None:
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(_unknown("timm", architecture, timm.list_models()))
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ModelError(f"timm has no {architecture} with the tag '{tag}'; its tags are {', '.join(tags)}.")


def _make_timm(name: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    config, size = _timm_config(name), {}
    if config.fixed_input_size and tuple(config.input_size[1:]) != shape[1:]:
        size = {"img_size": shape[1:]}
    return _timm().create_model(name, num_classes=num_classes, in_chans=shape[0], **size)


def _timm_config(name: str) -> Any:
    _timm()
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(name) or get_pretrained_cfg(name, allow_unregistered=True)


def _timm_options(name: str) -> Options:
    config = _timm_config(name)
    if config is None:
        return {}
    from timm.data import resolve_data_config

    resolved = resolve_data_config(pretrained_cfg=config.to_dict())
    options = _normalisation(resolved["mean"], resolved["std"], resolved["interpolation"])
    height, width = resolved["input_size"][1:]
    whole = math.floor(height / resolved["crop_pct"])
    if height != width or resolved["crop_mode"] == "border":
        return options
    if resolved["crop_mode"] == "center":
        return {**options, "size": str(whole), "crop": str(height)}
    # "squash" resizes both sides, and only then cuts
    return {**options, "size": str(height)} if whole == height else options


def _torchvision_parts(name: str) -> tuple[str, str]:
    model, _, weights = name.partition("@")
    return model, weights


def _check_torchvision(name: str) -> None:
    models = _torchvision()
    model, weights = _torchvision_parts(name)
    known = models.list_models(module=models)
    if model not in known:
        raise ModelError(_unknown("torchvision", model, known))
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
    options = _normalisation(used.mean, used.std, used.interpolation.value)
    return {**options, "size": str(used.resize_size[0]), "crop": str(used.crop_size[0])}


def _normalisation(mean: Any, std: Any, interpolation: str) -> Options:
    options = {k: ",".join(f"{v:.6g}" for v in values) for k, values in (("mean", mean), ("std", std))}
    return options if interpolation == "bicubic" else {**options, "interpolation": interpolation}


def _unknown(library: str, name: str, known: list[str]) -> str:
    near = ", ".join(get_close_matches(name, known, 3)) or "those of its documentation"
    return f"{library} has no classifier '{name}'; the nearest names are {near}."


Library = tuple[
    Callable[[str], None], Callable[[str, int, tuple[int, ...]], nn.Module], Callable[[str], Options]
]
_LIBRARIES: dict[str, Library] = {
    "timm": (_check_timm, _make_timm, _timm_options),
    "torchvision": (_check_torchvision, _make_torchvision, _torchvision_options),
}
KINDS = tuple(_LIBRARIES)
