"""How a model card says that a model is loaded which has no library of its own, and how its inputs are prepared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..models import MODELS
from ..models.by_name import KINDS
from ..sources.images import image_resize
from ..sources.spec import IMAGE_SOURCES, check_spec


def code_module(spec: str) -> str:
    """Return the module with the code of a model, such as "mynet" of "mynet:Net". Empty for a model that Expunge has by name.

    Args:
        spec: What the model was made by, as for `expunge.models.build`.
    """
    module, colon, place = spec.partition(":")
    named = spec in MODELS or module in KINDS or not colon or Path(place).exists()
    return "" if named else module


def own_usage(folder: str, spec: str, classes: Sequence[str], shape: tuple[int, ...]) -> str:
    """Return the lines of Python that load a model which `expunge.models.build` makes.

    They run in the folder that holds `folder`. A module of the user is imported from `folder`. What is not known is assigned
    first, with a comment that tells the reader to fill it in.

    Args:
        folder: Name of the folder.
        spec: What the model was made by, as for `expunge.models.build`.
        classes: Names of the classes in the order of the outputs; empty if they are not known.
        shape: Shape of one input, such as (C, H, W); empty if it is not known.
    """
    module = code_module(spec)
    known = bool(module) or spec.partition(":")[0] in (*MODELS, *KINDS)
    lines = ["from expunge.models import build", "from safetensors.torch import load_model", ""]
    if module:
        lines = [
            "import sys",
            "",
            *lines,
            f"# {module} has the code of the model; it must lie in the folder, unless it is an installed package",
            f"sys.path.insert(0, {json.dumps(folder)})",
        ]
    if not known:
        lines.append('FACTORY = "module:factory"  # fill in the function that makes the model')
    lines.append(
        f"CLASSES = {json.dumps(list(classes), ensure_ascii=False)}"
        if classes
        else "CLASSES = []  # fill in the names of the classes, in the order of the outputs"
    )
    lines.append(
        f"SHAPE = {tuple(shape)}"
        if shape
        else "SHAPE = ()  # fill in the shape of one input, such as (3, 32, 32)"
    )
    make = json.dumps(spec) if known else "FACTORY"
    return "\n".join(
        [
            *lines,
            f"model = build({make}, num_classes=len(CLASSES), shape=SHAPE)",
            f"load_model(model, {json.dumps(f'{folder}/model.safetensors')})",
            "model.eval()",
        ]
    )


def inputs_text(shape: tuple[int, ...], data: str) -> str:
    """Return how an input must be prepared. No path of the data is in the text. Empty if nothing is known.

    Args:
        shape: Shape of one input, such as (C, H, W); empty if it is not known.
        data: The data spec that the model was trained with, as for `expunge.sources.load`; may be empty.

    Example:
        >>> inputs_text((3, 32, 32), "folder:pictures?size=32")
        'An input has the shape (3, 32, 32). Colour images are resized to 32 x 32 (bicubic), with values from 0 to 1.'
    """
    texts = [f"An input has the shape {tuple(shape)}."] if shape else []
    source, _, options = check_spec(data) if data else ("", "", {})
    if source in IMAGE_SOURCES and len(shape) == 3:
        resize = image_resize(options)
        how = f"resized to {resize.size} x {resize.size}"
        if resize.crop is not None:
            how = f"resized to {resize.size} on the short side and cut to the middle {resize.crop} x {resize.crop}"
        kind = "Grey" if resize.channels == 1 else "Colour"
        texts.append(f"{kind} images are {how} ({resize.interpolation}), with values from 0 to 1.")
    if "mean" in options:
        mean, std = (options[name].replace(",", ", ") for name in ("mean", "std"))
        texts.append(
            f"From each channel the mean is subtracted, and the result is divided by the standard deviation: mean {mean}, std {std}."
        )
    return " ".join(texts)
