"""Train the denoiser of an erasure, or LoRA adapters on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..data.split import Split
from ..methods.concept_ablation import ConceptAblation
from ..records.hashing import state_hash
from ..torch_utils.module_state import seeded
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Row, Run
from .concepts import Erasure
from .erase_setup import Setup
from .pipeline_index import read_index
from .prompted import Prompted
from .trainable import Weights, add_lora, choose_weights
from .weight_files import dtypes


class Trained(NamedTuple):
    """The finished run, the hash of what it started from, and the number of trained parameters."""

    run: Run
    hash_before: str
    parameter_count: int


def train(
    setup: Setup,
    split: Split,
    method: Method,
    on_row: Callable[[Row], None] | None,
    state_file: str | Path | None,
) -> Trained:
    """Run the method on the denoiser, or on adapters beside its frozen parameters.

    Without images, the rows of the curve have no loss on the forget set.
    """
    options, watch = setup.options, on_row
    with_images = bool(len(split.retain))
    if on_row is not None and not with_images:
        watch = lambda row: on_row({**row, "forget": None})  # noqa: E731
    with _sharing(setup.original):
        # LoRA adapters have random initial values
        with seeded(options.seed, setup.loaded.device):
            start, count = _trainable(setup.original, options.lora, options.weights)
        hash_before = hash_trained(start, options.lora)
        run = execute(
            start,
            split,
            method,
            setup.task,
            seed=options.seed,
            compute=options.compute,
            on_row=watch,
            state_file=state_file,
        )
    _stop_sharing(run, start)
    if not with_images:
        run.history = [{**row, "forget": None} for row in run.history]
    return Trained(run, hash_before, count)


def with_anchor(method: Method, erasure: Erasure, split: Split) -> Method:
    """Point concept ablation to the null condition if the anchor has no words and no images."""
    if not isinstance(method, ConceptAblation) or any(erasure.anchors) or method.anchor != 1:
        return method
    return method if (split.retain.labels == 1).any() else replace(method, anchor=-1)


def epochs_for(method: GradientMethod, run: Run, steps: int) -> int:
    """Return the smallest number of epochs with at least `steps` steps."""
    return -(-steps // max(1, replace(method, epochs=1).steps(run)))


def _trainable(original: Prompted, lora: int | None, weights: Weights) -> tuple[Prompted, int]:
    """Return the model to train and its number of trainable parameters.

    With LoRA the model is a copy that shares the frozen parameters of the original.
    """
    if not lora:
        return original, choose_weights(original, weights)
    original.requires_grad_(False)
    start = copy.deepcopy(original)
    return start, add_lora(start, lora, weights)


def hash_trained(model: nn.Module, lora: int | None) -> str:
    """Hash what the output folder holds: the denoiser, or its LoRA adapters."""
    state = model.denoiser.state_dict()  # type: ignore[union-attr, operator]
    return state_hash({k: v for k, v in state.items() if not lora or "lora_" in k})


def round_as_stored(run: Run, setup: Setup) -> dict[str, Any]:
    """Round the trained parameters to the types of the pipeline's files, so that the audit sees the model that is written.

    A run whose changes all vanish by rounding has no result.

    Returns:
        For the record: the types of the files ("stored"), and the number of values that training changed and that rounding
        changed back ("rounded_back"). Empty for LoRA, which is written as it is.
    """
    if setup.options.lora:
        return {}
    index = read_index(setup.loaded.folder)
    types = dtypes(index.files(index.denoiser))
    before = dict(setup.original.denoiser.named_parameters())
    changed = kept = 0
    with torch.no_grad():
        for name, parameter in run.model.denoiser.named_parameters():  # type: ignore[union-attr, operator]
            if not parameter.requires_grad:
                continue
            changed += int((parameter != before[name]).sum())
            parameter.copy_(parameter.to(types[name]))
            kept += int((parameter != before[name]).sum())
    stored = sorted({str(t).removeprefix("torch.") for t in types.values()})
    if changed and not kept and run.has_result:
        run.ended, run.status = (
            "unchanged",
            (
                f"changed nothing: all changes vanish in the type of the files ({', '.join(stored)}). Raise lr or the number of "
                "steps, or erase from a pipeline in float32."
            ),
        )
    return {"stored": stored, "rounded_back": changed - kept}


@contextmanager
def _sharing(model: Prompted) -> Iterator[None]:
    """Let copies of `model` share its frozen parameters inside the block."""
    model.shares = True
    try:
        yield
    finally:
        model.shares = False


def _stop_sharing(run: Run, start: Prompted) -> None:
    """Make later copies complete, because an attack may train every parameter of a copy."""
    for model in (run.model, start, run._original):
        if isinstance(model, Prompted):
            model.shares = False
