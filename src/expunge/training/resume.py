"""The state of a run that may be interrupted: kept after an epoch, and gone on from by the same call."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ExpungeError
from ..masks.mask_file import Mask
from ..records.hashing import mask_hash, state_hash
from ..records.record import plain
from ..records.torch_files import load_state, save_state
from .guard import Watch
from .run import Run, peak_memory

if TYPE_CHECKING:
    from .method import GradientMethod

SMALL = 1 << 26  # bytes of a state that is written after every epoch
REST = 10  # a larger one is not written again before so many times the seconds that the last writing took


class State:
    """What the rest of `run` depends on, in its `state_file`; does nothing where there is none.

    `parts` are the optimizer and whatever else has a `state_dict`.
    """

    def __init__(self, run: Run, method: GradientMethod, parts: dict[str, Any], watch: Watch):
        self.run, self.parts, self.watch = run, parts, watch
        self.identity = _identity(run, method) if run.state_file is not None else ""
        # before a mask holds whole parameters still
        self.trainable = [n for n, p in run.model.named_parameters() if p.requires_grad]
        self.rests_until = 0.0
        self.full = False  # no room for a state

    def keep(self) -> None:
        """Write the state after an epoch; of a large network with short epochs only now and then, and at the end."""
        run = self.run
        if run.state_file is None or self.full:
            return
        state = self._state()
        large = sum(t.nbytes for t in _tensors(state)) > SMALL
        start = time.perf_counter()
        if large and run.epoch < run.epochs and start < self.rests_until:
            return
        try:
            save_state(run.state_file, state)
        except (OSError, RuntimeError) as error:  # the latter from torch
            self.full = True
            warnings.warn(
                f"the state of the run could not be written to {run.state_file} ({error}); the run goes on without, and an "
                "interruption would lose what is done since. Make room, or give another place.",
                RuntimeWarning,
                stacklevel=2,
            )
        now = time.perf_counter()
        self.rests_until = now + REST * (now - start)

    def _state(self) -> dict[str, Any]:
        run, watch = self.run, self.watch
        shared = _shared(run)
        return {
            "identity": self.identity,
            "model": {k: t for k, t in run.model.state_dict().items() if k not in shared},
            **{name: part.state_dict() for name, part in self.parts.items()},
            "random": run.random_state(),
            "mask": dict(run.mask or {}),
            "mask_about": {} if run.mask is None else dict(run.mask.about),
            "trainable": self.trainable,
            "memo": run.memo,
            "memo_on_device": [k for k, v in run.memo.items() if any(t.is_cuda for t in _tensors(v))],
            "epoch": run.epoch,
            "step": run.step,
            "status": run.status,
            "ended": run.ended,
            "taken_back": run.taken_back,
            "history": run.history,
            "seconds": run.elapsed,
            "peak_memory": peak_memory(run.device) or 0,
            "first": watch.first,
            "good": watch.good,
            "good_step": watch.good_step,
            "total": watch.total,
            "count": watch.count,
        }

    def resume(self) -> bool:
        """Put the run where its state file says it was; False without one. Raises `ExpungeError` for another run's state."""
        run, watch = self.run, self.watch
        if run.state_file is None or not run.state_file.exists():
            return False
        state = load_state(run.state_file)
        if state["identity"] != self.identity:
            raise ExpungeError(
                f"{run.state_file} is the state of another run (model, method, settings, split, seed or mask differ); "
                "remove it to start anew, or repeat the settings it was made with."
            )
        if state.get("trainable", self.trainable) != self.trainable:
            raise ExpungeError(
                f"{run.state_file} is the state of a run that trained other weights than now require a gradient; remove it to "
                "start anew, or free the weights it was made with."
            )
        run.model.load_state_dict({**_shared(run), **state["model"]})
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        run.set_random_state(state["random"])
        run.mask = Mask(state["mask"], state.get("mask_about", {})) if state["mask"] else None
        for name in ("memo", "epoch", "step", "status", "ended", "taken_back", "history"):
            setattr(run, name, state[name])
        run.seconds, run.peak_memory = state["seconds"], state["peak_memory"] or None
        for key in state[
            "memo_on_device"
        ]:  # states are read to the CPU, where a method may not look for its own
            run.memo[key] = _on(run.memo[key], run.device)
        watch.first, watch.good, watch.good_step = state["first"], state["good"], state["good_step"]
        watch.total, watch.count = state["total"].to(run.device), state["count"]
        if run.team.rank:
            watch.total.zero_()  # the state is the first process's, which has the sum of all
        return True


def _shared(run: Run) -> dict[str, Tensor]:
    """The run's tensors that are the very ones of the model it started from: frozen, and so not worth writing."""
    at = {} if run.source is None else {k: t.data_ptr() for k, t in run.source.state_dict().items()}
    return {k: t for k, t in run.model.state_dict().items() if t.data_ptr() and at.get(k) == t.data_ptr()}


def _identity(run: Run, method: GradientMethod) -> str:
    given = None if run.mask is None else mask_hash(run.mask)
    # the weights that the run started from
    origin = None if run.source is None else state_hash(run.source.state_dict())
    task = (type(run.task).__name__, run.task.num_classes, _settings_of(run.task))
    settings = plain(asdict(method))
    return repr(
        (
            type(method).__name__,
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
    """What a task is made with; a network among it by its weights."""
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
