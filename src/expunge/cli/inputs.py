"""What flags name: the split, and models from checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..data.class_labels import begins_at_one, class_label_problems
from ..data.class_lists import class_notices
from ..data.copies import CopyWarning
from ..data.past_requests import remember_requests, requests_of
from ..data.row_ids import NOTE
from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..errors import CheckpointError, raise_all
from ..pipeline.outcome import Reference
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import check_audited, check_original, check_retrained, check_role
from ..records.checkpoint_requests import answered_requests
from ..records.history_checks import check_history
from ..sources.preview import Preview
from ..sources.source import Source
from ..tasks.task import Task
from ..training.registry import recipe_from_metadata
from ..training.run import Run
from .checks import problems_of
from .terminal import notice

Loaded = tuple[nn.Module, Checkpoint]
# role -> the check of its metadata; returns a sentence where the metadata leave a question open
CHECKS: dict[str, Callable[..., str | None]] = {
    "original": check_original,
    "retrained": check_retrained,
    "unlearned": check_audited,
}


def draw_split(flags: SplitSpec, source: Source) -> Split:
    """Return the split that the flags ask for, and print what it forgets. Raises `SplitError`."""
    with warnings.catch_warnings():
        # the notice below says it
        warnings.simplefilter("ignore", CopyWarning)
        split = flags.draw(source.train, source.test)
    names = [
        source.classes[k] + (f" (number {k})" if source.classes[k] != str(k) else "")
        for k in split.spec.get("forget", ())
    ]
    classes = f", of class {', '.join(names)}" if names else ""
    notice(f"forgets {len(split.forget):,} of {len(split.train):,} training samples{classes}.")
    if "ids" in split.spec:
        notice(NOTE)
    if split.validation_from_test:
        notice(
            f"{len(split.validation):,} test samples are the validation set; audits use the other "
            f"{len(split.test) + len(split.test_forgotten):,}."
        )
    if sentences := split.copies.sentences:
        notice(" ".join(sentences))
    return split


def after_earlier_requests(split: Split, model: nn.Module, rehearse: bool = False) -> Split:
    """Return the split without the samples of other requests that the model has answered, and say how many they are."""
    split = split.after(requests_of(model), rehearse=rehearse)
    if split.earlier:
        count = len(set(split.earlier_samples.index.tolist()))
        requests = "1 other request" if len(split.earlier) == 1 else f"{len(split.earlier)} other requests"
        notice(
            f"the model has answered {requests}, {count:,} samples: they are not trained on"
            f"{', and forgotten again' if rehearse else ''}."
        )
    return split


def split_for_original(flags: SplitSpec, source: Source) -> Split:
    """Return a split to train an original on. It is the same for every forget set, so any class stands for it."""
    lowest = int(source.train.labels.min())
    return Split.by_class(source.train, source.test, lowest, **flags.validation_options, copies="ignore")


class ModelFiles:
    """The checkpoints that a command reads, and the models made from them.

    `problems` reads the files before the data. If classes and shape are known by then, it also makes the models, so that a
    checkpoint of another model is refused within a second.

    Args:
        files: {role: checkpoint}, the roles being "original", "retrained" and "unlearned"; None where no file was given.
        build: Makes a model with fresh parameters for a number of classes and a shape.
        device: Where the models go.
        history: File of the requests that the model has answered. By default the one beside its checkpoint.
        ema: The entry of the original and the unlearned file that holds the model. A file with one model needs no such entry,
            if another file has it.
    """

    def __init__(
        self,
        files: Mapping[str, Path | None],
        build: Callable[[Preview], nn.Module],
        device: str = "cpu",
        history: Path | None = None,
        ema: str | None = None,
    ):
        self.history = history
        self.files = {role: path for role, path in files.items() if path is not None}
        self.build, self.device, self.ema = build, device, ema
        self._checkpoints: dict[str, Checkpoint] = {}
        self._models: dict[str, nn.Module] = {}
        self._made_for: Preview | None = None

    def problems(self, early: Preview | None) -> list[str]:
        """Return what is wrong with the files, as far as it can be known before the data is read.

        Args:
            early: Classes and shape of the data; None where they are not known yet.
        """
        problems = problems_of(*(partial(self._read, role) for role in self.files)) or self._ema_problems()
        if early is not None:
            self._made_for = early
            problems += problems_of(*(partial(self._make, role) for role in self._checkpoints))
        return list(dict.fromkeys(problems))

    def metadata(self, role: str) -> Checkpoint:
        """Return a checkpoint that `problems` has read."""
        return self._checkpoints[role]

    def load(self, role: str, source: Source, split: Split) -> Loaded:
        """Return the model of one checkpoint, after the check that its metadata fit the role and the split.

        Raises:
            CheckpointError: The checkpoint is of another model, or was trained on other samples.
        """
        now = Preview(len(source.classes), tuple(source.shape))
        # a classifier needs class numbers, and other labels give a wrong number of classes
        raise_all(class_label_problems(source.train))
        if role not in self._models or self._made_for != now:
            self._made_for = now
            try:
                self._make(role)
            except CheckpointError as error:
                cause = begins_at_one(source.train)
                raise CheckpointError([cause, *error.problems] if cause else error.problems) from error
        checkpoint = self._checkpoints[role]
        about_classes = class_notices(checkpoint.path.name, checkpoint.classes, source.classes)
        for text in (*checkpoint.notices, *about_classes):
            notice(text)
        is_audit = "unlearned" in self.files
        # the original of an audit is the model before the requests that the unlearned model has answered
        is_current = role == "unlearned" or (role == "original" and not is_audit)
        history = self.history if is_current else None
        if warning := CHECKS[role](checkpoint, split, history=history):
            notice(warning)
        model = self._models[role]
        if role != "retrained":
            answered = answered_requests(checkpoint, history, split, assume=is_audit)
            if warning := check_history(checkpoint, split, answered, history):
                notice(warning)
            remember_requests(model, answered)
        return model.to(self.device), checkpoint

    def load_state(self, role: str, entry: str) -> nn.Module:
        """Return the model of another entry of a checkpoint that `load` has read."""
        assert self._made_for is not None
        with torch.random.fork_rng(devices=[]):
            model = self.build(self._made_for)
        load_into(model, read_checkpoint(self.files[role], entry))
        return model.to(self.device)

    def load_if_given(self, role: str, source: Source, split: Split) -> Loaded | None:
        """Return `load`, or None if the user gave no file for this role."""
        return self.load(role, source, split) if role in self.files else None

    def _read(self, role: str) -> None:
        ema = None if role == "retrained" else self.ema
        try:
            checkpoint = read_checkpoint(self.files[role], ema)
        except CheckpointError:
            checkpoint = read_checkpoint(self.files[role])
            if checkpoint.other_states or len(self.files) == 1:
                raise
        if role != "unlearned":
            check_role(checkpoint, role)  # type: ignore[arg-type]
        self._checkpoints[role] = checkpoint

    def _ema_problems(self) -> list[str]:
        """Return the problem if no file has the entry of `--ema`."""
        if self.ema is None or any(c.ema == self.ema for c in self._checkpoints.values()):
            return []
        return problems_of(
            *(partial(read_checkpoint, self.files[r], self.ema) for r in self.files if r != "retrained")
        )

    def _make(self, role: str) -> None:
        """Make the model of one checkpoint. The random state of later steps stays as it is."""
        assert self._made_for is not None
        with torch.random.fork_rng(devices=[]):
            model = self.build(self._made_for)
        load_into(model, self._checkpoints[role])
        self._models[role] = model


def reference_of(loaded: Loaded, split: Split, task: Task, seed: int) -> Reference:
    """Return a model from a file for the pipeline, with the recipe that its metadata name."""
    model, checkpoint = loaded
    return Reference(Run(model, split, task, seed), recipe_from_metadata(checkpoint))
