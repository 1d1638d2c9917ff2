"""Experiment trackers: tell TensorBoard, MLflow, W&B or a tracker of the user's about a run. They get no ids and no commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .by_name import make_trackers as make_trackers
    from .mlflow import MLflow as MLflow
    from .tensorboard import TensorBoard as TensorBoard
    from .tracker import Result as Result
    from .tracker import Tracker as Tracker
    from .wandb import WandB as WandB

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MLflow": "mlflow",
        "Result": "tracker",
        "TensorBoard": "tensorboard",
        "Tracker": "tracker",
        "WandB": "wandb",
        "make_trackers": "by_name",
    },
)
