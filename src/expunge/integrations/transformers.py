"""A callback for `transformers.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from ..data.split import Split
from ..errors import ExpungeError, MissingExtra
from ..tasks.task import Task
from .held_mask import HeldMask

# without the library the class can be read, and not be made
TrainerCallback: Any = object
if find_spec("transformers") is not None:
    from transformers import TrainerCallback


class MaskCallback(TrainerCallback):
    """Hold a mask in a training of `transformers.Trainer`, and measure the forget and the retain set after each epoch.

    Every parameter outside the mask is bit-identical after each optimizer step, under any optimizer, momentum and weight decay.
    The norm for clipping (`max_grad_norm`) is that of the parameters that move.

    The figures "forget" and "retain" (accuracy in percent) go into `history` and into the log history of the trainer. After
    `attach(trainer)` they go to everything that the trainer reports to.

    Args:
        mask: {parameter name: bool tensor}, true where the parameter may move. None holds nothing.
        split: The split whose forget and retain set are measured. None measures nothing.
        task: The task of the model; needed with a split.
        samples: Largest number of samples of each set in one measurement.
        batch_size: Number of samples in a batch of a measurement.

    Attributes:
        history: One row for each measurement: step, epoch, forget, retain. The first row is that of the model before any step.

    Example:
        >>> callback = MaskCallback(mask, split, Classification(2))  # doctest: +SKIP
        >>> callback.attach(trainer)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
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
        if TrainerCallback is object:
            raise MissingExtra("the callback for transformers.Trainer", "text")
        self.held = HeldMask(mask, split, task, samples, batch_size)
        self.history: list[dict[str, float]] = []
        self._trainer: Any = None

    def attach(self, trainer: Any) -> None:
        """Add this callback to a trainer, which then also reports the figures."""
        trainer.add_callback(self)
        self._trainer = trainer

    def release(self) -> None:
        """Let all parameters move again. Needed only if the training ended with an error."""
        self.held.release()

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Hold the mask, and measure the model before any step."""
        if given.get("optimizer") is None or given.get("model") is None:
            raise ExpungeError(
                "the trainer has no optimizer or no model when the training begins; use Trainer of transformers 5.17 or newer."
            )
        self.held.hold([given["optimizer"]], given["model"], several=args.world_size > 1)
        self.held.mask_gradients_as_they_come()
        self._measure(state, given["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Measure the model."""
        self._measure(state, given["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Let all parameters move again."""
        self.held.release()

    def _measure(self, state: Any, model: Any) -> None:
        figures = self.held.figures(model)
        if not figures:
            return
        self.history.append({"step": state.global_step, "epoch": float(state.epoch or 0.0), **figures})
        if self._trainer is not None:
            self._trainer.log(dict(figures))
        else:
            state.log_history.append(self.history[-1])
