"""Add to a data spec how a model of timm, torchvision or transformers expects its images and numbers its classes."""

from __future__ import annotations

from pathlib import Path

from ..data.timm_folder import timm_config
from ..sources.class_order import are_chosen, model_classes
from ..sources.spec import IMAGE_SOURCES, check_spec
from .by_name import KINDS, data_options
from .preprocessor import preprocessor_options
from .pretrained import FOLDERS

# options that a source takes; the images of a user's own source stay as they are
IMAGES = ("size", "crop", "interpolation", "mean", "std")
TAKES = {**dict.fromkeys(IMAGE_SOURCES, IMAGES), "cifar10": ("mean", "std")}
# options of a source that may have texts instead
OF_TEXTS = {"text", "tokenizer", "length"}
# options that belong together: whoever gives one decides on all
TOGETHER = (("size", "crop", "interpolation"), ("mean", "std"))
# the model whose head always has the classes of its config.json; hf-weights makes a new head for another number
CONFIGURED = "hf-config"


def prepared_spec(data: str, model: str) -> str:
    """Return a data spec with what a model was published with: size, crop, mean and std of images, and the order of classes.

    Options of the user stay, and those that belong with them are not added: size with crop and interpolation, mean with std.

    Args:
        data: A data spec, such as "folder:pictures".
        model: A model spec. Of timm and torchvision it adds the preparation of images, of `hf-config:DIR` and `hf-weights:DIR` that in
            `preprocessor_config.json`, and of `hf-config:DIR` and `timm:DIR` the order of classes.

    Raises:
        ExpungeError: The data spec is wrong, the model is unknown, or its `config.json` is broken.

    Example:
        >>> prepared_spec("folder:pictures", "timm:vit_tiny_patch16_224")
        'folder:pictures?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size=248&crop=224'
    """
    if model.partition(":")[0] not in (*KINDS, *FOLDERS):
        return data
    source, _, given = check_spec(data)
    settled = {k for group in TOGETHER if set(group) & set(given) for k in group}
    grey = {"mean", "std"} if given.get("channels") == "1" else set()
    takes = () if OF_TEXTS & set(given) else TAKES.get(source, ())
    wanted = _options(model) if takes else {}
    added = {k: v for k, v in wanted.items() if k in takes and k not in settled and k not in grey}
    return ordered_spec(_with(data, added), model)


def _options(model: str) -> dict[str, str]:
    """How the images of a model are prepared. Empty for a model that does not say it."""
    kind, _, place = model.partition(":")
    if kind in KINDS:
        return data_options(model)
    if kind in FOLDERS:
        return preprocessor_options(Path(place).expanduser())
    return {}


def ordered_spec(data: str, model: str) -> str:
    """Return a data spec with `classes=DIR` for a model `hf-config:DIR` or `timm:DIR` whose `config.json` names its classes.

    A table of texts whose `tokenizer` is in the same folder has that order without it.

    Args:
        data: A data spec, such as "folder:pictures".
        model: A model spec. Those of other kinds add nothing.

    Raises:
        ExpungeError: The data spec is wrong, or `config.json` is broken.
    """
    kind, _, folder = model.partition(":")
    folder = folder.partition("?")[0] if kind == "timm" else folder
    if kind != CONFIGURED and not (kind == "timm" and timm_config(Path(folder).expanduser())):
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
