"""CT: swap the two spatial axes of every convolution kernel, then fine-tune on the retain set.

    W[o, i, h, w] <- W[o, i, w, h]

Source: an entry of the NeurIPS 2023 unlearning challenge (convolution transpose, fifth place), arXiv:2406.09073; evaluated in
Cadet, Borovykh, Malekzadeh, Ahmadi-Abhari, Haddadi, "Deep Unlearn", arXiv:2410.01276. The rule and the settings are from
the code of the latter (xcadet/deepunlearn, commit 6830ff6).

Published: 3 epochs of SGD, learning rate 1e-3 (cosine), momentum 0.9, weight decay 5e-4, batch size 64.

The method never looks at the forget set. The edit is known and its own inverse, so all forgetting comes from the fine-tuning.
Kernels of one pixel do not change, so networks of bottlenecks are damaged less.

Ours:
- Kernels that are not square stay as they are. The code changes their shape.
- Under a mask, two weights are swapped only if both may move.
- The rate falls by the step. The code lowers it by the epoch.

Cost: One pass over the retain set for each epoch. The edit costs nothing.

When not to use it: The network has no convolutions with square kernels above one pixel: then it is FT with few
epochs. The forget set decides nothing, so do not expect a result that depends on the request.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..errors import ModelError
from ..training.loop import choose_mask
from ..training.method import GradientMethod
from ..training.run import Run


def square_kernels(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the kernels (O, I, H, H) with H above 1 by parameter name.

    Raises:
        ModelError: The model has none.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kernels = {
        name: parameters[name]
        for name in (
            f"{n}.weight" if n else "weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)
        )
        if name in parameters and parameters[name].shape[2] == parameters[name].shape[3] > 1
    }
    if not kernels:
        raise ModelError(
            "conv_transpose turns the kernels of image models, and the model has no square kernel of more than one pixel; use "
            "msg or finetune."
        )
    return kernels


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(GradientMethod):
    """Swap the axes of all convolution kernels, then fine-tune (convolution transpose, CT).

    Args:
        epochs: Number of passes over the retain set.
        lr: Learning rate.
        batch_size: Samples per step.
        lr_schedule: Course of the learning rate.
    """

    epochs: int = 3
    lr: float = 1e-3
    batch_size: int = 64
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "cosine"

    published: ClassVar = {"max_drop": 100.0}
    data: ClassVar = ("retain",)
    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "epochs": (3, 5, 10)}
    schedule: ClassVar = "retain"

    def prepare(self, run: Run) -> None:
        """Swap the axes of the kernels in place.

        Raises:
            ModelError: The model has no square kernel of more than one pixel.
        """
        kernels = square_kernels(run.model)
        run.mask = choose_mask(run, self)
        swapped = 0
        with torch.no_grad():
            for name, kernel in kernels.items():
                if not kernel.requires_grad:
                    continue
                turned = kernel.transpose(2, 3).contiguous()
                if run.mask is not None:
                    free = run.mask[name].to(kernel.device)
                    turned = torch.where(free & free.transpose(2, 3), turned, kernel)
                swapped += int((turned != kernel).sum())
                kernel.copy_(turned)
        run.memo["swapped"] = swapped
        if not swapped:
            warnings.warn(
                "conv_transpose swapped no weight: all square kernels are frozen, masked or symmetric. The run only fine-tunes.",
                RuntimeWarning,
                stacklevel=2,
            )

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the retain loss."""
        assert retain is not None
        return run.task.loss(run.model, retain).mean()

    def details(self, run: Run) -> dict[str, Any]:
        """Return the number of weights that the swap changed."""
        return {"conv_transpose": {"swapped": run.memo["swapped"]}}
