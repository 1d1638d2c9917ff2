"""Check the method and the mask of a run before anything is done, and its result at the end."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import MaskError
from ..masks.mask import check_mask
from ..masks.mask_file import Mask
from ..torch_utils.module_state import is_finite, same_parameters
from .broken_samples import broken_samples
from .method import GradientMethod, Method
from .run import Run


def unwritten(method: Method) -> list[str]:
    """Return one sentence if a method lacks the function that does its work."""
    kind = type(method)
    if kind.apply is Method.apply:
        return [
            f"{kind.__name__} has no `apply`; write apply(self, run), or extend GradientMethod and write `loss`."
        ]
    if kind.apply is GradientMethod.apply and getattr(kind, "loss", None) is GradientMethod.loss:
        return [
            f"{kind.__name__} has no `loss`; write loss(self, run, forget, retain), which returns one number as a tensor."
        ]
    return []


def checked_mask(model: nn.Module, method: Method, mask: Mapping[str, Tensor] | None) -> Mask | None:
    """Return the mask of a run. Raises `MaskError` if the method takes none, or if it does not fit the model."""
    if method.exact and (mask is not None or getattr(method, "density", 1.0) < 1):
        raise MaskError(
            f"{type(method).__name__} starts from fresh weights, so there is nothing a mask could hold; leave the mask out and "
            "density at 1."
        )
    if mask is None:
        return None
    if not isinstance(method, GradientMethod):
        raise MaskError(
            f"{type(method).__name__} edits weights without gradient steps and takes no mask; leave the mask out."
        )
    check_mask(model, mask)
    return mask if isinstance(mask, Mask) else Mask(mask)


def check_result(run: Run, model: nn.Module, method: Method) -> None:
    """Take back a result with NaN, restore the modes of the modules, and warn of a run without a result."""
    # methods with a loop have a guard that checks this itself
    if run.ended == "finished" and not is_finite(run.model):
        run.model, run.ended, run.taken_back = copy.deepcopy(model), "diverged", True
        run.status = (
            "diverged: a weight became NaN or infinite; the model is as it came. Choose weaker settings."
        )
    elif run.ended in ("finished", "stopped") and same_parameters(run.model, model):
        reason = "" if run.status == "finished" else f" ({run.status})"
        run.ended, run.status = (
            "unchanged",
            (
                f"unchanged: every parameter is identical to the original's after {run.step} steps{reason}. Nothing was "
                "unlearned. Check lr, epochs, the mask and frozen parameters."
            ),
        )
    if run.ended in ("diverged", "unchanged") and not isinstance(method, GradientMethod):
        broken = broken_samples(run, [run.split.forget, run.split.retain])
        run.status += f" Cause: {broken}" if broken else ""
    modes = {part: module.training for part, module in model.named_modules()}
    # a method may return another model, such as an ensemble
    for part, module in run.model.named_modules():
        module.training = modes.get(part, model.training)
    if run.taken_back or run.ended == "unchanged":
        warnings.warn(f"{type(method).__name__} {run.status}", RuntimeWarning, stacklevel=4)
