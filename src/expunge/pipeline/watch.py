"""How one run of the pipeline is watched, resumed and tuned."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..masks.mask_file import Mask
from ..training.run import Row
from ..tuning.search import Count, Trial


@dataclass(frozen=True, kw_only=True)
class Trials:
    """How the settings of a method are chosen before its run.

    Args:
        count: Number of settings to try on validation data. None, 0 or 1: none are tried. "auto" adapts the settings to the
            request, tries as many as it needs, and keeps the original if none improves on it.
        fixed: Fields that keep their values.
        may_keep: Whether "auto" may keep the original. If not, the first trial that does no harm is taken, else the best.
        on_trial: Called after each trial with all trials so far.
        file: File that keeps finished trials, from which an interrupted call goes on.
    """

    count: Count = 1
    fixed: Collection[str] = ()
    may_keep: bool = True
    on_trial: Callable[[list[Trial]], None] | None = None
    file: Path | str | None = None


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How one run is watched and resumed.

    Args:
        on_row: Called with each row of the curves.
        state_file: File that keeps a resumable state.
        mask: Replaces the method's own mask.
        trials: How settings are chosen before the run.
    """

    on_row: Callable[[Row], None] | None = None
    state_file: Path | str | None = None
    mask: Mask | None = None
    trials: Trials = field(default_factory=Trials)
