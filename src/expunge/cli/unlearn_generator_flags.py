"""The flags of `expunge unlearn-generator`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .settings_flags import with_help


@with_help
@dataclass(frozen=True, kw_only=True)
class UnlearnGeneratorFlags:
    """The files of one run, and how its images are audited.

    Args:
        checkpoint: The model. It is only read.
        ema: Entry of the checkpoint that holds the model, if it has several.
        forget: The class to forget, or several, by number or name.
        out: Checkpoint to write. The record is written beside it.
        retrained: A model trained without these classes (`expunge unlearn-generator retrain_ema` makes one), sampled beside
            the result.
        frozen_target: Take the targets of salun, random_label and concept_ablation from the original, not from the model that
            changes.
        per_class: Number of images to sample per class for the audit.
        attacks: Try to bring the class back, by a learned condition and by relearning.
        features: package.module:function that makes the network of published FIDs, for FID and KID in its features. The
            network's weights are yours: none are shipped.
        report: HTML report to write.
    """

    checkpoint: Path
    forget: tuple[str, ...]
    out: Path
    ema: str | None = None
    retrained: Path | None = None
    frozen_target: bool = False
    per_class: int = 50
    attacks: bool = False
    features: str | None = None
    report: Path | None = None
