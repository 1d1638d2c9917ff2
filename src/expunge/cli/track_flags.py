"""The flag `--track`: trackers that a command tells about its run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .checks import problems_of
from .settings_flags import flag_group, with_help

if TYPE_CHECKING:
    from ..tracking.tracking import Tracking

TRACK = flag_group("Trackers", 9)


@with_help
@dataclass(frozen=True, kw_only=True)
class TrackFlags:
    """The trackers of a run.

    Args:
        track: Tracker that gets settings, curves, scores and paths of the run: tensorboard:DIR, mlflow:URI[#EXPERIMENT],
            wandb:PROJECT, or package.module:function. Can be repeated. It gets no ids and no command. If it fails, the run goes
            on.
    """

    track: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return what is wrong with the names, one sentence each. No file and no server is touched."""
        from ..tracking.by_name import make_trackers

        return problems_of(lambda: make_trackers(self.track))

    def run(self, name: str, settings: Mapping[str, Any]) -> AbstractContextManager[Tracking]:
        """Return the context of a run that the trackers watch: see `tracked`."""
        from ..training.tracked import tracked

        return tracked(self.track, name, settings)
