"""The groups of command-line flags that commands share, as dataclasses, and what they resolve to."""

from __future__ import annotations

import json
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
from .errors import CheckpointError, ExpungeError, SplitError, raise_all
from .method import Method, find, names
from .methods.retrain import Retrain
from .models import build
from .run import Compute
from .sources import Source, load
from .split import Split
from .team import from_torchrun


@dataclass(frozen=True, kw_only=True)
class SplitFlags:
    """What to forget (give exactly one of the four forget flags), and how the validation set is drawn."""

    forget_class: tuple[str, ...] = ()  # classes to forget, by number or name
    forget_share: float | None = None  # forget a random share of the training samples, such as 0.1
    forget_ids: Path | None = None  # text file with the ids to forget, one a line
    forget_group: str | None = None  # forget the samples of a group: COLUMN=VALUE[,VALUE...]
    class_share: float = 1.0  # with forget_class: name only this share of each class
    goal: Literal["untrain", "unlearn"] | None = (
        None  # remove the samples' influence, or the ability; default by scenario
    )
    validation: float = (
        0.1  # share of each class held out of training; 0 if the original was trained on everything
    )
    split_seed: int = 0  # seed of the validation set and of random forget sets

    def draw(self, train: Data, test: Data) -> Split:
        """The split that the flags ask for. Raises `SplitError`."""
        given = {
            "forget_class": self.forget_class,
            "forget_share": self.forget_share,
            "forget_ids": self.forget_ids,
            "forget_group": self.forget_group,
        }
        chosen = [k for k, v in given.items() if v not in ((), None)]
        if len(chosen) != 1:
            flags = ", ".join("--" + k.replace("_", "-") for k in given)
            raise SplitError(
                f"{len(chosen)} of the flags {flags} were given ({', '.join(chosen) or 'none'}); give exactly one."
            )
        rest: dict[str, Any] = {
            "validation": self.validation,
            "seed": self.split_seed,
            **({"goal": self.goal} if self.goal else {}),
        }
        if self.forget_class:
            return Split.by_class(
                train,
                test,
                [int(c) if c.isdigit() else c for c in self.forget_class],
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

    data: str  # digits | fashion-mnist:DIR | cifar10:DIR | folder:DIR | npz:FILE | package.module:factory
    model: str  # a built-in name (cnn, resnet20, resnet18, ...) or package.module:factory
    device: str = "cpu"  # cpu, cuda, cuda:1, mps

    def source(self) -> Source:
        """The data. Raises `ExpungeError`."""
        return load(self.data)

    def factory(self, source: Source) -> Callable[[], nn.Module]:
        """A function that makes the model with fresh weights, on the device."""
        if self.device != "cpu" and not _there(self.device):
            raise ExpungeError(
                f"the device '{self.device}' is not available here; use cpu or one of torch's devices of this machine."
            )
        return lambda: build(self.model, num_classes=len(source.classes), shape=source.shape).to(self.device)


def _there(device: str) -> bool:
    kind = torch.device(device).type
    return (
        torch.cuda.is_available()
        if kind == "cuda"
        else torch.backends.mps.is_available()
        if kind == "mps"
        else kind == "cpu"
    )


@dataclass(frozen=True, kw_only=True)
class ComputeFlags(Compute):
    """How the arithmetic is done."""

    threads: int = 0  # CPU threads; 0 leaves torch's choice

    def compute(self) -> Compute:
        """The settings of a run; sets the number of threads, and joins the other processes under `torchrun`."""
        if self.threads:
            torch.set_num_threads(self.threads)
        given = {f.name: getattr(self, f.name) for f in fields(Compute)}
        return Compute(**{**given, "processes": from_torchrun() or self.processes})


def method_union() -> Any:
    """All methods as sub-commands, from their files."""
    kinds = [find(n) for n in names()]
    return Union[tuple(Annotated[k, tyro.conf.subcommand(name=k.name(), prefix_name=False)] for k in kinds)]  # noqa: UP007


# every field of Retrain as an optional flag: what is not given comes from the data set's preset
RecipeFlags: Any = make_dataclass(
    "RecipeFlags",
    [(f.name, f"{f.type} | None", field(default=None)) for f in fields(Retrain)],
    frozen=True,
    kw_only=True,
    namespace={
        "__module__": "expunge.methods.retrain",
        "__doc__": "The training recipe; what is not given comes from the data set's preset.",
    },
)


def chosen(preset: Retrain, flags: Any) -> Retrain:
    """The preset with the flags that were given."""
    return replace(
        preset, **{f.name: v for f in fields(Retrain) if (v := getattr(flags, f.name)) is not None}
    )


def notice(text: str) -> None:
    """One line to the person at the terminal."""
    print(f"note: {text}", file=sys.stderr)


def load_model(
    factory: Callable[[], nn.Module], path: Path, split: Split | None = None
) -> tuple[nn.Module, Checkpoint]:
    """The model with the checkpoint's weights, after the check that it was trained on this split's forget + retain.

    Raises `CheckpointError` for unsafe, broken or foreign checkpoints, and for one trained on other samples.
    """
    checkpoint = read_checkpoint(path)
    model = factory()
    load_into(model, checkpoint)
    for text in checkpoint.notices:
        notice(text)
    trained_on = checkpoint.metadata.get("train_hash")
    if split is not None and trained_on is None:
        notice(
            f"{path.name} does not say which samples it was trained on; if it saw the whole training set, add --validation 0."
        )
    elif split is not None and trained_on != split.train_hash:
        drawn = json.loads(checkpoint.metadata.get("split", "{}"))
        raise CheckpointError(
            f"{path} was trained on other samples than this split's forget + retain (its validation draw: "
            f"share {drawn.get('validation', '?')}, seed {drawn.get('seed', '?')}); use the same data, --validation and --split-seed."
        )
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
    "method_union",
    "notice",
]
