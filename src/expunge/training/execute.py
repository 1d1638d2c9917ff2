"""How a method is found by its file, and `unlearn`, which runs one. What a method is: `method_base.py`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..data.split import Split
from ..errors import ExpungeError, MaskError, raise_all
from ..masks.mask import check_mask
from ..masks.mask_file import Mask
from ..tasks.task import Task
from ..torch_utils.module_state import arranged, check_seed, device_of, seeded
from .method import GradientMethod, Method
from .registry import not_for
from .run import Compute, Row, Run, clocked, finite
from .settings import faults


def execute(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Task,
    *,
    mask: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    factory: Callable[[], nn.Module] | None = None,
    state_file: Path | str | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> Run:
    """Run `method` on a copy of `model` and return the whole `Run`: model, history, seconds, peak memory, mask, status.

    `mask` overrides the method's own; `factory` makes a model with fresh weights (for Retrain, where resetting every
    module is not enough); `state_file` keeps a resumable state after each epoch and is resumed from if it is there;
    `on_row` is called with each row of the curves. Raises `ExpungeError` with all problems before anything is done.
    """
    check_seed(seed)
    how = compute or Compute()
    problems = faults(method) + how.problems(device_of(model))
    name = type(method).__name__
    if task.name not in method.tasks:
        problems.append(not_for(type(method), task.name))
    if method.scenarios and split.scenario not in method.scenarios:
        problems.append(
            f"{name} serves forget sets drawn by {' or '.join(method.scenarios)}, not '{split.scenario}'; see `expunge methods`."
        )
    raise_all(problems, ExpungeError)
    if method.exact and (mask is not None or getattr(method, "density", 1.0) < 1):
        raise MaskError(
            f"{name} starts from fresh weights, so there is nothing a mask could hold; leave the mask out and density at 1."
        )
    if mask is not None:
        if not isinstance(method, GradientMethod):
            raise MaskError(
                f"{name} edits weights without gradient steps and takes no mask; leave the mask out."
            )
        check_mask(model, mask)
        mask = mask if isinstance(mask, Mask) else Mask(mask)
    task.check(model, split)
    run = Run(
        copy.deepcopy(model),
        split,
        task,
        seed,
        how,
        mask,
        factory,
        source=model,
        state_file=None if state_file is None else Path(state_file),
        on_row=on_row,
    )
    with (
        seeded(seed, run.device),
        clocked(run),
        arranged(run.model, run.compute.channels_last, run.compute.compile),
    ):
        method.apply(run)
    if run.ended == "finished" and not finite(run.model):  # of methods without a loop, which looks itself
        run.model, run.ended, run.taken_back = copy.deepcopy(model), "diverged", True
        run.status = (
            "diverged: a weight became NaN or infinite; the model is as it came. Choose weaker settings."
        )
    modes = {part: module.training for part, module in model.named_modules()}
    for part, module in run.model.named_modules():  # a method may return another model, such as an ensemble
        module.training = modes.get(part, model.training)
    if run.taken_back:
        warnings.warn(f"{name} {run.status}", RuntimeWarning, stacklevel=2)
    return run


def unlearn(model: nn.Module, split: Split, method: Method, task: Task, **options: Any) -> nn.Module:
    """A new model from which the split's forget set was unlearned by `method`; `model` is left as it was.

    `options` are those of `execute`, which also returns how it went.
    """
    return execute(model, split, method, task, **options).model
