"""Check that a model can be trained, before the first step: by its parameters, and by two samples in training mode."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..data.split import Split
from ..errors import ExpungeError, ModelError, raise_all
from ..tasks.input_checks import input_problems
from ..tasks.model_checks import trainability_problems
from ..tasks.task import Task
from ..torch_utils.gradients import dense_gradients
from ..torch_utils.module_state import SINGLE_SAMPLE, evaluating, seeded
from .method import GradientMethod, Method
from .run import Run
from .second_weights import second_weights

# largest difference from 1 of the sum of a row of probabilities
ROUNDING = 1e-3


def copy_to_train(task: Task, model: nn.Module, split: Split) -> nn.Module:
    """Return a copy of a model, after the checks of the model and of the samples.

    Raises:
        ModelError: Lists every problem that shows without a training step.
    """
    problems = []
    try:
        # a method without retained samples reads the forget set
        task.check(model, split.retain if len(split.retain) else split.forget)
    except ModelError as error:
        problems += error.problems
    problems += trainability_problems(model)
    # a task of the user's may have a check of its own, and sets may come from several data
    for samples in {id(s.data): s for s in (split.forget, split.retain, split.validation)}.values():
        problems += input_problems(samples)
    raise_all(list(dict.fromkeys(problems)), ModelError)
    try:
        return copy.deepcopy(model)
    # objects of the user's may raise anything
    except Exception as error:
        raise ModelError(
            f"the model cannot be copied, and a run works on a copy: {type(error).__name__}: {error}; remove what cannot be copied "
            "from the attributes of the model, or define __deepcopy__."
        ) from error


def check_step(run: Run, method: Method) -> None:
    """Take the loss of two samples with gradients, in the mode of a step. Model and random state stay as they are.

    Raises:
        ModelError: The model fails, gives other outputs than in eval mode, or gives no gradients.
    """
    retain, forget = run.split.retain, run.split.forget
    # a method may promise to read no retained samples
    samples = retain if "retain" in method.data and len(retain) else forget
    if not len(samples):
        return
    batch = next(samples.take(torch.arange(min(2, len(samples)))).batches(2, device=run.device))
    with _as_before(run.model), seeded(0, run.device), dense_gradients(run.model):
        try:
            problems = _problems(run, method, batch)
        except ExpungeError as error:
            problems = [f"in {_mode(method)} mode, {problem}" for problem in error.problems]
        # whatever a user's model raises is the message
        except Exception as error:
            if SINGLE_SAMPLE in str(error):
                return
            problems = [
                f"the model fails in {_mode(method)} mode on {len(batch)} samples with gradients, but not in eval mode without: "
                f"{type(error).__name__}: {error}; make the forward pass take the inputs alone in both modes."
            ]
    raise_all(problems, ModelError)
    _warn_of_half(run.model)


def _mode(method: Method) -> str:
    """The mode in which a method takes gradients: methods without steps edit a model in eval mode."""
    return "training" if isinstance(method, GradientMethod) else "eval"


def _problems(run: Run, method: Method, batch: Batch) -> list[str]:
    outputs: dict[str, Tensor] = {}
    task: Any = run.task
    if "logits" in task.offers:
        with evaluating(run.model), torch.no_grad():
            outputs["eval"] = task.logits(run.model, batch.x)
    run.model.eval()
    if isinstance(method, GradientMethod):
        method.train_mode(run)
    if outputs:
        outputs["training"] = task.logits(run.model, batch.x)
        if problems := _mode_problems(**outputs):
            return problems
    losses = task.loss(run.model, batch)
    if not losses.isfinite().all():
        return [f"the loss of two samples is not finite in {_mode(method)} mode; check the model."]
    return _gradient_problems(run, method, batch, losses)


def _mode_problems(eval: Tensor, training: Tensor) -> list[str]:
    if eval.shape != training.shape:
        return [
            f"the model returns outputs of the shape {tuple(training.shape)} in training mode and {tuple(eval.shape)} in eval mode; "
            "return logits of one shape in both."
        ]
    kinds = {mode: _are_probabilities(t) for mode, t in (("training", training), ("eval", eval))}
    if kinds["training"] != kinds["eval"]:
        mode = next(m for m, is_so in kinds.items() if is_so)
        return [
            f"the model returns probabilities in {mode} mode only; return logits in both modes, without softmax."
        ]
    if kinds["eval"]:
        warnings.warn(
            "the model returns probabilities (no value is negative, and each row adds up to 1), and the loss applies a softmax to them "
            "once more; return logits, without softmax, unless the model was trained in this way.",
            RuntimeWarning,
            stacklevel=2,
        )
    return []


def _are_probabilities(outputs: Tensor) -> bool:
    sums = outputs.detach().float().sum(1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() < ROUNDING).all())


def _gradient_problems(run: Run, method: Method, batch: Batch, losses: Tensor) -> list[str]:
    if not losses.requires_grad:
        return [
            "the loss has no gradient with respect to the parameters; remove no_grad, inference_mode, detach() and argmax from the "
            "forward pass."
        ]
    trained = {n: p for n, p in run.model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(losses.sum(), list(trained.values()), allow_unused=True)
    named = {n: g for n, g in zip(trained, gradients, strict=True) if g is not None}
    if not named:
        return ["the loss depends on no trained parameter; make the forward pass use the parameters."]
    if sparse := [n for n, g in named.items() if g.layout != torch.strided]:
        return [
            f"{len(sparse)} parameters get sparse gradients (first: {sparse[:3]}), which no optimizer here takes; leave sparse=True "
            "out."
        ]
    # a method that starts from fresh weights takes no values of the model
    if not method.exact:
        run.model.eval()
        used = {n: trained[n] for n in named}
        if problems := second_weights(run.model, used, lambda: run.task.loss(run.model, batch)):
            return problems
    if unused := [n for n in trained if n not in named]:
        run.note(
            f"the loss of two samples depends on {len(unused)} trained parameters not at all (first: {unused[:3]}); gradients do not "
            "change them.",
            warn=False,
        )
    return []


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Restore modes and buffers of a model after the block, such as the statistics of batch norm."""
    buffers = {b: b.detach().clone() for b in model.buffers()}
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
        for module, mode in modes.items():
            module.training = mode


def _warn_of_half(model: nn.Module) -> None:
    half = sorted(
        {
            str(p.dtype)
            for p in model.parameters()
            if p.requires_grad and p.is_floating_point() and p.itemsize < 4
        }
    )
    if half:
        warnings.warn(
            f"the trained parameters are {' and '.join(half)}, in which small steps are lost; call model.float() and choose "
            "Compute(amp=...) for speed.",
            RuntimeWarning,
            stacklevel=5,
        )
