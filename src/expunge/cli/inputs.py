"""What flags name: the split, models from checkpoints, and a line to the user where something deserves attention."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..audit.accuracy import Judged
from ..data.split import Split
from ..data.split_settings import SplitSpec
from ..pipeline.experiment import Outcome, judge_run
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_loading import load_into
from ..records.checkpoint_metadata import check_original, check_retrained
from ..sources import Source
from ..tasks.classification import Classification
from ..training.registry import recipe_from_metadata
from ..training.run import Run
from .invocation import command_line
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


def load_model(factory: Callable[[], nn.Module], path: Path) -> Loaded:
    """Return the model with the parameters of the checkpoint.

    Raises `CheckpointError` for a checkpoint that is unsafe, broken, or of another model.
    """
    checkpoint = read_checkpoint(path)
    model = factory()
    load_into(model, checkpoint)
    for text in checkpoint.notices:
        notice(text)
    return model, checkpoint


def load_original(factory: Callable[[], nn.Module], path: Path, split: Split) -> Loaded:
    """Return the original model of a checkpoint, which must be trained on this split's forget and retain set.

    Raises `CheckpointError`.
    """
    loaded = load_model(factory, path)
    if warning := check_original(loaded[1], split):
        notice(warning)
    return loaded


def load_retrained(factory: Callable[[], nn.Module], path: Path, split: Split) -> Loaded:
    """Return the retrained model of a checkpoint, which must be trained without this split's forget set.

    Raises `CheckpointError`.
    """
    loaded = load_model(factory, path)
    if warning := check_retrained(loaded[1], split):
        notice(warning)
    return loaded


def score_references(
    split: Split,
    task: Classification,
    original: Loaded,
    retrained: Loaded | None,
    seed: int,
    names: dict[str, Any],
) -> tuple[Outcome, Outcome | None]:
    """Return the outcomes of the original and, if given, of the retrained model, with the recipes of their metadata."""

    def outcome(kind: str, loaded: Loaded, beside: Judged | None) -> Outcome:
        model, checkpoint = loaded
        run = Run(model, split, task, seed)
        return judge_run(
            run, recipe_from_metadata(checkpoint), kind=kind, retrained=beside, names=names, command=command_line()
        )

    gold = outcome("retrain", retrained, None) if retrained is not None else None
    return outcome("original", original, gold.judged if gold is not None else None), gold
