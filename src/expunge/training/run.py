"""One unlearning run while it lasts: the changing model, the frozen original, the random streams, the history."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.split import Split
from ..errors import ExpungeError
from ..masks.mask_file import Mask
from ..records.record import Ended
from ..summaries import short, summary
from ..tasks.task import Task
from ..torch_utils.module_state import device_of
from .processes import Team
from .settings import choices

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the arithmetic is done. None of it is part of a method.

    Args:
        amp: Autocast of forward pass and loss: off, bfloat16 or float16. Parameters stay float32.
        channels_last: Store convolution weights channels-last, which is faster on most devices. The returned model is
            contiguous again.
        compile: Run the model's forward pass through torch.compile.
        accumulate: Number of pieces a batch is cut into. Each has its own backward pass, all share one step.
        processes: Divide each batch among the processes of torchrun. Commands do so without being asked.
        eval_batch: Number of samples of a batch in evaluations. On a CPU, 1,024 take almost twice as long per sample as 256.
    """

    amp: Literal["off", "bf16", "fp16"] = "off"
    channels_last: bool = False
    compile: bool = False
    accumulate: int = 1
    processes: bool = False
    eval_batch: int = 256

    def problems(self, device: torch.device | None = None) -> list[str]:
        """Return what is wrong with the settings, and with them on `device`, a sentence each."""
        if problems := choices(self):
            return problems
        problems = [
            f"{name} is {getattr(self, name)}; it must be at least 1."
            for name in ("accumulate", "eval_batch")
            if getattr(self, name) < 1
        ]
        if self.amp == "fp16" and device is not None and device.type != "cuda":
            problems.append(
                f"amp='fp16' is for GPUs of Nvidia or AMD and the model is on {device}; use bf16 or off."
            )
        return problems


@dataclass
class Run:
    """What a method works on while it runs, and how the run went.

    `model` is changed in place. `original` is what it was. Nothing that was passed in is changed.

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
        epoch: Number of finished epochs.
        epochs: Number of epochs of the whole run.
        step: Number of finished steps.
        status: "finished", or in words why the run ended before its last step.
        ended: "finished", "stopped" (by its rule or after sound steps) or "diverged" (no step was sound).
        taken_back: Whether the run was rolled back to an earlier state.
        history: Rows of the curves.
        memo: State of the method itself. It is saved and restored with the run.
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
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    status: str = "finished"
    ended: Ended = "finished"
    taken_back: bool = False
    history: list[Row] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int | None = None
    _started: float | None = None  # clock at the start of the current work
    _original: nn.Module | None = None
    _team: Team | None = None
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

    def descend(self, method: Any) -> None:
        """Run the training loop for a `GradientMethod`. Raises `ExpungeError` outside of `execute`."""
        if self.loop is None:
            raise ExpungeError(
                "this run has no training loop; start it with expunge.execute or expunge.unlearn."
            )
        self.loop(self, method)

    @property
    def device(self) -> torch.device:
        """Where the model is, and so where the work is done."""
        return device_of(self.model)

    @property
    def original(self) -> nn.Module:
        """The model as it was handed in, frozen and in eval mode: the teacher of methods that have one.

        It holds the very weights of that model, which nobody changes while the run lasts: a copy would be of no use.
        """
        if self._original is None:
            model = self.model if self.source is None else self.source
            own = [] if self.source is None else self.source.parameters()
            same: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in own}
            self._original = copy.deepcopy(model, same).eval().requires_grad_(False)
        return self._original

    @property
    def elapsed(self) -> float:
        """Seconds of work so far, those before an interruption among them."""
        return self.seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    @property
    def team(self) -> Team:
        """The processes that share this run. Raises `ExpungeError` where there should be several and is no group."""
        self._team = self._team or Team(self.compute.processes)
        return self._team

    def generator(self, name: str) -> torch.Generator:
        """A random stream of its own (CPU), seeded from the run's seed and `name`: drawing from one never moves another."""
        if name not in self._generators:
            seed = int.from_bytes(hashlib.sha256(f"{self.seed}/{name}".encode()).digest()[:7], "big")
            self._generators[name] = torch.Generator().manual_seed(seed)
        return self._generators[name]

    def own_generator(self, name: str) -> torch.Generator:
        """The same, but another stream in each process that shares the run: for what is drawn for its own pieces."""
        return self.generator(name if not self.team.rank else f"{name}/{self.team.rank}")

    def log(self, row: Row) -> None:
        """Add a row to the history and hand it to whoever watches."""
        self.history.append(row)
        if self.on_row is not None:
            self.on_row(row)

    def random_state(self) -> dict[str, Any]:
        """Every random state that the rest of the run depends on."""
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            **{f"stream/{k}": g.get_state() for k, g in self._generators.items()},
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Put back what `random_state` gave."""
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        for key, value in state.items():
            if key.startswith("stream/"):
                self.generator(key.removeprefix("stream/")).set_state(value)


@contextmanager
def clocked(run: Run) -> Iterator[None]:
    """Count the block's seconds and peak memory into `run`: RTE, and bytes on the GPU or of the process (Linux)."""
    cuda = run.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(run.device)
    else:
        _reset_peak()
    run._started = time.perf_counter()
    try:
        yield
    finally:
        if cuda:
            torch.cuda.synchronize(run.device)
        run.seconds, run._started = run.elapsed, None
        now = peak_memory(run.device)
        run.peak_memory = now if run.peak_memory is None or now is None else max(now, run.peak_memory)


def _reset_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: restarts the high-water mark of this process


def peak_memory(device: torch.device) -> int | None:
    """The most bytes since the clock started: allocated on a GPU, else of this process (Linux; None elsewhere)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def finite(model: nn.Module) -> bool:
    """Whether all floating-point weights and buffers are finite, -inf in buffers aside; one transfer from the device."""
    sound = [p.detach().isfinite().all() for p in model.parameters() if p.is_floating_point()]
    # masks of attention hold -inf, what training gathers does not
    sound += [(b.isfinite() | (b == -math.inf)).all() for b in model.buffers() if b.is_floating_point()]
    return not sound or bool(torch.stack(sound).all())


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def autocast(run: Run) -> AbstractContextManager[Any]:
    """Mixed precision as the run's `Compute` says."""
    return precision(run.compute, run.device)


def precision(compute: Compute, device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision of what is computed on `device` inside the block."""
    if compute.amp == "off":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if compute.amp == "bf16" else torch.float16)
