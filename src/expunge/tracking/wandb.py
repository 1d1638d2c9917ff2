"""Write runs to Weights & Biases, online or offline (WANDB_MODE=offline)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tracker import Result, Value

# What the library would collect on its own: command line, code, git remote, packages, console and machine. The command line
# may name people (--forget-group), and the console may show ids.
PRIVATE: dict[str, Any] = {
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "host": "not recorded",
    "username": "not recorded",
    "program": "expunge",
    "silent": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class WandB:
    """A tracker that writes each run into a project of W&B. The library reads its key from its own settings.

    Args:
        project: Name of the project, or ENTITY/PROJECT.

    Attributes:
        folder: Folder of the files of the last run.
    """

    def __init__(self, project: str):
        self.entity, _, self.project = project.rpartition("/")
        self.folder = ""
        self._run: Any = None

    def start(self, name: str, settings: Mapping[str, Value]) -> None:
        """Begin a run, with the settings as its config."""
        import wandb

        known = getattr(wandb.Settings, "model_fields", {})
        private = {key: value for key, value in PRIVATE.items() if key in known}
        # a run of the user's own in this process stays as it is
        self._run = wandb.init(
            project=self.project,
            entity=self.entity or None,
            name=name,
            config=dict(settings),
            reinit="create_new",
            settings=wandb.Settings(**private),
        )
        self._run.define_metric("*", step_metric="step")
        self.folder = str(self._run.dir)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one step."""
        self._run.log({"step": step, **values})

    def finish(self, result: Result) -> None:
        """Write scores, chosen settings and paths into the summary of the run."""
        self._run.summary.update({**result.named_texts, **result.named_scores})
        self._run.finish(exit_code=0 if result.succeeded else 1)
