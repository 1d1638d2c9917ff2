"""Attacks that question one model: by labels alone, by relearning, by confusing two classes. Each beside
Retrain's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batch import Batch, CropFlip
from ..data.samples import Samples
from ..data.split import Split
from ..errors import ExpungeError
from ..tasks.classification import Classification
from ..torch_utils.module_state import device_of, evaluating
from .mia import auc, members_and_nonmembers, threshold_attack

NOISES = (0.05, 0.1, 0.2, 0.3)  # standard deviations, in units of the inputs' own standard deviation


# ---- label-only attack


def robustness(
    model: nn.Module,
    samples: Samples,
    task: Classification,
    *,
    copies: int = 8,
    noises: tuple[float, ...] = NOISES,
    scale: float | None = None,
    seed: int = 0,
    batch_size: int = 1024,
) -> np.ndarray:
    """Share of altered copies of each sample (n,) that the model still labels right: `copies` for each
    noise, and as many shifts.

    Members lie further from the boundary (Choquette-Choo et al., ICML 2021, arXiv:2007.14321). Only labels
    are asked for. Gaussian noise, in units of `scale` (by default the samples' standard deviation); images
    are also shifted by a pixel or two. Raises `ExpungeError` for inputs that are no floating-point tensors.
    """
    device, draw = device_of(model), torch.Generator().manual_seed(seed)
    unit = scale if scale is not None else deviation(samples)
    shift = CropFlip(pad=2, flip=False)
    rows = []
    with evaluating(model), torch.inference_mode():
        for batch in samples.batches(batch_size, device=device):
            x = _numbers(batch)
            changed = [
                x + s * unit * torch.randn(x.shape, generator=draw).to(x)
                for s in noises
                for _ in range(copies)
            ]
            changed += [shift(x, draw) for _ in range(copies if x.ndim == 4 else 0)]
            right = torch.stack([task.logits(model, other).argmax(1) == batch.y for other in changed])
            rows.append(right.double().mean(0).cpu())
    return torch.cat(rows).numpy()


def deviation(samples: Samples) -> float:
    """Standard deviation of the inputs, over at most 1024 samples."""
    return float(_numbers(next(samples.batches(1024))).std())


def _numbers(batch: Batch) -> Tensor:
    if not isinstance(batch.x, Tensor) or not batch.x.is_floating_point():
        raise ExpungeError(
            "the label-only attack adds noise to inputs, and these are no floating-point tensors; leave it out."
        )
    return batch.x


def label_only(
    model: nn.Module, split: Split, task: Classification, *, seed: int = 0, **options: Any
) -> dict[str, float]:
    """The label-only attack on one model: `nonmember` = percent of the forget set that it calls non-member
    (threshold set between retain and test samples); `auc` = how well robustness tells forget samples from
    unseen ones (class-wise: of the same classes), 0.5 for not at all."""
    kept, unseen = members_and_nonmembers(len(split.retain), len(split.test), seed=seed)
    sets = [
        split.retain.take(torch.from_numpy(kept)),
        split.test.take(torch.from_numpy(unseen)),
        split.forget,
    ]
    if len(split.test_forgotten):
        sets.append(split.test_forgotten)
    unit = deviation(split.retain)
    found = [robustness(model, s, task, scale=unit, seed=seed, **options) for s in sets]
    return {
        "nonmember": threshold_attack(*found[:3]),
        "auc": auc(found[2], found[3] if len(found) > 3 else found[1]),
    }


# ---- relearning


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
    """Steps of plain training on forget samples until accuracy on the forget set reaches `goal` percent.

    `steps` is None where `most` were not enough; `curve` is the accuracy after each step, `area` its mean
    (percent). `samples` limits what is trained on (0: all). Only residue can make a model learn faster than
    Retrain does; ascent with weight noise slows SGD more than Adam (IEU's own remark), so both are asked.
    """
    student = copy.deepcopy(model)
    rate = lr if lr is not None else {"sgd": 1e-2, "adam": 1e-3}[optimizer]
    weights = [p for p in student.parameters() if p.requires_grad]
    steps = (
        torch.optim.SGD(weights, rate, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.Adam(weights, rate)
    )
    draw = torch.Generator().manual_seed(seed)
    few = split.forget.take(torch.randperm(len(split.forget), generator=draw)[: samples or len(split.forget)])
    curve, reached = [task.predict(student, split.forget).accuracy], None
    batches: Iterator[Batch] = iter(())
    student.eval()  # batch statistics of forget samples alone would be another change than that of the weights
    for number in range(most + 1):
        if reached is None and curve[-1] >= goal:
            reached = number
        if number == most:
            break
        if (batch := next(batches, None)) is None:
            batches = few.batches(batch_size, device=device_of(student), shuffle=draw)
            batch = next(batches)
        steps.zero_grad()
        task.loss(student, batch).mean().backward()
        steps.step()
        curve.append(task.predict(student, split.forget).accuracy)
    return {"steps": reached, "area": float(np.mean(curve)), "curve": curve}


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
    """Relearning beside Retrain's, with SGD and Adam: `delay` = steps of the unlearned model / steps of the
    retrained one.

    1 is like Retrain, below 1 is residue. The goal is 0.9 of the original's accuracy on the forget set;
    where Retrain is there without a step (as with random forget sets), or neither gets there, the delay
    says nothing and is None.
    """
    goal = 0.9 * task.predict(original, split.forget).accuracy
    found: dict[str, Any] = {"goal": goal}
    for name in ("sgd", "adam"):
        mine, theirs = (
            relearning(m, split, task, goal=goal, optimizer=name, most=most, seed=seed, **options)  # type: ignore[arg-type]
            for m in (unlearned, retrained)
        )
        delay, bound = _delay(mine["steps"], theirs["steps"], most)
        found[name] = {
            "steps": mine["steps"],
            "steps_retrained": theirs["steps"],
            "delay": delay,
            "bound": bound,
            "area": mine["area"],
            "area_retrained": theirs["area"],
        }
    return found


def _delay(mine: int | None, theirs: int | None, most: int) -> tuple[float | None, str | None]:
    """The ratio of steps, and whether it is only a bound, since one of the two did not get there."""
    if theirs == 0 or (mine is None and theirs is None):
        return None, None
    if theirs is None:
        assert mine is not None
        return mine / most, "at most"
    return (most / theirs, "at least") if mine is None else (mine / theirs, None)
