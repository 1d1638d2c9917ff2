"""Check what a method does: its loss at each step, and the models that a run leaves."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ExpungeError
from .run import Run


def loss_of(method: Any, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
    """Return the loss of a step. Raises `ExpungeError` unless it is one number with a gradient."""
    try:
        loss = method.loss(run, forget, retain)
    except AttributeError as error:
        missing = [name for name, batch in (("forget", forget), ("retain", retain)) if batch is None]
        if not missing or "'NoneType'" not in str(error):
            raise
        raise ExpungeError(
            f"{type(method).__name__}.loss uses a batch that is None: the schedule '{method.plan()}' gives no {missing[0]} batch "
            f'in this step ({error}); set `schedule` to one with it, for example "retain+forget".'
        ) from error
    if isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad:
        return loss
    if not isinstance(loss, Tensor):
        wrong = f"a {type(loss).__name__}" if loss is not None else "None"
        advice = "without .item(), float() or .detach()" if isinstance(loss, float | int) else "with `return`"
    elif loss.dim():
        wrong = f"a tensor of the shape {tuple(loss.shape)}"
        advice = "for example with .mean() over the samples"
    else:
        wrong = "a tensor without a gradient"
        advice = "computed from run.model without .item(), .detach() or torch.no_grad()"
    raise ExpungeError(
        f"{type(method).__name__}.loss returned {wrong}; return one number as a tensor of the shape () with a gradient, {advice}."
    )


def versions(model: nn.Module) -> dict[str, int]:
    """Return the number of changes of each tensor of a model, as torch counts them."""
    return {name: t._version for name, t in _tensors(model).items() if not t.is_inference()}


def check_left(run: Run, model: nn.Module, before: dict[str, int], name: str) -> None:
    """Warn if a method changed the model that was passed in.

    Args:
        run: The finished run.
        model: The model that was passed in.
        before: `versions` of it before the run.
        name: Name of the method.

    Raises:
        ExpungeError: The method left no model.
    """
    if not isinstance(run.model, nn.Module):
        left, run.model = type(run.model).__name__, model
        raise ExpungeError(
            f"{name} set run.model to {left}; leave a model there, changed in place or a new nn.Module."
        )
    # frozen tensors may be shared, and a resumed run copies such a tensor to itself
    shared = {t.data_ptr() for t in _tensors(run.model).values()}
    after, tensors = versions(model), _tensors(model)
    changed = [
        n
        for n, count in before.items()
        if after.get(n) != count and (n not in tensors or tensors[n].data_ptr() not in shared)
    ]
    if changed:
        warnings.warn(
            f"{name} changed the model that was passed in ({len(changed)} tensors, first: {changed[:3]}), which is now no "
            "original any more; change run.model only, and copy run.original first.",
            RuntimeWarning,
            stacklevel=5,
        )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
