"""The groups of flags that several commands share. They import no torch, so that a command's help is quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data.split_settings import SplitSpec
from .checks import device_problems, problems_of
from .settings_flags import flag_group, with_help

if TYPE_CHECKING:
    from torch import nn

    from ..sources.preview import Preview
    from ..sources.source import Source

MODEL = flag_group("Model and data", 1)
SPLIT = flag_group("Forget set and validation set", 0.3)
COMPUTE = flag_group("Computation", 6)


@with_help
@dataclass(frozen=True, kw_only=True)
class SplitFlags(SplitSpec):
    """What to forget (exactly one of the four forget flags), and how the validation set is drawn."""

    def display_name(self, field: str) -> str:
        """Return a field as its flag, for messages."""
        return f"--{field.replace('_', '-')}"


@with_help
@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The model and its data.

    Args:
        data: The data: digits, fashion-mnist:DIR, cifar10:DIR, folder:DIR, images:FILE, webdataset:SHARDS, torchvision:NAME,
            text:FILE, hf:NAME, npz:FILE or package.module:factory. Options follow a '?': see docs/data.md.
        model: The model: a built-in name (cnn, mlp, airbench, resnet20, resnet18, vgg16_bn, vit_tiny, text_transformer),
            hf-config:DIR or hf-weights:DIR (transformers), peft:DIR (an adapter), timm:NAME, timm:DIR or torchvision:NAME, or
            package.module:factory. Those of other libraries also set how images are prepared, and hf-config the order of classes.
        device: Where the model is: cpu, cuda, cuda:1 or mps.
    """

    data: str
    model: str
    device: str = "cpu"

    def problems(self) -> list[str]:
        """Return what is wrong with the names, one sentence each. No data is read and no model is made."""
        from ..models import check_name
        from ..sources.spec import check_spec

        return [
            *device_problems(self.device),
            *problems_of(lambda: check_name(self.model), lambda: check_spec(self.data)),
        ]

    def preview(self) -> Preview | None:
        """Return classes and shape of the data for a model by name; None where only the data itself can tell."""
        from ..models import MODELS
        from ..models.by_name import KINDS
        from ..sources.preview import preview

        named = self.model in MODELS or self.model.partition(":")[0] in KINDS
        return preview(self.prepared()) if named and not self.problems() else None

    def prepared(self) -> str:
        """Return the data spec with what the model needs. Raises `ExpungeError`."""
        from ..models.preparation import prepared_spec

        return prepared_spec(self.data, self.model)

    def build(self, data: Preview) -> nn.Module:
        """Return the model with fresh parameters, on the CPU."""
        from ..models import build

        return build(self.model, num_classes=data.classes, shape=data.shape)

    def source(self) -> Source:
        """Return the data, prepared as the model expects it. Raises `ExpungeError`."""
        from ..sources.loading import load
        from .terminal import notice

        spec = self.prepared()
        if spec != self.data:
            notice(f"the data is prepared as {self.model} expects it: --data '{spec}'.")
        return load(spec)

    def names(self, source: Source) -> dict[str, Any]:
        """Return the names of model, data and classes, as a record keeps them."""
        return {"model": self.model, "data": source.name, "classes": source.classes}

    def factory(self, source: Source) -> Callable[[], nn.Module]:
        """Return a function that makes the model with fresh parameters, on its device."""
        from ..sources.preview import Preview

        return lambda: self.build(Preview(len(source.classes), source.shape)).to(self.device)
