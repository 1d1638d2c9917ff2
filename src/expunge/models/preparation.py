"""Add to a data spec how a model of timm, torchvision or transformers expects its images and numbers its classes."""

from __future__ import annotations

from pathlib import Path

from ..sources.class_order import are_chosen, model_classes
from ..sources.spec import check_spec
from .by_name import KINDS, data_options

# options that a source takes; the images of a user's own source stay as they are
TAKES = {"folder": ("size", "crop", "interpolation", "mean", "std"), "cifar10": ("mean", "std")}
# options that belong together: whoever gives one decides on all
TOGETHER = (("size", "crop", "interpolation"), ("mean", "std"))
# the model whose head always has the classes of its config.json; hf-weights makes a new head for another number
CONFIGURED = "hf-config"


def prepared_spec(data: str, model: str) -> str:
    """Return a data spec with what a model was published with: size, crop, mean and std of images, and the order of classes.

    Options of the user stay, and those that belong with them are not added: size with crop and interpolation, mean with std.

    Args:
        data: A data spec, such as "folder:pictures".
        model: A model spec. Of timm and torchvision it adds the preparation of images, of `hf-config:DIR` the order of classes.

    Raises:
        ExpungeError: The data spec is wrong, the model is unknown, or its `config.json` is broken.

    Example:
        >>> prepared_spec("folder:pictures", "timm:vit_tiny_patch16_224")
        'folder:pictures?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size=248&crop=224'
    """
    if model.partition(":")[0] not in KINDS:
        return ordered_spec(data, model)
    source, _, given = check_spec(data)
    settled = {k for group in TOGETHER if set(group) & set(given) for k in group}
    grey = {"mean", "std"} if given.get("channels") == "1" else set()
    added = {
        k: v
        for k, v in data_options(model).items()
        if k in TAKES.get(source, ()) and k not in settled and k not in grey
    }
    return _with(data, added)


def ordered_spec(data: str, model: str) -> str:
    """Return a data spec with `classes=DIR` for a model `hf-config:DIR` whose `config.json` names its classes.

    A table of texts whose `tokenizer` is in the same folder has that order without it.

    Args:
        data: A data spec, such as "folder:pictures".
        model: A model spec. Those of other kinds add nothing.

    Raises:
        ExpungeError: The data spec is wrong, or `config.json` is broken.
    """
    kind, _, folder = model.partition(":")
    if kind != CONFIGURED:
        return data
    _, _, given = check_spec(data)
    place = Path(folder).expanduser()
    same = "tokenizer" in given and Path(given["tokenizer"]).expanduser() == place
    if "classes" in given or same or not are_chosen(model_classes(place)):
        return data
    return _with(data, {"classes": folder})


def _with(data: str, added: dict[str, str]) -> str:
    """The data spec with more options."""
    text = "&".join(f"{k}={v}" for k, v in added.items())
    return f"{data}{'&' if '?' in data else '?'}{text}" if added else data
