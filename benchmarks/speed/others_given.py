"""What the other projects are given: a CPU in place of a GPU, and images as they expect them, from torchvision's data sets."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn


def cpu_only() -> None:
    """`.cuda()` leaves things where they are; nothing pinned."""
    torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign,assignment]
    nn.Module.cuda = lambda self, *a, **k: self  # type: ignore[method-assign,assignment]
    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):  # a torchvision built for CUDA imports once its operators have a schema
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    cpu_only.kept = library  # type: ignore[attr-defined]


def empty(name: str, **members: Any) -> None:
    """A module that is imported but not needed."""
    parts = name.split(".")
    for k in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:k]), types.ModuleType(".".join(parts[:k])))
    vars(sys.modules[name]).update(members)


def package(name: str, folder: Path, **members: Any) -> None:
    """A package whose own start imports a function that its files do not have."""
    made = types.ModuleType(name)
    made.__path__ = [str(folder)]
    vars(made).update(members)
    sys.modules[name] = made


def sets(settings: dict[str, str]) -> tuple[nn.Module, dict[str, Any]]:
    """The original model, and torchvision data sets: images by Pillow, augmented one by one."""
    from others import Options, model_of, the_split
    from torchvision import datasets, transforms

    class Images(datasets.CIFAR10):
        def __init__(self, samples: Any, augmented: bool):
            x = samples.data.x[samples.index].permute(0, 2, 3, 1)
            self.data, self.targets = x.contiguous().numpy(), samples.labels.numpy().copy()
            crop = (
                [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augmented else []
            )
            self.transform, self.target_transform, self.train = (
                transforms.Compose([*crop, transforms.ToTensor()]),
                None,
                augmented,
            )

    options = Options(data="", work=Path(settings["work"]), seed=int(settings["seed"]))
    split, _ = the_split(options)
    found = {
        n: Images(getattr(split, n), n in ("forget", "retain"))
        for n in ("forget", "retain", "validation", "test")
    }
    return model_of(options, "original"), found


def loader(data: Any, settings: dict[str, str], shuffle: bool) -> Any:
    return torch.utils.data.DataLoader(data, batch_size=int(settings["batch_size"]), shuffle=shuffle)


class IntegerTargets(torch.utils.data.Dataset):
    """Labels as the tensors that deepunlearn's evaluation wants."""

    def __init__(self, data: Any):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        x, y = self.data[index]
        return x, int(y)

    @classmethod
    def of(cls, one: Any) -> Any:
        return torch.utils.data.DataLoader(cls(one.dataset), batch_size=one.batch_size)
