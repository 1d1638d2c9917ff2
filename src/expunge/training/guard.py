"""What looks at a run as it goes: the curves, the stop rules, the guard against NaN and collapse."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..torch_utils.module_state import evaluating
from .run import Row, Run, autocast, finite

if TYPE_CHECKING:
    from .method import GradientMethod

PROBE = 2048  # samples of each set that the curves and the guard look at, at most
SHARE = 16  # one in so many of those trained on between two looks: a look at both sets then costs 4 % of them
NAN_EVERY = 25  # steps between looks at the loss, each of which waits for the device
LOOKS, APART = (
    20,
    100,
)  # where only curves come of them: at least so many looks a run, or one in so many steps


class Watch:
    """Looks at a run as it goes: curves, the method's stop rule, NaN and collapse; keeps the last good state."""

    def __init__(self, run: Run, method: GradientMethod):
        self.run, self.method = run, method
        draw = run.generator("probe")
        most = self._samples()
        few = lambda s: s.take(torch.randperm(len(s), generator=draw)[:most].sort().values)  # noqa: E731
        guard = run.split.retain if "retain" in method.data else run.split.validation
        if guard is run.split.validation and run.split.forget_classes and len(guard):
            guard = guard.take(~torch.isin(guard.labels, torch.tensor(run.split.forget_classes)))
        self.sets = {"forget": few(run.split.forget), "retain": few(guard)}
        self.percent = bool(
            getattr(run.task, "percent", False)
        )  # where probes are accuracies, falls are judged
        if self.percent and not len(guard) and method.max_drop < 100 and "retain" not in method.data:
            warnings.warn(
                f"the split has no validation samples, so nothing ends the run where retained accuracy falls by max_drop = "
                f"{method.max_drop:g} points; draw it with a validation share.",
                RuntimeWarning,
                stacklevel=2,
            )
        self.apart = min(APART, method.steps(run) / LOOKS)
        self.repairs = "retain" in method.data and method.plan() != "forget"
        self.total = torch.zeros((), device=run.device)
        self.count = 0
        self.good: dict[str, Tensor] | None = None
        self.good_step = 0
        self.first: Row = {}

    def _samples(self) -> int:
        """How many samples of a set a look takes: few enough that looks cost little beside the training."""
        between = self.method.probe_every or self.method.steps(self.run) / self.method.epochs
        least = (
            512 if self.method.probe_every else 128
        )  # a method that asks for its own looks decides by them
        return min(PROBE, max(least, round(between * self.method.batch_size) // SHARE))

    def start(self) -> None:
        """The first row: the model before any step."""
        self.first = self._row(None)
        self.run.log(self.first)
        self.good = self._moving()

    def stops(self, loss: Tensor) -> bool:
        """Take the loss of a step (this process's part of it); True once the run must end inside an epoch."""
        self.total += loss
        self.count += 1
        every = self.method.probe_every
        if every and self.run.step % every == 0:
            self.probe()
        elif self.run.step % NAN_EVERY == 0 and not bool(self._total().isfinite()):
            self._back("the loss became NaN or infinite")
        return self.run.ended != "finished"

    def epoch(self) -> None:
        """The look at the end of an epoch, if the steps did not bring one.

        Where nothing but curves comes of it, many epochs of a few steps share one: a look costs as much as several steps.
        """
        every, step, last = self.method.probe_every, self.run.step, self.run.epoch == self.run.epochs
        if every and step % every == 0:
            return
        if self.percent or every or last or step - self.run.history[-1]["step"] >= self.apart:
            self.probe()

    def gather(self) -> None:
        """What all processes have gathered, brought to the first, whose state is kept."""
        self.run.team.average_buffers(self.run.model)
        total = self._total()
        self.total = total if self.run.team.rank == 0 else torch.zeros_like(total)

    def _total(self) -> Tensor:
        """The losses since the last look, of all processes."""
        return self.run.team.sum(self.total.clone())

    def probe(self) -> None:
        """A row of the curves, and what follows from it."""
        self.run.team.average_buffers(self.run.model)
        total = self._total()
        sound = not self.count or bool(total.isfinite())
        if not sound or not finite(self.run.model):
            return self._back("the loss or a weight became NaN or infinite")
        row = self._row(float(total) / max(1, self.count))
        if any(isinstance(v, float) and math.isnan(v) for v in row.values()):
            return self._back("the model's outputs became NaN")
        self.total.zero_()
        self.count = 0
        self.run.log(row)
        if fallen := self._fallen(row):
            # what trains on retained samples may fall on its way and repair itself: it is judged at its end
            return None if self.repairs else self._back(fallen)
        self.good, self.good_step = self._moving(), self.run.step
        if reason := self.method.stop(self.run, row):
            self.run.ended, self.run.status = "stopped", f"stopped: {reason}"

    def _fallen(self, row: Row) -> str:
        """What to say of retained accuracy that fell by more than `max_drop`; nothing where it did not."""
        drop = (self.first.get("retain") or 0.0) - (row.get("retain") or 0.0)
        if not self.percent or drop <= self.method.max_drop:
            return ""
        return f"accuracy on retained samples fell by {drop:.1f} points, more than max_drop = {self.method.max_drop:g}"

    def _moving(self) -> dict[str, Tensor]:
        """A copy of what a step can change: of a frozen network with small adapters, the adapters alone."""
        still = {n for n, p in self.run.model.named_parameters() if not p.requires_grad}
        return {k: v.detach().clone() for k, v in self.run.model.state_dict().items() if k not in still}

    def finish(self) -> None:
        """What a finished run must not end with."""
        if self.run.ended != "finished":
            return
        if not finite(self.run.model):
            self._back("a weight became NaN or infinite")
        elif self.run.history and (fallen := self._fallen(self.run.history[-1])):
            self._back(fallen)

    def _back(self, what: str) -> None:
        """End the run at the last good state: a divergence if that is where it started, else a stop."""
        if self.good is not None:
            self.run.model.load_state_dict(self.good, strict=False)
        self.run.ended, self.run.taken_back = "stopped" if self.good_step else "diverged", True
        self.run.status = (
            f"{self.run.ended} at step {self.run.step}: {what}; the last good state "
            f"(step {self.good_step}) was kept. Lower lr (now {self.method.lr:g}), run fewer epochs, or set clip."
        )

    def _row(self, loss: float | None) -> Row:
        row: Row = {"step": self.run.step, "epoch": self.run.epoch, "loss": loss}
        scale = 100.0 if self.percent else 1.0
        own = [self.run.device] if self.run.device.type == "cuda" else []
        # data that draws as it is read (a user's transforms, without workers) must not draw from what the steps get
        with (
            torch.random.fork_rng(devices=own),
            evaluating(self.run.model),
            torch.inference_mode(),
            autocast(self.run),
        ):
            for name, samples in self.sets.items():
                mine = self.run.team.share(samples)
                seen = [
                    self.run.task.probe(self.run.model, b)
                    for b in mine.batches(self.run.compute.eval_batch, device=self.run.device)
                ]
                mean = self.run.team.mean(seen, self.run.device)  # one number for all, or one would wait
                row[name] = None if mean is None else scale * mean
        return row
