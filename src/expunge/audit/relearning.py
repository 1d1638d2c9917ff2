"""The relearning delay: how many steps a model needs to learn the forget set again, beside Retrain.

Only residue of the forget set can make a model learn it faster than Retrain does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..data.batch import Batch
from ..data.split import Split
from ..tasks.classification import Classification
from ..torch_utils.gradients import with_gradients
from ..torch_utils.module_state import device_of


def relearning_delay(
    unlearned: nn.Module,
    retrained: nn.Module,
    original: nn.Module,
    split: Split,
    task: Classification,
    *,
    most: int = 200,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Compare the relearning steps of an unlearned and a retrained model, with SGD and with Adam.

    The goal is 0.9 of the original's accuracy on the forget set. Both optimizers are used, because gradient ascent with
    parameter noise slows SGD more than Adam (a remark in the IEU paper).

    Args:
        unlearned: The audited model.
        retrained: The reference model.
        original: The model before unlearning, for the goal.
        split: The split of the audit.
        task: The task of the models.
        most: Number of steps after which relearning stops.
        seed: Seed of the sample order.
        **options: Further options of `relearning`.

    Returns:
        "goal" in percent, and for "sgd" and "adam" a dictionary. Its "delay" is the steps of the unlearned model over
        those of the retrained one: 1 is like Retrain, below 1 is residue. "delay" is None if Retrain reaches the goal
        without a step, as for random forget sets, or if neither model reaches it. "bound" is "at most" or "at least" if
        one model did not reach the goal.
    """
    goal = 0.9 * task.predict(original, split.forget).accuracy
    result: dict[str, Any] = {"goal": goal}
    for name in ("sgd", "adam"):
        audited, reference = (
            relearning(m, split, task, goal=goal, optimizer=name, most=most, seed=seed, **options)  # type: ignore[arg-type]
            for m in (unlearned, retrained)
        )
        delay, bound = _delay(audited["steps"], reference["steps"], most)
        result[name] = {
            "steps": audited["steps"],
            "steps_retrained": reference["steps"],
            "delay": delay,
            "bound": bound,
            "area": audited["area"],
            "area_retrained": reference["area"],
        }
    return result


@with_gradients
def relearning(
    model: nn.Module,
    split: Split,
    task: Classification,
    *,
    goal: float,
    optimizer: Literal["sgd", "adam"] = "sgd",
    lr: float | None = None,
    samples: int = 0,
    batch_size: int = 64,
    most: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a copy of a model on the forget set and count the steps to an accuracy.

    Args:
        model: The model to copy. It is not changed.
        split: The split of the audit.
        task: The task of the model.
        goal: Accuracy on the forget set at which the model counts as relearned, in percent.
        optimizer: "sgd" (momentum 0.9) or "adam".
        lr: Learning rate. The default is 1e-2 for SGD and 1e-3 for Adam.
        samples: Number of forget samples to train on. 0 uses all.
        batch_size: Number of samples in one step.
        most: Number of steps after which training stops.
        seed: Seed of the sample order.

    Returns:
        "steps": steps to the goal, None if `most` steps did not reach it. "curve": accuracy after 0, 1, ... steps, in
        percent. "area": mean of the curve.
    """
    student = copy.deepcopy(model)
    stepper = _optimizer(student, optimizer, lr)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split.forget), generator=generator)
    trained_on = split.forget.take(order[: samples or len(split.forget)])
    curve, reached = [task.predict(student, split.forget).accuracy], None
    batches: Iterator[Batch] = iter(())
    # in eval mode, because batch statistics of forget samples alone would change more than the parameters
    student.eval()
    for step in range(most + 1):
        if reached is None and curve[-1] >= goal:
            reached = step
        if step == most:
            break
        if (batch := next(batches, None)) is None:
            batches = trained_on.batches(batch_size, device=device_of(student), shuffle=generator)
            batch = next(batches)
        stepper.zero_grad()
        task.loss(student, batch).mean().backward()
        stepper.step()
        curve.append(task.predict(student, split.forget).accuracy)
    return {"steps": reached, "area": float(np.mean(curve)), "curve": curve}


def _optimizer(model: nn.Module, name: str, lr: float | None) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(parameters, 1e-2 if lr is None else lr, momentum=0.9)
    return torch.optim.Adam(parameters, 1e-3 if lr is None else lr)


def _delay(unlearned: int | None, retrained: int | None, most: int) -> tuple[float | None, str | None]:
    """Return the ratio of steps, and "at most" or "at least" if one model did not reach the goal."""
    if retrained == 0 or (unlearned is None and retrained is None):
        return None, None
    if retrained is None:
        assert unlearned is not None
        return unlearned / most, "at most"
    return (most / retrained, "at least") if unlearned is None else (unlearned / retrained, None)
