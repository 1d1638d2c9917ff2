"""What flags name: the split, and models from checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..models import MODELS, build
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import check_audited, check_original, check_retrained, check_role
from ..sources import Preview, Source, preview
from .checks import problems_of
from .flags import ModelFlags
from .terminal import notice

Loaded = tuple[nn.Module, Checkpoint]


def draw_split(flags: SplitSpec, source: Source) -> Split:
    """Return the split that the flags ask for, and print what it forgets. Raises `SplitError`."""
    split = flags.draw(source.train, source.test)
    names = [
        source.classes[k] + (f" (number {k})" if source.classes[k] != str(k) else "")
        for k in split.spec.get("forget", ())
    ]
    classes = f", of class {', '.join(names)}" if names else ""
    notice(f"forgets {len(split.forget):,} of {len(split.train):,} training samples{classes}.")
    return split


def split_for_original(flags: SplitSpec, source: Source) -> Split:
    """Return a split to train an original on. It is the same for every forget set, so any class stands for it."""
    with warnings.catch_warnings():
        # the warning is about forget samples, and nothing is forgotten here
        warnings.filterwarnings("ignore", ".*are also in the test set")
        lowest = int(source.train.labels.min())
        return Split.by_class(
            source.train, source.test, lowest, validation=flags.validation, seed=flags.split_seed
        )


class ModelFiles:
    """The checkpoints that a command reads, and the models made from them.

    `problems` reads the files before the data. If the model is a built-in one and the data's spec says classes and shape, it also
    makes the models, so that a checkpoint of another model is refused within a second.

    Args:
        flags: The model and its data.
        files: {role: checkpoint}, the roles being "original", "retrained" and "unlearned"; None where no file was given.
    """

    def __init__(self, flags: ModelFlags, files: Mapping[str, Path | None]):
        self.flags = flags
        self.files = {role: path for role, path in files.items() if path is not None}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._models: dict[str, nn.Module] = {}
        self._preview: Preview | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with the files, as far as it can be known before the data is read."""
        problems = problems_of(*(lambda role=role: self._read(role) for role in self.files))
        if self.flags.problems():
            return problems
        self._preview = preview(self.flags.data) if self.flags.model in MODELS else None
        if self._preview is not None:
            problems += problems_of(*(lambda role=role: self._make(role) for role in self._checkpoints))
        return list(dict.fromkeys(problems))

    def load(self, role: str, source: Source, split: Split) -> Loaded:
        """Return the model of one checkpoint, after the check that its metadata fit the role and the split.

        Raises:
            CheckpointError: The checkpoint is of another model, or was trained on other samples.
        """
        now = Preview(len(source.classes), tuple(source.shape))
        if role not in self._models or self._preview != now:
            self._preview = now
            self._make(role)
        checkpoint = self._checkpoints[role]
        for text in checkpoint.notices:
            notice(text)
        checks = {"original": check_original, "retrained": check_retrained, "unlearned": check_audited}
        if warning := checks[role](checkpoint, split):
            notice(warning)
        return self._models[role].to(self.flags.device), checkpoint

    def load_if_given(self, role: str, source: Source, split: Split) -> Loaded | None:
        """Return `load`, or None if the user gave no file for this role."""
        return self.load(role, source, split) if role in self.files else None

    def _read(self, role: str) -> None:
        checkpoint = read_checkpoint(self.files[role])
        if role != "unlearned":
            check_role(checkpoint, role)  # type: ignore[arg-type]
        self._checkpoints[role] = checkpoint

    def _make(self, role: str) -> None:
        """Make the model of one checkpoint, without touching the random state of later steps."""
        assert self._preview is not None
        with torch.random.fork_rng(devices=[]):
            model = build(self.flags.model, num_classes=self._preview.classes, shape=self._preview.shape)
        load_into(model, self._checkpoints[role])
        self._models[role] = model
