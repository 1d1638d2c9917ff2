"""Add to a data spec how a model of timm or torchvision expects its images."""

from __future__ import annotations

from ..sources.spec import check_spec
from .by_name import KINDS, data_options

# options that a source takes; the images of a user's own source stay as they are
TAKES = {"folder": ("size", "crop", "interpolation", "mean", "std"), "cifar10": ("mean", "std")}
# options that belong together: whoever gives one decides on all
TOGETHER = (("size", "crop", "interpolation"), ("mean", "std"))


def prepared_spec(data: str, model: str) -> str:
    """Return a data spec with the size, crop, mean and std that a model was published with.

    Options of the user stay, and those that belong with them are not added: size with crop and interpolation, mean with std.

    Args:
        data: A data spec, such as "folder:pictures".
        model: A model spec. Those of other libraries than timm and torchvision add nothing.

    Raises:
        ExpungeError: The data spec is wrong, or the model is unknown.

    Example:
        >>> prepared_spec("folder:pictures", "timm:vit_tiny_patch16_224")
        'folder:pictures?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size=248&crop=224'
    """
    if model.partition(":")[0] not in KINDS:
        return data
    source, _, given = check_spec(data)
    settled = {k for group in TOGETHER if set(group) & set(given) for k in group}
    grey = {"mean", "std"} if given.get("channels") == "1" else set()
    added = {
        k: v
        for k, v in data_options(model).items()
        if k in TAKES.get(source, ()) and k not in settled and k not in grey
    }
    text = "&".join(f"{k}={v}" for k, v in added.items())
    return f"{data}{'&' if '?' in data else '?'}{text}" if added else data
