"""The groups of command-line flags that commands share, as dataclasses, and what they resolve to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import torch
import tyro
from torch import nn

from .checkpoint import Checkpoint, load_into, read_checkpoint
from .data import Data
from .errors import ExpungeError, SplitError, raise_all
from .field_help import field_help
from .heads import check_original, check_retrained
from .method import Method, find, names
from .methods.retrain import Retrain
from .models import build
from .run import Compute
from .sources import Source, load
from .split import Split
from .team import from_torchrun

FORGET = ("--forget-class", "--forget-share", "--forget-ids", "--forget-group")


@dataclass(frozen=True, kw_only=True)
class SplitFlags:
    """What to forget (give exactly one of the four forget flags), and how the validation set is drawn."""

    # classes to forget, by number or name
    forget_class: tuple[str, ...] = ()
    # forget a random share of the training samples, such as 0.1
    forget_share: float | None = None
    # text file with the ids to forget, one a line
    forget_ids: Path | None = None
    # forget the samples of a group: COLUMN=VALUE[,VALUE...]
    forget_group: str | None = None
    # with --forget-class: name only this share of each class
    class_share: float = 1.0
    # remove the samples' influence, or the ability; default by scenario
    goal: Literal["untrain", "unlearn"] | None = None
    # share of each class held out of training; 0 if the original was trained on everything
    validation: float = 0.1
    # seed of the validation set and of random forget sets
    split_seed: int = 0

    @property
    def forgets(self) -> bool:
        """Whether any of the four forget flags is given."""
        return bool(self._given())

    def _given(self) -> list[str]:
        values = (self.forget_class or None, self.forget_share, self.forget_ids, self.forget_group)
        return [flag for flag, value in zip(FORGET, values, strict=True) if value is not None]

    def _problems(self) -> list[str]:
        """What is wrong with the flags, a sentence each."""
        chosen, found = self._given(), []
        if len(chosen) != 1:
            found.append(
                f"{len(chosen)} of the flags {', '.join(FORGET)} were given ({', '.join(chosen) or 'none'}); give exactly one."
            )
        if self.class_share != 1 and not self.forget_class:
            found.append(
                f"--class-share {self.class_share:g} is a share of the classes of --forget-class, which is not given; "
                "name classes, or leave it out."
            )
        column, equals, _ = (self.forget_group or "").partition("=")
        if self.forget_group is not None and not (column and equals):
            found.append(
                f"--forget-group is '{self.forget_group}'; write COLUMN=VALUE, or COLUMN=VALUE,VALUE."
            )
        return found

    def draw(self, train: Data, test: Data) -> Split:
        """The split that the flags ask for. Raises `SplitError`."""
        raise_all(self._problems(), SplitError)
        rest: dict[str, Any] = {
            "validation": self.validation,
            "seed": self.split_seed,
            **({"goal": self.goal} if self.goal else {}),
        }
        if self.forget_class:
            return Split.by_class(
                train,
                test,
                [int(c) if c.isascii() and c.isdigit() else c for c in self.forget_class],
                share=self.class_share,
                **rest,
            )
        if self.forget_share is not None:
            return Split.random(train, test, self.forget_share, **rest)
        if self.forget_ids is not None:
            return Split.by_ids(train, test, self.forget_ids, **rest)
        column, _, values = str(self.forget_group).partition("=")
        return Split.by_group(train, test, column, values.split(","), **rest)


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The model and its data."""

    # digits | fashion-mnist:DIR | cifar10:DIR | folder:DIR | npz:FILE | package.module:factory; options: docs/data.md
    data: str
    # a built-in name (cnn, mlp, resnet20, resnet18, vgg16_bn, vit_tiny, text_transformer) or package.module:factory
    model: str
    # cpu, cuda, cuda:1, mps
    device: str = "cpu"

    def source(self) -> Source:
        """The data. Raises `ExpungeError`."""
        return load(self.data)

    def factory(self, source: Source) -> Callable[[], nn.Module]:
        """A function that makes the model with fresh weights, on the device."""
        if not _there(self.device):
            raise ExpungeError(
                f"the device '{self.device}' is not available here; use cpu or one of torch's devices of this machine "
                "(cuda, cuda:1, mps)."
            )
        return lambda: build(self.model, num_classes=len(source.classes), shape=source.shape).to(self.device)


def _there(name: str) -> bool:
    """Whether torch has the device on this machine."""
    try:
        device = torch.device(name)
    except RuntimeError:
        return False
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


@dataclass(frozen=True, kw_only=True)
class ComputeFlags(Compute):
    """How the arithmetic is done."""

    # CPU threads; 0 leaves torch's choice
    threads: int = 0

    def compute(self) -> Compute:
        """The settings of a run; sets the number of threads, and joins the other processes under `torchrun`."""
        if self.threads:
            torch.set_num_threads(self.threads)
        given = {f.name: getattr(self, f.name) for f in fields(Compute)}
        return Compute(**{**given, "processes": from_torchrun() or self.processes})


def method_union() -> Any:
    """The methods that serve classifiers as sub-commands, from their files."""
    kinds = [kind for name in names() if "classification" in (kind := find(name)).tasks]
    return Union[tuple(Annotated[k, tyro.conf.subcommand(name=k.name(), prefix_name=False)] for k in kinds)]  # noqa: UP007


# a mask holds weights as they were, and a recipe starts from fresh ones
_NO_RECIPE = ("density", "mask")
# every other field of Retrain as an optional flag: what is not given comes from the data set's preset
RecipeFlags: Any = make_dataclass(
    "RecipeFlags",
    [
        (f.name, f"{f.type} | None", field(default=None, metadata={"help": field_help(Retrain, f.name)}))
        for f in fields(Retrain)
        if f.name not in _NO_RECIPE
    ],
    frozen=True,
    kw_only=True,
    namespace={
        "__module__": "expunge.methods.retrain",
        "__doc__": "The training recipe; what is not given comes from the data set's preset.",
    },
)


def chosen(preset: Retrain, flags: Any) -> Retrain:
    """The preset with the flags that were given."""
    return replace(preset, **{f.name: v for f in fields(flags) if (v := getattr(flags, f.name)) is not None})


def notice(text: str) -> None:
    """One line to the person at the terminal."""
    print(f"note: {text}", file=sys.stderr)


def load_model(
    factory: Callable[[], nn.Module], path: Path, split: Split | None = None
) -> tuple[nn.Module, Checkpoint]:
    """The model with the checkpoint's weights, after the check that it was trained on this split's forget + retain.

    Raises `CheckpointError` for unsafe, broken or foreign checkpoints, and for one trained on other samples.
    """
    model, checkpoint = _loaded(factory, path)
    if split is not None and (said := check_original(checkpoint, split)):
        notice(said)
    return model, checkpoint


def load_reference(
    factory: Callable[[], nn.Module], path: Path, split: Split
) -> tuple[nn.Module, Checkpoint]:
    """The retrained model of a checkpoint, after the check that it was trained without this split's forget set.

    Raises `CheckpointError` as `load_model` does, and for a model that is no reference for this split.
    """
    model, checkpoint = _loaded(factory, path)
    if said := check_retrained(checkpoint, split):
        notice(said)
    return model, checkpoint


def _loaded(factory: Callable[[], nn.Module], path: Path) -> tuple[nn.Module, Checkpoint]:
    checkpoint = read_checkpoint(path)
    model = factory()
    load_into(model, checkpoint)
    for text in checkpoint.notices:
        notice(text)
    return model, checkpoint


def check_out(out: Path, *inputs: Path | None) -> None:
    """Raise `ExpungeError` if the output would replace an input."""
    raise_all(
        [
            f"the output {out} is also the input {i}; an input is never overwritten, name another file."
            for i in inputs
            if i is not None and out.exists() and i.exists() and out.samefile(i)
        ],
        ExpungeError,
    )


__all__ = [
    "ComputeFlags",
    "Method",
    "ModelFlags",
    "RecipeFlags",
    "SplitFlags",
    "check_out",
    "chosen",
    "load_model",
    "load_reference",
    "method_union",
    "notice",
]
