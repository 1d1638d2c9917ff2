"""Items of a user's `Dataset`: what is the input and what the label, and what cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

# Entries of an item that may hold the label. The first that exists is used.
LABEL_NAMES = ("labels", "label", "target", "targets", "y")
# the brightest pixel of an image of 16 bits
WHITE = 65_535
# Entries that are the only input of a model: it is called with the tensor, and not with a name.
ONLY_INPUT_NAMES = ("x", "image", "img", "input", "inputs", "data", "features")


class UnusableItem(Exception):
    """An item that is no sample. The message ends a sentence that begins with the item."""


def split_item(item: Any, label: str) -> tuple[Any, Any]:
    """Return the input and the label of one item.

    Args:
        item: A pair (x, y), where more entries may follow; or a dict, dataclass or named tuple with the label and one or several
            inputs.
        label: Name of the entry with the label. The default "labels" also finds "label", "target", "targets" and "y".

    Returns:
        The input (tensor, or a dict of tensors) and the label as it is.

    Raises:
        UnusableItem: There is no label, an input is no tensor, array, number or image, or several inputs have no names.
    """
    if item is None:
        raise UnusableItem("is None; leave it out (torch.utils.data.Subset), or give a sample with a label")
    if is_dataclass(item) and not isinstance(item, type):
        item = {f.name: getattr(item, f.name) for f in fields(item)}
    elif hasattr(item, "_asdict") and label_name(item._fields, label):
        item = item._asdict()
    if isinstance(item, Mapping):
        name = label_name(item, label)
        if name is None:
            raise UnusableItem(
                f"has the entries {sorted(map(str, item))} and no '{label}'; name the entry with the label (`label=`)"
            )
        return _named_inputs({str(k): v for k, v in item.items() if k != name}), item[name]
    if isinstance(item, tuple | list):
        if len(item) < 2:
            raise UnusableItem(f"is a {type(item).__name__} of {len(item)}; give a pair (x, y)")
        return as_input(item[0]), item[1]
    raise UnusableItem(f"is a {type(item).__name__}; give a pair (x, y), a dict or a dataclass")


def label_name(names: Any, label: str) -> str | None:
    """Return which of `names` holds the label; None if none does. "labels" stands for all of `LABEL_NAMES`."""
    wanted = LABEL_NAMES if label == LABEL_NAMES[0] else (label,)
    return next((name for name in wanted if name in names), None)


def _named_inputs(entries: dict[str, Any]) -> Any:
    """The inputs by name; the input itself if it is the only one. Texts and other entries are left out."""
    inputs, images = {}, []
    for name, value in entries.items():
        if value is None or isinstance(value, str | bytes | Mapping):
            continue
        if holds_inputs(value):
            raise UnusableItem(f"has in '{name}' {unnamed(value)}")
        try:
            inputs[name] = as_input(value)
        except UnusableItem:
            continue
        if is_image(value):
            images.append(name)
    if not inputs:
        raise UnusableItem(f"has the entries {sorted(entries)} and none is a tensor, array, number or image")
    name = next(iter(inputs))
    return inputs[name] if len(inputs) == 1 and (images or name in ONLY_INPUT_NAMES) else inputs


def as_input(value: Any) -> Any:
    """Return a tensor of an array, number, list of numbers (of any depth) or PIL image, or a dict of such.

    Raises:
        UnusableItem: The value is none of these, or several inputs without names.
    """
    if isinstance(value, Tensor):
        return value
    if is_image(value):
        return image_tensor(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise UnusableItem(f"has an input of {array.dtype}; give numbers")
        # torch takes neither the other byte order nor reversed axes, and warns of memory that is read only
        if not array.dtype.isnative or min(array.strides, default=0) < 0 or not array.flags.writeable:
            array = np.array(array, array.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(array)
    if isinstance(value, Number):
        return value
    if isinstance(value, Mapping):
        return {str(k): as_input(v) for k, v in value.items()}
    if isinstance(value, tuple | list) and len(value):
        if all(isinstance(v, Number) for v in value):
            return torch.tensor(value)
        if holds_inputs(value):
            raise UnusableItem(f"has {unnamed(value)}")
        try:
            return torch.tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UnusableItem(
                f"has a {type(value).__name__} of {len(value)} as input that makes no tensor ({error}); give numbers, each list as "
                "long as the others"
            ) from error
    raise UnusableItem(
        f"has an input of type {type(value).__name__}; give a tensor, an array, numbers or a PIL image"
    )


def holds_inputs(value: Any) -> bool:
    """Whether a value is a tuple or list of tensors, arrays or images: several inputs without names."""
    if not isinstance(value, tuple | list):
        return False
    return any(isinstance(v, Tensor | np.ndarray) or is_image(v) or holds_inputs(v) for v in value)


def unnamed(value: Any) -> str:
    """Say that several inputs have no names, and how to give them."""
    return (
        f"a {type(value).__name__} of {len(value)} inputs without names; give a dict with a name for each, by which the model takes it: "
        "{'first': x1, 'second': x2, 'label': y} for forward(first, second)"
    )


def is_image(value: Any) -> bool:
    """Whether a value is a PIL image. Pillow is not imported for it."""
    return any(c.__module__ == "PIL.Image" and c.__name__ == "Image" for c in type(value).__mro__)


def image_tensor(image: Image) -> Tensor:
    """Return a PIL image as uint8 (C, H, W): one channel for grey images, three for all others."""
    try:
        check_range(image)
    except ValueError as error:
        raise UnusableItem(f"is an image that cannot be used: {error}") from error
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    pixels = torch.from_numpy(np.array(to_8_bits(image).convert("L" if grey else "RGB")))
    return pixels[None] if grey else pixels.permute(2, 0, 1).contiguous()


def check_range(image: Image) -> None:
    """Check that the pixels of an image have a range that is known.

    Raises:
        ValueError: They are floats, of which no format says which number is white, or whole numbers below 0 or above 65,535.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floats without a range; save it with 8 or 16 bits")
    if image.mode == "I":
        pixels = np.asarray(image)
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > WHITE:
            raise ValueError(
                f"its pixels are whole numbers from {low:,} to {high:,}, and 0 is black and {WHITE:,} white; scale them, and save it "
                "with 8 or 16 bits"
            )


def to_8_bits(image: Image) -> Image:
    """Scale a grey image of 16 bits (modes `I;16` and `I`) to 8 bits. Pillow's own conversion clips it at 255."""
    from PIL.Image import fromarray

    if not image.mode.startswith("I"):
        return image
    return fromarray((np.asarray(image) * (255 / WHITE)).round().clip(0, 255).astype(np.uint8))
