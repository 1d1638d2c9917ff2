"""`expunge audit`: the command and its flags, without its heavy imports."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from .audit_flags import AuditFlags, StrongFlags
from .flags import MODEL, SPLIT, ModelFlags, SplitFlags
from .settings_flags import FLAT
from .track_flags import TRACK, TrackFlags


def audit(
    *,
    flags: Annotated[AuditFlags, FLAT],
    model: Annotated[ModelFlags, MODEL],
    split: Annotated[SplitFlags, SPLIT] = SplitFlags(),
    strong: Annotated[StrongFlags, Parameter(group=Group("Strong audit", sort_key=5))] = StrongFlags(),
    track: Annotated[TrackFlags, TRACK] = TrackFlags(),
) -> int:
    """Audit an unlearned checkpoint beside the original and a retrained model.

    Prints the scores and a verdict in plain words. docs/audit.md explains what each score can say. Exit code 1 if the average gap
    of a model in the file exceeds --max-gap, if an earlier request came back, if the retrained model is not comparable with
    the original, or if the checkpoint is the original.

    Args:
        flags: The models and the results.
        model: The model and its data.
        split: What was to be forgotten.
        strong: What the strong audit runs, with --level strong.
        track: Trackers that get the scores.
    """
    from .audit_run import run

    return run(flags, model, split, strong, track)
