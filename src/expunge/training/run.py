"""The state of one unlearning run: the changing model, the frozen original, the random streams and the history."""

from __future__ import annotations

import copy
import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..data.split import Split
from ..errors import ExpungeError
from ..masks.mask_file import Mask
from ..records.record import Ended
from ..summaries import short, summary
from ..tasks.task import Task
from ..torch_utils.module_state import device_of
from .processes import ProcessGroup
from .settings import type_problems

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the arithmetic is done. None of it is part of a method.

    Args:
        amp: Autocast of forward pass and loss: off, bfloat16, float16, or auto: bfloat16 where the device has instructions
            for it. Parameters stay float32.
        channels_last: Store convolution weights channels-last, which is faster on most devices. The returned model is
            contiguous again.
        compile: Run the model's forward pass through torch.compile.
        accumulate: Number of pieces a batch is cut into. Each has its own backward pass, all share one step.
        processes: Divide each batch among the processes of torchrun. Commands do so without being asked.
        eval_batch: Number of samples of a batch in evaluations. On a CPU, 1,024 take almost twice as long per sample as 256.
    """

    amp: Literal["off", "auto", "bf16", "fp16"] = "off"
    channels_last: bool = False
    compile: bool = False
    accumulate: int = 1
    processes: bool = False
    eval_batch: int = 256

    def problems(self, device: torch.device | None = None) -> list[str]:
        """Return the problems of the settings, on their own and with a model on `device`, one sentence each."""
        if problems := type_problems(self):
            return problems
        problems = [
            f"{name} is {getattr(self, name)}; it must be at least 1."
            for name in ("accumulate", "eval_batch")
            if getattr(self, name) < 1
        ]
        if self.amp == "fp16" and device is not None and device.type != "cuda":
            problems.append(
                f"amp is 'fp16' and the model is on {device}; fp16 needs a GPU of Nvidia or AMD, so use bf16 or off."
            )
        return problems


@dataclass
class Run:
    """The state that a method works on, and how the run went.

    A method changes `model` in place; `original` stays the model before the run. Nothing that was passed in changes.

    Args:
        model: The model that changes.
        split: Forget, retain, validation and test set.
        task: The task of the model.
        seed: Seed of all random streams of the run.
        compute: How the arithmetic is done.
        mask: The parameters that may move; None for all.
        factory: Makes a model with fresh parameters, for Retrain.
        source: The model that was passed in. It is only read.
        state_file: File that keeps a resumable state; None for none.
        on_row: Called with each row of the curves.
        loop: The training loop, called with the run and its method. `execute` sets it.
        trial: Whether other settings are tried too, so that a collapsed run ends early.
        epoch: Number of finished epochs.
        epochs: Number of epochs of the whole run.
        step: Number of finished steps.
        status: "finished", or in words why the run ended before its last step.
        ended: "finished", "stopped" (by its rule or after sound steps), "diverged" (no step was sound) or "unchanged" (no
            parameter changed). Scoring may add "worse" (further from the target than the original).
        taken_back: Whether the run was rolled back to an earlier state.
        kept_original: Whether `trials="auto"` kept the original, so that the method did not run.
        history: Rows of the curves.
        memo: State of the method itself. It is saved and restored with the run.
        notes: Sentences for the record: which rules were off, and which samples stood for missing ones.
        seconds: Seconds of work.
        peak_memory: Peak memory in bytes, None where it is unknown.
    """

    model: nn.Module
    split: Split
    task: Task
    seed: int = 0
    compute: Compute = field(default_factory=Compute)
    mask: Mask | None = None
    factory: Callable[[], nn.Module] | None = None
    source: nn.Module | None = None
    state_file: Path | None = None
    on_row: Callable[[Row], None] | None = None
    loop: Callable[[Run, Any], None] | None = None
    trial: bool = False
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    status: str = "finished"
    ended: Ended = "finished"
    taken_back: bool = False
    kept_original: bool = False
    history: list[Row] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory: int | None = None
    _started: float | None = None  # clock at the start of the current work
    _original: nn.Module | None = None
    _process_group: ProcessGroup | None = None
    _generators: dict[str, torch.Generator] = field(default_factory=dict)

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        row = (
            ", ".join(f"{k} {v:.4g}" for k, v in self.history[-1].items() if isinstance(v, int | float))
            if self.history
            else ""
        )
        return summary(
            f"Run({short(self.status, 80)})",
            f"model {type(self.model).__name__}, {parameters:,} parameters, on {self.device}",
            f"task {short(self.task.name)}, seed {self.seed}, epoch {self.epoch} of {self.epochs}, step {self.step}",
            "" if self.mask is None else f"mask: {100 * self.mask.density:.2f} % of the parameters may move",
            f"{self.seconds:.2f} s",
            f"last row of the history: {row}" if row else "",
            *repr(self.split).splitlines(),
        )

    def note(self, text: str, *, warn: bool = True) -> None:
        """Keep a sentence for the record, and warn the user with it."""
        if warn:
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        if text not in self.notes:
            self.notes.append(text)

    def descend(self, method: Any) -> None:
        """Run the training loop for a `GradientMethod`. Raises `ExpungeError` outside of `execute`."""
        if self.loop is None:
            raise ExpungeError(
                "this run has no training loop; start it with expunge.execute or expunge.unlearn."
            )
        self.loop(self, method)

    @property
    def has_result(self) -> bool:
        """Whether the run ended with a model that it changed. Only such a run answers its request."""
        return self.ended not in ("diverged", "unchanged")

    @property
    def device(self) -> torch.device:
        """The device of the model, where all work is done."""
        return device_of(self.model)

    @property
    def original(self) -> nn.Module:
        """The model that was passed in, frozen and in eval mode: the teacher of methods that have one.

        It shares the parameters of that model instead of copying them, because nothing changes them during the run.
        """
        if self._original is None:
            model = self.model if self.source is None else self.source
            parameters = [] if self.source is None else self.source.parameters()
            shared: dict[int, Any] = {
                id(p): nn.Parameter(p.detach(), requires_grad=False) for p in parameters
            }
            self._original = copy.deepcopy(model, shared).eval().requires_grad_(False)
        return self._original

    @property
    def elapsed(self) -> float:
        """Seconds of work so far, including those before an interruption."""
        return self.seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    @property
    def process_group(self) -> ProcessGroup:
        """The processes that share this run. Raises `ExpungeError` if `compute.processes` is set without a process group."""
        self._process_group = self._process_group or ProcessGroup(self.compute.processes)
        return self._process_group

    def generator(self, name: str) -> torch.Generator:
        """Return the random stream (CPU) of a name, seeded from the run's seed and the name.

        Drawing from one stream never changes another. All processes of a run have the same streams.

        Example:
            >>> order = torch.randperm(100, generator=run.generator("order"))  # doctest: +SKIP
        """
        if name not in self._generators:
            seed = int.from_bytes(hashlib.sha256(f"{self.seed}/{name}".encode()).digest()[:7], "big")
            self._generators[name] = torch.Generator().manual_seed(seed)
        return self._generators[name]

    def process_generator(self, name: str) -> torch.Generator:
        """Return a random stream that differs between the processes of a run: for draws for a process's own pieces."""
        rank = self.process_group.rank
        return self.generator(name if not rank else f"{name}/{rank}")

    def log(self, row: Row) -> None:
        """Add a row to the history and pass it to `on_row`."""
        self.history.append(row)
        if self.on_row is not None:
            self.on_row(row)

    def random_state(self) -> dict[str, Any]:
        """Return all random states that the rest of the run depends on."""
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            **{f"stream/{k}": g.get_state() for k, g in self._generators.items()},
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Restore the states that `random_state` returned."""
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        for key, value in state.items():
            if key.startswith("stream/"):
                self.generator(key.removeprefix("stream/")).set_state(value)
