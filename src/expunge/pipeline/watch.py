"""How one run of the pipeline is watched, resumed and tuned."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..masks.mask_file import Mask
from ..training.run import Row
from ..tuning.search import Trial


@dataclass(frozen=True, kw_only=True)
class Trials:
    """How the settings of a method are chosen before its run.

    Args:
        count: Number of settings to try on validation data. 1: none are tried.
        fixed: Fields that keep their values.
        on_trial: Called after each trial with all trials so far.
        file: File that keeps finished trials, from which an interrupted call goes on.
    """

    count: int = 1
    fixed: Collection[str] = ()
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
