"""Keep the state of a run that may be interrupted, and resume it by the same call."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExpungeError, WriteError
from ..masks.mask_file import Mask
from ..own_code import code_identity
from ..records.hashing import mask_hash, state_hash
from ..records.record import settings_of
from ..records.torch_files import load_state, save_state
from ..torch_utils.peak_memory import peak_memory
from .run import Run

SMALL_BYTES = 1 << 26  # a state of at most 64 MiB is written after every epoch
# Wait at least 10 times the duration of the last write before writing a larger state again.
REST = 10

# fields of a run that its state restores as they are
_FIELDS = ("memo", "epoch", "step", "status", "ended", "taken_back", "history")


class ResumableState:
    """What the rest of a run depends on, kept in its `state_file`. Does nothing where there is none.

    Args:
        run: The run.
        method: Its method.
        parts: Optimizer, scheduler, scaler, by name: whatever has `state_dict` and `load_state_dict`.
        guard: The run's guard, whose state stands among the run's own.
    """

    def __init__(self, run: Run, method: Any, parts: dict[str, Any], guard: Any):
        self.run, self.parts, self.guard = run, parts, guard
        self.identity = _identity(run, method) if run.state_file is not None else ""
        # taken before a mask freezes whole parameters
        self.trainable = [n for n, p in run.model.named_parameters() if p.requires_grad]
        self.rests_until = 0.0
        self.disk_full = False

    def keep(self) -> None:
        """Write the state after an epoch. A large state with short epochs is written now and then, and at the end."""
        run = self.run
        if run.state_file is None or self.disk_full:
            return
        state = self._state()
        large = sum(t.nbytes for t in _tensors(state)) > SMALL_BYTES
        start = time.perf_counter()
        if large and run.epoch < run.epochs and start < self.rests_until:
            return
        try:
            save_state(run.state_file, state)
        except WriteError as error:
            self.disk_full = True
            warnings.warn(
                f"the state of the run could not be written to {run.state_file} ({error}); the run goes on without, and an "
                "interruption would lose what is done since. Make room, or give another place.",
                RuntimeWarning,
                stacklevel=2,
            )
        now = time.perf_counter()
        self.rests_until = now + REST * (now - start)

    def _state(self) -> dict[str, Any]:
        run = self.run
        shared = _shared(run)
        return {
            "identity": self.identity,
            "model": {k: t for k, t in run.model.state_dict().items() if k not in shared},
            **{name: part.state_dict() for name, part in self.parts.items()},
            "random": run.random_state(),
            "mask": dict(run.mask or {}),
            "mask_about": {} if run.mask is None else dict(run.mask.metadata),
            "trainable": self.trainable,
            "memo_on_device": [k for k, v in run.memo.items() if any(t.is_cuda for t in _tensors(v))],
            **{name: getattr(run, name) for name in _FIELDS},
            "seconds": run.elapsed,
            "peak_memory": peak_memory(run.device) or 0,
            **self.guard.state_dict(),
        }

    def resume(self) -> bool:
        """Restore the run from its state file.

        Returns:
            Whether there was a state file.

        Raises:
            ExpungeError: The file holds the state of another run, or of one that trained other parameters.
        """
        run = self.run
        if run.state_file is None or not run.state_file.exists():
            return False
        state = load_state(run.state_file)
        self._check(state)
        run.model.load_state_dict({**_shared(run), **state["model"]})
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        run.set_random_state(state["random"])
        run.mask = Mask(state["mask"], state.get("mask_about", {})) if state["mask"] else None
        for name in _FIELDS:
            setattr(run, name, state[name])
        run.seconds, run.peak_memory = state["seconds"], state["peak_memory"] or None
        # states are read to the CPU, where a method may not look for its own tensors
        for key in state["memo_on_device"]:
            run.memo[key] = _on(run.memo[key], run.device)
        self.guard.load_state_dict(state)
        return True

    def _check(self, state: dict[str, Any]) -> None:
        """Raise `ExpungeError` for the state of another run."""
        if state["identity"] != self.identity:
            raise ExpungeError(
                f"{self.run.state_file} is the state of another run (model, method or its code, settings, split, seed or mask differ); "
                "remove it to start anew, or repeat the settings it was made with."
            )
        if state.get("trainable", self.trainable) != self.trainable:
            raise ExpungeError(
                f"{self.run.state_file} is the state of a run that trained other weights than now require a gradient; remove it to "
                "start anew, or free the weights it was made with."
            )


def _shared(run: Run) -> dict[str, Tensor]:
    """Tensors that the run shares with the model it started from. They are frozen, so the state need not hold them."""
    at = {} if run.source is None else {k: t.data_ptr() for k, t in run.source.state_dict().items()}
    return {k: t for k, t in run.model.state_dict().items() if t.data_ptr() and at.get(k) == t.data_ptr()}


def _identity(run: Run, method: Any) -> str:
    """Everything that the result of a run depends on, as text."""
    given = None if run.mask is None else mask_hash(run.mask)
    # the parameters that the run started from
    origin = None if run.source is None else state_hash(run.source.state_dict())
    task = (code_identity(type(run.task)), run.task.num_classes, _settings_of(run.task))
    settings = settings_of(method)
    return repr(
        (
            code_identity(type(method)),
            settings,
            run.split.hash,
            run.split.preparation,
            run.seed,
            asdict(run.compute),
            given,
            origin,
            task,
        )
    )


def _settings_of(task: Any) -> dict[str, str]:
    """The fields of a task as text; a network by the hash of its parameters."""
    named = {f.name: getattr(task, f.name) for f in fields(task)} if is_dataclass(task) else {}
    return {k: state_hash(v.state_dict()) if isinstance(v, nn.Module) else repr(v) for k, v in named.items()}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (t for v in value.values() for t in _tensors(v))


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {k: _on(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
