"""What the callbacks of all libraries share: hold a mask during the user's own training, and measure forget and retain set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.hooks import RemovableHandle

from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..masks.freezer import Freezer, on_gradient
from ..masks.mask import masked
from ..masks.mask_check import masked_part
from ..tasks.task import Task
from ..torch_utils.module_state import device_of, evaluating


class HeldMask:
    """A mask that is held from `hold` to `release`, and figures of a model on forget and retain set.

    Args:
        mask: {parameter name: bool tensor}, true where the parameter may move. None holds nothing.
        split: The split whose forget and retain set are measured. None measures nothing.
        task: The task of the model; needed with a split.
        samples: Largest number of samples of each set in one measurement.
        batch_size: Number of samples in a batch of a measurement.

    Raises:
        ExpungeError: Neither mask nor split is given, or a split without a task.
    """

    def __init__(
        self,
        mask: Mapping[str, Tensor] | None,
        split: Split | None,
        task: Task | None,
        samples: int,
        batch_size: int,
    ):
        problems = []
        if mask is None and split is None:
            problems.append(
                "neither mask nor split is given; give a mask to hold, a split to measure, or both."
            )
        if (split is None) != (task is None):
            problems.append("the figures need split and task; give both, or neither.")
        if samples < 1 or batch_size < 1:
            problems.append(f"samples is {samples} and batch_size {batch_size}; give at least 1 for both.")
        raise_all(problems, ExpungeError)
        self.mask, self.task, self.batch_size = mask, task, batch_size
        self.sets: dict[str, Any] = {}
        if split is not None:
            generator = torch.Generator().manual_seed(0)
            for name, part in (("forget", split.forget), ("retain", split.retain)):
                order = torch.randperm(len(part), generator=generator)[:samples]
                self.sets[name] = part.take(order.sort().values)
        self.freezers: list[Freezer] = []
        self._held = ExitStack()

    def hold(self, optimizers: Iterable[Any], model: nn.Module, several: bool) -> None:
        """Hold the mask in every step of these optimizers. What was held before is released.

        Args:
            optimizers: The optimizers of the training.
            model: The model that they train.
            several: Whether several processes train it.

        Raises:
            MaskError: The mask does not fit the model.
        """
        self.release()
        if self.mask is None:
            return
        for optimizer in optimizers:
            context = masked(optimizer, model, self.mask, keep_in_autograd=several)
            self.freezers.append(self._held.enter_context(context))

    def mask_gradients(self) -> None:
        """Zero the gradients of frozen elements, so that a norm for clipping is that of the parameters that move."""
        for freezer in self.freezers:
            freezer.mask_gradients()

    def mask_gradients_as_they_come(self) -> None:
        """Zero the gradients of frozen elements after each backward pass, for a library that clips before it calls back."""
        for freezer in self.freezers[:1]:
            for parameter, movable in freezer.partly_frozen:
                self._held.callback(_zero_outside(parameter, movable).remove)

    def hold_in_averages(self, averages: Iterable[AveragedModel], model: nn.Module) -> None:
        """Hold the mask in averages of the model too: an average of equal numbers is not always the same number.

        Args:
            averages: The averages, which `update_parameters(model)` updates.
            model: The model that is trained.
        """
        if self.mask is None:
            return
        trained = dict(masked_part(model, self.mask).named_parameters())
        for average in averages:
            averaged = dict(masked_part(average.module, self.mask).named_parameters())
            update = average.update_parameters

            def held(source: nn.Module, update: Any = update, averaged: Any = averaged) -> None:
                update(source)
                with torch.no_grad():
                    for name, movable in (self.mask or {}).items():
                        place = averaged[name]
                        frozen = ~movable.to(place.device)
                        place[frozen] = trained[name].to(place)[frozen]

            average.update_parameters = held  # type: ignore[method-assign, assignment]
            # an attribute of the object stands before the method of its class
            self._held.callback(delattr, average, "update_parameters")

    def release(self) -> None:
        """Let all parameters move again."""
        self._held.close()
        self.freezers = []

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Return the mean score of each set: accuracy in percent, or what the task has instead. Random state and mode stay."""
        if not self.sets or self.task is None:
            return {}
        scale = 100.0 if "scores" in self.task.offers else 1.0
        device = device_of(model)
        found = {}
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            evaluating(model),
            torch.no_grad(),
        ):
            for name, samples in self.sets.items():
                batches = samples.batches(self.batch_size, device=device)
                scores = torch.cat([self.task.sample_scores(model, batch) for batch in batches])
                found[name] = scale * float(scores.double().mean())
        return found


def _zero_outside(parameter: nn.Parameter, movable: Tensor) -> RemovableHandle:
    def zero(changed: Tensor) -> None:
        if changed.grad is not None:
            changed.grad.mul_(movable)

    return on_gradient(parameter, zero)
