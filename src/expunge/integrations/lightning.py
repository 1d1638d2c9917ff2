"""A callback for Lightning's `Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..data.split import Split
from ..errors import MissingExtra
from ..tasks.task import Task
from .held_mask import HeldMask

# one library under two names; without it the class can be read, and not be made
Callback: Any = object
if find_spec("lightning") is not None:
    from lightning.pytorch import Callback  # type: ignore[no-redef]
elif find_spec("pytorch_lightning") is not None:
    from pytorch_lightning import Callback  # type: ignore[no-redef]


class MaskCallback(Callback):
    """Hold a mask in a training of Lightning, and measure the forget and the retain set after each epoch.

    Every parameter outside the mask is bit-identical after each optimizer step, under any optimizer, momentum and weight decay.
    The norm for clipping (`gradient_clip_val`) is that of the parameters that move. An average of the parameters (`WeightAveraging`,
    `EMAWeightAveraging`) has the frozen values too.

    The figures "forget" and "retain" (accuracy in percent) go into `history`, and with `log` of the module to every logger of the
    trainer.

    Args:
        mask: {parameter name: bool tensor}, true where the parameter may move. Its names are those of the LightningModule, or of
            the model in it. None holds nothing.
        split: The split whose forget and retain set are measured. None measures nothing.
        task: The task of the LightningModule, whose `forward` takes the inputs; needed with a split.
        samples: Largest number of samples of each set in one measurement.
        batch_size: Number of samples in a batch of a measurement.

    Attributes:
        history: One row for each measurement: step, epoch, forget, retain. The first row is that of the model before any step.
            "epoch" is the number of finished epochs, as in the history of the callback for `transformers.Trainer`.

    Example:
        >>> trainer = lightning.Trainer(callbacks=[MaskCallback(mask, split, Classification(10))])  # doctest: +SKIP
        >>> trainer.fit(module, loader)  # doctest: +SKIP
    """

    def __init__(
        self,
        mask: Mapping[str, Tensor] | None = None,
        split: Split | None = None,
        task: Task | None = None,
        *,
        samples: int = 2048,
        batch_size: int = 256,
    ):
        if Callback is object:
            raise MissingExtra("the callback for Lightning", "lightning")
        self.held = HeldMask(mask, split, task, samples, batch_size)
        self.history: list[dict[str, float]] = []

    def release(self) -> None:
        """Let all parameters move again."""
        self.held.release()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Hold the mask, and measure the model before any step."""
        self.held.hold(trainer.optimizers, pl_module, several=trainer.world_size > 1)
        # WeightAveraging and EMAWeightAveraging
        of_callbacks = [value for callback in trainer.callbacks for value in vars(callback).values()]
        self.held.hold_in_averages([v for v in of_callbacks if isinstance(v, AveragedModel)], pl_module)
        self._measure(trainer, pl_module, trainer.current_epoch)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Zero the gradients of frozen elements, before they are clipped."""
        self.held.mask_gradients()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure the model, and log the figures."""
        # Lightning counts an epoch as finished after this hook
        figures = self._measure(trainer, pl_module, trainer.current_epoch + 1)
        if figures:
            pl_module.log_dict(figures)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let all parameters move again."""
        self.held.release()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let all parameters move again."""
        self.held.release()

    def _measure(self, trainer: Any, pl_module: Any, epochs: int) -> dict[str, float]:
        figures = self.held.figures(pl_module)
        if figures:
            row = {"step": trainer.global_step, "epoch": float(epochs)}
            self.history.append({**row, **figures})
        return figures
