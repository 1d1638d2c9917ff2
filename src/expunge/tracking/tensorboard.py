"""Write runs as event files of TensorBoard, with the writer of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .tracker import Result, Value


class TensorBoard:
    """A tracker that writes each run into a folder of its own. `tensorboard --logdir FOLDER` shows them.

    Args:
        folder: The folder of all runs.

    Attributes:
        run_folder: The folder of the last run.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.run_folder: Path | None = None
        self._writer: Any = None
        self._settings: dict[str, Value] = {}

    def start(self, name: str, settings: Mapping[str, Value]) -> None:
        """Begin a run in a new folder."""
        from torch.utils.tensorboard import SummaryWriter

        self.run_folder = _new_folder(self.folder, name)
        self._settings = dict(settings)
        self._writer = SummaryWriter(log_dir=str(self.run_folder))
        self._writer.add_text("settings", _table(settings))
        self._writer.flush()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write each value as a scalar."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, result: Result) -> None:
        """Write scores beside the settings (the tab HPARAMS), and how the run ended."""
        scores = {f"score/{name}": value for name, value in result.scores.items()}
        settings = {**self._settings, **result.chosen, "ended": result.ended}
        self._writer.add_hparams(settings, scores, run_name=".")
        self._writer.add_text("result", _table({"ended": result.ended, **result.chosen, **result.outputs}))
        self._writer.close()


def _new_folder(folder: Path, name: str) -> Path:
    """Make a folder that no other run has."""
    words = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}".replace(" ", "-").replace(":", ".")
    for number in range(1, 10_000):
        path = folder / (words if number == 1 else f"{words}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise OSError(f"{os.fspath(folder)} has too many runs of this second")


def _table(values: Mapping[str, Any]) -> str:
    """Return values as a table of Markdown, which TensorBoard shows."""
    rows = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])
