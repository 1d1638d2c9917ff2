"""How hard a request is: how much of it the model memorised, and how entangled it is with the retain set."""

from __future__ import annotations

import copy
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..data.past_requests import remember_requests
from ..data.samples import Samples
from ..data.validation_source import NO_UNSEEN, REMEDY
from ..errors import ModelError
from ..masks.per_sample_gradients import random_samples
from ..training.execute import execute
from ..training.run import Row, Run
from .finetune import FineTune

# number of samples of each set for the entanglement, and the least probability in a divergence
MOST_SAMPLES, TINY = 2000, 1e-10
# an epoch counts as no progress if the loss is not below the lowest one so far
PATIENCE = 4

Score = Literal["held_out", "confidence"]


@dataclass(frozen=True, kw_only=True)
class _HeldOut(FineTune):
    """Fine-tune on unseen samples until the loss stops falling."""

    epochs: int = 30
    lr: float = 0.1
    max_drop: float = 100.0

    search: ClassVar = {}

    def stop(self, run: Run, row: Row) -> str | None:
        losses = [r["loss"] for r in run.history if r["loss"] is not None]
        lowest = losses.index(min(losses)) if losses else 0
        return f"the loss did not fall in {PATIENCE} epochs" if len(losses) - 1 - lowest >= PATIENCE else None


def symmetric_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return (KL(p || q) + KL(q || p)) / 2 (B,) of two rows of distributions (B, K)."""
    p, q = p.clamp_min(TINY), q.clamp_min(TINY)
    return ((p - q) * (p.log() - q.log())).sum(1) / 2


def memorisation(run: Run, samples: Samples, score: Score) -> Tensor:
    """Return a proxy (N,) of how much the original memorised each sample. Higher is more.

    "held_out": a copy of the original is fine-tuned on the validation set; the score is the divergence of its output from
    the original's. "confidence": 1 minus the original's probability of the true label.
    """
    task: Any = run.task
    before = task.predict(run.original, samples, batch_size=run.compute.eval_batch)
    unseen = run.split.validation
    if run.split.forget_classes:
        unseen = unseen.take(~torch.isin(unseen.labels, torch.tensor(run.split.forget_classes)))
    if score == "confidence" or not len(unseen):
        if score != "confidence":
            run.note(f"{NO_UNSEEN}, so the samples are ranked by confidence instead; {REMEDY}.")
        return 1 - before.logits.softmax(1).gather(1, before.labels[:, None])[:, 0]
    other = copy.deepcopy(run.model)
    other.load_state_dict(run.original.state_dict())
    with warnings.catch_warnings():
        # a model that does not change has a score of 0 everywhere
        warnings.simplefilter("ignore", RuntimeWarning)
        part = replace(run.split, retain=unseen)
        tuned = execute(
            remember_requests(other, ()), part, _HeldOut(), task, seed=run.seed, compute=run.compute
        ).model
    after = task.predict(tuned, samples, batch_size=run.compute.eval_batch)
    return symmetric_divergence(before.logits.softmax(1), after.logits.softmax(1))


def entanglement(retain: Tensor, forget: Tensor) -> float:
    """Return the spread within two sets of features (N, D) divided by the distance between them. Higher is harder.

    (mean |r - m_r|^2 + mean |f - m_f|^2) / ((|m_r - m|^2 + |m_f - m|^2) / 2),    m = (m_r + m_f) / 2
    """
    m_r, m_f = retain.double().mean(0), forget.double().mean(0)
    within = (retain - m_r).square().sum(1).mean() + (forget - m_f).square().sum(1).mean()
    between = ((m_r - m_f) / 2).square().sum()
    return float(within / between) if between > 0 else float("inf")


def request_entanglement(run: Run) -> tuple[float, float] | None:
    """Return the entanglement of the request, and that of a random part of the retain set of the same size.

    None if the model has no features.
    """
    task: Any = run.task
    if "features" not in task.offers:
        return None
    with suppress(ModelError, IndexError):
        draw = run.generator("entanglement")
        few = [random_samples(s, MOST_SAMPLES, draw) for s in (run.split.retain, run.split.forget)]
        retain, forget = (task.predict(run.original, s, features=True).features for s in few)
        order = torch.randperm(len(retain), generator=draw)
        # both parts of the retain set need a sample
        size = max(1, min(len(forget), len(retain) // 2))
        return entanglement(retain, forget), entanglement(retain[order[size:]], retain[order[:size]])
    return None
