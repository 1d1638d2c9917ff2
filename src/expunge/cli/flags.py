"""The groups of command-line flags that commands share, as dataclasses, and what they resolve to."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Union

import torch
import tyro
from torch import nn

from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..errors import ExpungeError, raise_all
from ..methods.retrain import Retrain
from ..models import build
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import check_original, check_retrained
from ..sources import Source, load
from ..tasks.classification import Classification
from ..training.processes import from_torchrun
from ..training.registry import find, names, serves
from ..training.run import Compute
from .field_help import field_help


@dataclass(frozen=True, kw_only=True)
class SplitFlags(SplitSpec):
    """What to forget (give exactly one of the four forget flags), and how the validation set is drawn."""

    def display_name(self, field: str) -> str:
        """A field as a flag."""
        return f"--{field.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The model and its data."""

    # digits | fashion-mnist:DIR | cifar10:DIR | folder:DIR | text:FILE | npz:FILE | package.module:factory; options: docs/data.md
    data: str
    # a built-in name (cnn, mlp, resnet20, resnet18, vgg16_bn, vit_tiny, text_transformer), hf-config:DIR or hf-weights:DIR
    # (transformers), or package.module:factory
    model: str
    # cpu, cuda, cuda:1, mps
    device: str = "cpu"

    def source(self) -> Source:
        """The data. Raises `ExpungeError`."""
        return load(self.data)

    def factory(self, source: Source) -> Callable[[], nn.Module]:
        """A function that makes the model with fresh weights, on the device."""
        check_device(self.device)
        return lambda: build(self.model, num_classes=len(source.classes), shape=source.shape).to(self.device)


def check_device(name: str) -> None:
    """Raise `ExpungeError` if torch has no such device on this machine."""
    if not _there(name):
        raise ExpungeError(
            f"the device '{name}' is not available here; use cpu or one of torch's devices of this machine "
            "(cuda, cuda:1, mps)."
        )


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
    kinds = [kind for name in names() if serves(kind := find(name), Classification)]
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


def typed(names: Collection[str]) -> list[str]:
    """Those of the fields `names` that were given as flags on the command line."""
    flags = {a.partition("=")[0].lstrip("-").replace("-", "_") for a in sys.argv[1:] if a.startswith("--")}
    return [name for name in names if flags & {name, f"no_{name}"}]


def notice(text: str) -> None:
    """One line to the person at the terminal."""
    print(f"note: {text}", file=sys.stderr)


def told(flags: SplitSpec, source: Source) -> Split:
    """The split that the flags ask for, and a line to the person on what it forgets. Raises `SplitError`."""
    split = flags.draw(source.train, source.test)
    names = [
        source.classes[k] + (f" (number {k})" if source.classes[k] != str(k) else "")
        for k in split.spec.get("forget", ())
    ]
    of = f", of class {', '.join(names)}" if names else ""
    notice(f"forgets {len(split.forget):,} of {len(split.train):,} training samples{of}.")
    return split


def of_original(flags: SplitSpec, source: Source) -> Split:
    """A split to train an original on, which is the same for every forget set: a class that is there stands for any."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*are also in the test set")  # nobody asked to forget them
        lowest = int(source.train.labels.min())
        return Split.by_class(
            source.train, source.test, lowest, validation=flags.validation, seed=flags.split_seed
        )


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


def check_outputs(outputs: Mapping[str, Path | None], *inputs: Path | None) -> None:
    """Raise `ExpungeError` if an output, by its flag, would replace an input, another output or a folder."""
    given = {flag: path for flag, path in outputs.items() if path is not None}
    problems = [
        f"{flag} {path} is also an input; an input is never overwritten, name another file."
        for flag, path in given.items()
        if path.resolve() in {i.resolve() for i in inputs if i is not None}
    ]
    problems += [
        f"{one} and {other} are both {given[one]}; name different files."
        for one, other in itertools.combinations(given, 2)
        if given[one].resolve() == given[other].resolve()
    ]
    problems += [f"{flag} {path} is a folder; name a file." for flag, path in given.items() if path.is_dir()]
    raise_all(problems)
