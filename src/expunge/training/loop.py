"""The one training loop. A method supplies a loss and says which batches it wants; mask, schedule and stop rule are settings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import ExpungeError, MaskError
from ..masks.mask import complete, inverted_mask, masked, random_mask, top_mask
from ..masks.mask_file import Mask, combine
from ..masks.saliency import saliency_scores
from ..masks.sharded import distributed_scores
from ..torch_utils.finite import all_finite
from ..torch_utils.gradients import dense_gradients
from ..torch_utils.module_state import SINGLE_SAMPLE, freeze_batch_norm
from ..torch_utils.precision import autocast
from .broken_samples import broken_samples
from .guard import Guard
from .method import GradientMethod
from .resume import ResumableState
from .run import Run
from .schedule import Pair, pieces
from .step_checks import loss_of

# ---- optimizer, schedule, mask


def make_optimizer(method: GradientMethod, model: nn.Module) -> Optimizer:
    """Return the method's optimizer over the trainable parameters, with fused kernels on a GPU."""
    weights = [p for p in model.parameters() if p.requires_grad]
    fused: dict[str, Any] = {"fused": True} if weights[0].is_cuda else {}
    if method.optimizer == "sgd":
        return torch.optim.SGD(
            weights, method.lr, momentum=method.momentum, weight_decay=method.weight_decay, **fused
        )
    adam = torch.optim.Adam if method.optimizer == "adam" else torch.optim.AdamW
    return adam(weights, method.lr, weight_decay=method.weight_decay, **fused)


def rate(schedule: str, total: int) -> Callable[[int], float]:
    """Return the factor on the learning rate at a step of `total`.

    Schedules: constant, linear (to 0), cosine, one_cycle (up over a quarter, then down to 0), or multistep (a tenth at one
    half and at three quarters).
    """
    warm = max(1, round(0.25 * total))
    shapes: dict[str, Callable[[int], float]] = {
        "constant": lambda s: 1.0,
        "linear": lambda s: 1 - s / total,
        "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s / total)),
        "one_cycle": lambda s: (s + 1) / warm if s < warm else max(0.0, (total - s) / (total - warm + 1)),
        "multistep": lambda s: 0.1 ** ((s >= total // 2) + (s >= 3 * total // 4)),
    }
    return shapes[schedule]


def choose_mask(run: Run, method: GradientMethod) -> Mask | None:
    """Return the run's mask: the one passed in, or the one that the method's settings ask for, without its frozen parameters.

    Raises:
        MaskError: The mask frees no parameter, or only frozen ones.
    """
    mask = run.mask
    if mask is None and method.density < 1:
        mask = _mask_of_settings(run, method)
    parameters = dict(run.model.named_parameters())
    if frozen := method.frozen(run):
        free = Mask({n: torch.full_like(p, n not in frozen, dtype=torch.bool) for n, p in parameters.items()})
        mask = free if mask is None else combine(mask, free)
    if mask is not None:
        freed = [p for n, p in parameters.items() if bool(mask[n].any())]
        if not freed:
            raise MaskError(
                f"the mask frees none of the {sum(p.numel() for p in parameters.values()):,} parameters, so nothing could move; raise "
                f"density (now {method.density:g}), or give a mask with true elements."
            )
        if not any(p.requires_grad for p in freed):
            raise MaskError(
                "every weight that the mask frees is frozen (requires_grad is False), so nothing could move; make the mask from this "
                "model, or free those weights."
            )
    return mask


def _mask_of_settings(run: Run, method: GradientMethod) -> Mask:
    """The mask for the method's `density` and `mask`."""
    if method.mask == "random":
        return random_mask(run.model, method.density, run.seed)
    options = method.saliency_options()
    # As many samples at once as in a step, so that what trains in memory also gets its mask there. In the released code's
    # form the batches are part of the result.
    size = max(1, min(256, method.batch_size) // run.compute.accumulate)
    if options.get("paper_exact"):
        size = method.batch_size
    options = {"batch_size": size, "seed": run.seed, **options}
    # shuffled batches cannot be divided among processes
    alone = run.process_group.size == 1 or options.get("paper_exact")
    score = saliency_scores if alone else distributed_scores
    scores = score(run.model, run.split.forget, run.task, **options)
    if not all(map(all_finite, scores.values())) and (broken := broken_samples(run, [run.split.forget])):
        raise ExpungeError(broken)
    select = inverted_mask if method.mask == "inverted" else top_mask
    return complete(select(scores, method.density), run.model)


# ---- the loop


def descend(run: Run, method: GradientMethod) -> None:
    """Run `method` to its end, to its stop rule, or to the last good state before it diverged."""
    with dense_gradients(run.model):
        _descend(run, method)


def _descend(run: Run, method: GradientMethod) -> None:
    run.epochs = method.epochs
    group = run.process_group
    group.broadcast(run.model)
    optimizer = make_optimizer(method, run.model)
    total = max(1, method.steps(run))
    scheduler = LambdaLR(optimizer, rate(method.lr_schedule, total))
    scaler = torch.amp.GradScaler(
        run.device.type, enabled=run.compute.amp == "fp16" and run.device.type == "cuda"
    )
    guard = Guard(run, method)
    parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    # before the mask is chosen: the identity of a run contains the mask that was passed in
    state = ResumableState(run, method, parts, guard)
    if state.resume():
        if run.ended == "finished" and run.step != run.history[-1]["step"]:
            guard.epoch()  # a state is written before the evaluation of its epoch
    else:
        run.mask = choose_mask(run, method)
        guard.start()
    step = _Stepper(run, method, optimizer, scaler)
    with masked_by(run, optimizer) as step.freezer:
        while run.epoch < run.epochs and run.ended == "finished":
            group.seed_epoch(run.seed, run.epoch)
            for pair in method.pairs(run):
                loss = step(pair)
                scheduler.step()
                run.step += 1
                if guard.stops(loss, pair):
                    break
            else:
                run.epoch += 1
                guard.gather()
                if group.rank == 0:
                    state.keep()  # before the evaluation, in which a program may end the run for today
                guard.epoch()
    guard.finish()


def masked_by(run: Run, optimizer: Optimizer) -> AbstractContextManager[Any]:
    """Return the context in which `optimizer` moves only what the run's mask frees."""
    return nullcontext() if run.mask is None else masked(optimizer, run.model, run.mask)


class _Stepper:
    """Takes one optimizer step of a method on a pair of batches, and returns its loss."""

    def __init__(self, run: Run, method: GradientMethod, optimizer: Optimizer, scaler: torch.amp.GradScaler):
        self.run, self.method, self.optimizer, self.scaler = run, method, optimizer, scaler
        self.freezer: Any = None
        self.warned = False

    def __call__(self, pair: Pair) -> Tensor:
        run, method = self.run, self.method
        method.train_mode(run)
        try:
            return _step(run, method, pair, self.optimizer, self.scaler, self.freezer)
        except (ValueError, RuntimeError) as error:  # RuntimeError from torch.compile
            if SINGLE_SAMPLE not in str(error):
                raise
        freeze_batch_norm(run.model)  # for this step
        pieces_of_batch = run.compute.accumulate * run.process_group.size
        if not self.warned and method.batch_size < 2 * pieces_of_batch:
            self.warned = _warn_of_single_samples(method.batch_size, pieces_of_batch)
        return _step(run, method, pair, self.optimizer, self.scaler, self.freezer)


def _warn_of_single_samples(size: int, count: int) -> bool:
    warnings.warn(
        f"a batch of {size} is cut into {count} pieces, some of one sample, from which batch norm can learn nothing: its running "
        "statistics are used and left in such steps. Take a larger batch_size or fewer pieces (accumulate, processes).",
        RuntimeWarning,
        stacklevel=4,
    )
    return True


def _step(
    run: Run,
    method: GradientMethod,
    pair: Pair,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    freezer: Any,
) -> Tensor:
    group = run.process_group
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=run.device)
    union = method.plan() == "mixed" and run.task.joint
    every = pieces(pair, run.compute.accumulate * group.size, union)
    for (forget, retain), share in islice(every, group.rank, None, group.size):
        with autocast(run.compute.amp, run.device):
            loss = loss_of(method, run, forget, retain)
        scaler.scale(loss * share).backward()
        total += loss.detach() * share
    group.sum_gradients(run.model)
    if method.clip is not None:
        scaler.unscale_(optimizer)
        if freezer is not None:
            freezer.mask_gradients()  # the norm is that of the parameters that move
        torch.nn.utils.clip_grad_norm_([p for p in run.model.parameters() if p.grad is not None], method.clip)
    scaler.step(optimizer)
    scaler.update()
    method.after_step(run, optimizer)
    return total
