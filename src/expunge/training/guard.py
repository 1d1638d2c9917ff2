"""Evaluate a run as it goes: curves, stop rules, and the guard against NaN and collapse."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data.samples import Samples
from ..torch_utils.module_state import evaluating, is_finite
from ..torch_utils.precision import autocast
from .broken_samples import RecentSamples
from .chance import at_chance
from .run import Row, Run
from .schedule import Pair

MOST_SAMPLES = 2048  # of each set in one evaluation
# An evaluation of both sets takes 1/16 of the samples trained on since the last one, which costs about 4 % of the training.
SHARE = 16
BY_RETAIN = "max_drop was measured on retained training samples, because the split has no validation samples."
# Steps between checks of the loss for NaN. Each check waits for the device.
NAN_EVERY = 25
# A task without accuracies is evaluated at least 20 times a run, or once in 100 steps.
LEAST_EVALUATIONS, STEPS_APART = 20, 100


class Guarded(Protocol):
    """What a guard needs of a method. Every `GradientMethod` has it."""

    @property
    def epochs(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_drop(self) -> float: ...
    @property
    def probe_every(self) -> int: ...
    @property
    def data(self) -> tuple[str, ...]: ...
    def plan(self) -> str: ...
    def steps(self, run: Run) -> int: ...
    def stop(self, run: Run, row: Row) -> str | None: ...
    def guards_by_retain(self) -> bool: ...
    def as_result(self, run: Run) -> AbstractContextManager[Any]: ...


class Guard:
    """Evaluates a run, applies the method's stop rule, and rolls back to the last good state after NaN or collapse.

    Args:
        run: The run to guard.
        method: Its method.
    """

    def __init__(self, run: Run, method: Guarded):
        self.run, self.method = run, method
        self.has_scores = "scores" in run.task.offers
        self.sets = self._sets()
        self.apart = min(STEPS_APART, method.steps(run) / LEAST_EVALUATIONS)
        # What trains on retained samples may fall on its way and recover, so it is checked at its end.
        self.repairs = "retain" in method.data and method.plan() != "forget"
        self.total = torch.zeros((), device=run.device)
        self.count = 0
        self.good: dict[str, Tensor] | None = None
        self.good_step = 0
        self.first: Row = {}
        self.recent = RecentSamples(NAN_EVERY)

    def _sets(self) -> dict[str, Samples]:
        """The samples that every evaluation uses: some of the forget set, and some of the retained ones."""
        split, method = self.run.split, self.method
        by_retain = method.guards_by_retain()
        retained = split.retain if by_retain else split.validation
        if retained is split.validation and split.forget_classes and len(retained):
            retained = retained.take(~torch.isin(retained.labels, torch.tensor(split.forget_classes)))
        if not len(retained):
            retained = split.retain
            if self.has_scores and method.max_drop < 100:
                self.run.note(BY_RETAIN, warn=False)
        generator, most = self.run.generator("probe"), self._count()
        few = lambda s: s.take(torch.randperm(len(s), generator=generator)[:most].sort().values)  # noqa: E731
        return {"forget": few(split.forget), "retain": few(retained)}

    def _count(self) -> int:
        """How many samples of a set an evaluation takes."""
        steps_between = self.method.probe_every or self.method.steps(self.run) / self.method.epochs
        # a method that asks for its own evaluations decides by them
        least = 512 if self.method.probe_every else 128
        return min(MOST_SAMPLES, max(least, round(steps_between * self.method.batch_size) // SHARE))

    def start(self) -> None:
        """Log the first row: the model before any step."""
        self.first = self._row(None)
        self.run.log(self.first)
        self.good = self._trainable_state()

    def stops(self, loss: Tensor, pair: Pair) -> bool:
        """Take the loss of a step (this process's part of it) and its batches. Return whether the run must end inside the epoch."""
        self.recent.add(pair)
        self.total += loss
        self.count += 1
        every = self.method.probe_every
        if every and self.run.step % every == 0:
            self.evaluate()
        elif self.run.step % NAN_EVERY == 0 and not bool(self._summed_loss().isfinite()):
            self._roll_back("the loss became NaN or infinite")
        return self.run.ended != "finished"

    def epoch(self) -> None:
        """Evaluate at the end of an epoch, if its steps did not.

        Short epochs of a task without accuracies share an evaluation, which costs as much as several steps.
        """
        every, step, last = self.method.probe_every, self.run.step, self.run.epoch == self.run.epochs
        if every and step % every == 0:
            return
        if self.has_scores or every or last or step - self.run.history[-1]["step"] >= self.apart:
            self.evaluate()

    def gather(self) -> None:
        """Bring the losses and buffers of all processes to the first one, whose state is kept."""
        self.run.process_group.average_buffers(self.run.model)
        total = self._summed_loss()
        self.total = total if self.run.process_group.rank == 0 else torch.zeros_like(total)

    def _summed_loss(self) -> Tensor:
        """The losses since the last evaluation, of all processes."""
        return self.run.process_group.sum(self.total.clone())

    def evaluate(self) -> None:
        """Log a row of the curves, and stop or roll back where the row asks for it."""
        self.run.process_group.average_buffers(self.run.model)
        total = self._summed_loss()
        loss_is_finite = not self.count or bool(total.isfinite())
        if not loss_is_finite or not is_finite(self.run.model):
            return self._roll_back("the loss or a weight became NaN or infinite")
        row = self._row(float(total) / max(1, self.count))
        if any(isinstance(v, float) and math.isnan(v) for v in row.values()):
            return self._roll_back("the model's outputs became NaN")
        self.total.zero_()
        self.count = 0
        self.run.log(row)
        if self.run.trial and (
            chance := at_chance(self.run.epoch, self.method, self.sets["retain"].labels, self.first, row)
        ):
            return self._roll_back(chance)
        if collapse := self._collapse(row):
            return None if self.repairs else self._roll_back(collapse)
        self.good, self.good_step = self._trainable_state(), self.run.step
        if reason := self.method.stop(self.run, row):
            self.run.ended, self.run.status = "stopped", f"stopped: {reason}"

    def _collapse(self, row: Row) -> str:
        """The sentence on a retain accuracy that fell by more than `max_drop`; empty where it did not."""
        drop = (self.first.get("retain") or 0.0) - (row.get("retain") or 0.0)
        if not self.has_scores or drop <= self.method.max_drop:
            return ""
        return f"accuracy on retained samples fell by {drop:.1f} points, more than max_drop = {self.method.max_drop:g}"

    def _trainable_state(self) -> dict[str, Tensor]:
        """A copy of what a step can change: of a frozen network with small adapters, only the adapters."""
        frozen = {n for n, p in self.run.model.named_parameters() if not p.requires_grad}
        return {k: v.detach().clone() for k, v in self.run.model.state_dict().items() if k not in frozen}

    def finish(self) -> None:
        """Roll back a finished run that ended with NaN or a collapse."""
        if self.run.ended != "finished":
            return
        if not is_finite(self.run.model):
            self._roll_back("a weight became NaN or infinite")
        elif self.run.history and (collapse := self._collapse(self.run.history[-1])):
            self._roll_back(collapse)

    def _roll_back(self, reason: str) -> None:
        """End the run at the last good state: "diverged" if that is where it started, else "stopped"."""
        if self.good is not None:
            self.run.model.load_state_dict(self.good, strict=False)
        self.run.ended, self.run.taken_back = "stopped" if self.good_step else "diverged", True
        broken = self.recent.broken(self.run, list(self.sets.values())) if "NaN" in reason else ""
        advice = broken or f"Lower lr (now {self.method.lr:g}), run fewer epochs, or set clip."
        self.run.status = (
            f"{self.run.ended} at step {self.run.step}: {reason}; the last good state (step {self.good_step}) was kept. "
            f"{advice}"
        )

    def _row(self, loss: float | None) -> Row:
        run = self.run
        row: Row = {"step": run.step, "epoch": run.epoch, "loss": loss}
        scale = 100.0 if self.has_scores else 1.0
        devices = [run.device] if run.device.type == "cuda" else []
        # a user's transforms that run without workers must not draw from the random state of the steps
        with (
            torch.random.fork_rng(devices=devices),
            evaluating(run.model),
            torch.inference_mode(),
            autocast(run.compute.amp, run.device),
        ):
            for name, samples in self.sets.items():
                batches = run.process_group.share(samples).batches(run.compute.eval_batch, device=run.device)
                with self.method.as_result(run) if name == "retain" else nullcontext():
                    scores = [run.task.sample_scores(run.model, batch) for batch in batches]
                # one number for all processes: each waits for the others once
                mean = run.process_group.mean(scores, run.device)
                row[name] = None if mean is None else scale * mean
        return row

    # ---- for the resumable state of the run

    def state_dict(self) -> dict[str, Any]:
        """Return what the rest of the run depends on."""
        return {name: getattr(self, name) for name in ("first", "good", "good_step", "total", "count")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.first, self.good, self.good_step = state["first"], state["good"], state["good_step"]
        self.total, self.count = state["total"].to(self.run.device), state["count"]
        if self.run.process_group.rank:
            self.total.zero_()  # the state is the first process's, which has the sum of all
