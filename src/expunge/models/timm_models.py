"""Models of timm: by name, with arguments, or from a folder that `save_for_hf` wrote."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..data.timm_folder import timm_config
from ..errors import MissingExtra, ModelError

Options = dict[str, str]


class Spec(NamedTuple):
    """What follows `timm:`: a name or a folder, and arguments of `timm.create_model`."""

    place: str
    arguments: dict[str, Any]

    @property
    def folder(self) -> Path | None:
        """The folder. None for a name."""
        path = Path(self.place).expanduser()
        return path if "/" in self.place or "\\" in self.place or timm_config(path) else None


def read_spec(text: str) -> Spec:
    """Divide `NAME?global_pool=max&output_stride=16` into the name and the arguments.

    Raises:
        ModelError: An argument is no NAME=VALUE, or one that comes from the data.

    Example:
        >>> read_spec("resnet18?global_pool=max&output_stride=16").arguments
        {'global_pool': 'max', 'output_stride': 16}
    """
    place, question, query = text.partition("?")
    pairs = [part.partition("=") for part in query.split("&")] if question else []
    for name, equals, _ in pairs:
        if not (name.isidentifier() and equals):
            raise ModelError(
                f"timm:{text} has the argument '{name}{equals}'; write timm:NAME?argument=value&argument=value."
            )
        if name in ("num_classes", "in_chans", "pretrained"):
            raise ModelError(
                f"timm:{text} sets {name}: classes and channels are those of the data, and parameters come from --checkpoint; leave it "
                "out."
            )
    return Spec(place, {name: _value(value) for name, _, value in pairs})


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def library() -> Any:
    """Return timm. Raises `MissingExtra` if it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("models of timm", "vision") from error
    return timm


def check(text: str) -> None:
    """Check what follows `timm:`. The errors are those of `by_name.check_name`."""
    timm, spec = library(), read_spec(text)
    architecture, _, tag = spec.place.partition(".")
    if spec.folder is not None:
        config = timm_config(spec.folder)
        if not config:
            raise ModelError(
                f"{spec.folder} has no config.json of timm (with `architecture` and `pretrained_cfg`); name a folder that `save_for_hf` "
                "wrote, or a model."
            )
        architecture, tag = config["architecture"], ""
    if not timm.is_model(architecture):
        raise ModelError(unknown("timm", architecture, timm.list_models()))
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ModelError(f"timm has no {architecture} with the tag '{tag}'; its tags are {', '.join(tags)}.")


def make(text: str, num_classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Make the model with initial parameters. It notes what made it, so that a checkpoint of another folder is refused."""
    spec, size = read_spec(text), {}
    config, name = _config(spec), spec.place
    if spec.folder is not None:
        saved, name = timm_config(spec.folder), f"local-dir:{spec.folder}"
        if saved.get("num_classes", num_classes) != num_classes:
            raise ModelError(
                f"{spec.folder}/config.json describes {saved['num_classes']} classes, but the data has {num_classes}; use data with all "
                f"the classes, or timm:{saved['architecture']} to get a head for the classes of the data."
            )
    fixed = config.fixed_input_size and "img_size" not in spec.arguments
    if fixed and tuple(config.input_size[1:]) != shape[1:]:
        size = {"img_size": shape[1:]}
    made: nn.Module = library().create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=shape[0], **{**size, **spec.arguments}
    )
    made.made_by = f"timm:{text}"  # type: ignore[assignment]
    return made


def _config(spec: Spec) -> Any:
    library()
    from timm.models import PretrainedCfg, get_pretrained_cfg

    if spec.folder is not None:
        known = {f.name for f in fields(PretrainedCfg)}
        values = timm_config(spec.folder)["pretrained_cfg"]
        return PretrainedCfg(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        )
    return get_pretrained_cfg(spec.place) or get_pretrained_cfg(spec.place, allow_unregistered=True)


def data_options(text: str) -> Options:
    """Return how the images are prepared, as options of a data source."""
    config = _config(read_spec(text))
    if config is None:
        return {}
    from timm.data import resolve_data_config

    resolved = resolve_data_config(pretrained_cfg=config.to_dict())
    options = normalisation(resolved["mean"], resolved["std"], resolved["interpolation"])
    height, width = resolved["input_size"][1:]
    whole = math.floor(height / resolved["crop_pct"])
    if height != width or resolved["crop_mode"] == "border":
        return options
    if resolved["crop_mode"] == "center":
        return {**options, "size": str(whole), "crop": str(height)}
    # "squash" resizes both sides, and only then cuts
    return {**options, "size": str(height)} if whole == height else options


def normalisation(mean: Any, std: Any, interpolation: str) -> Options:
    """Return mean, std and interpolation as options. Without an option, a source resizes bicubic."""
    options = {k: ",".join(f"{v:.6g}" for v in values) for k, values in (("mean", mean), ("std", std))}
    return options if interpolation == "bicubic" else {**options, "interpolation": interpolation}


def unknown(name_of_library: str, name: str, known: list[str]) -> str:
    """Return the sentence that a library has no such model."""
    near = ", ".join(get_close_matches(name, known, 3)) or "those of its documentation"
    return f"{name_of_library} has no classifier '{name}'; the nearest names are {near}."
