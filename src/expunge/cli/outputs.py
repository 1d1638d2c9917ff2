"""The files that a run writes: the checkpoint, its record, and what an interrupted run resumes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..pipeline.outcome import Outcome
from ..records.checkpoint import Checkpoint, write_checkpoint
from ..records.record import Record
from .terminal import notice


@contextmanager
def resumable(out: Path) -> Iterator[Path]:
    """Yield the file where the run that writes `out` keeps its resumable state.

    If the user interrupts the run, a note says whether the same command will resume it.
    """
    path = state_file(out)
    try:
        yield path
    except KeyboardInterrupt:
        resumed_from = {
            path: "resumes from its last written state",
            trials_file(out): "goes on after its last finished trial",
            path.with_suffix(".latents"): "goes on with the same training images",
        }
        for file, words in resumed_from.items():
            if file.exists():
                notice(f"the run {words} when you give the same command again.")
                break
        raise


def state_file(out: Path) -> Path:
    """Return the file where a run that writes `out` keeps its resumable state."""
    return out.with_name(f".{out.name}.state")


def trials_file(out: Path) -> Path:
    """Return the file where a run that writes `out` keeps its finished trials."""
    return state_file(out).with_suffix(".trials")


def remove_state(out: Path) -> None:
    """Remove the resumable state of a run that is finished."""
    for file in (state_file(out), trials_file(out)):
        file.unlink(missing_ok=True)


def with_record(out: Path) -> dict[str, Path]:
    """Return {flag: file} of the files that `--out` stands for: the checkpoint and the record beside it."""
    return {"--out": out, **({"its record": out.with_suffix(".json")} if out.name else {})}


def record_dropped(record: Record, like: Checkpoint) -> None:
    """Store in the record which entry of the input was used, and which ones no output has."""
    if like.dropped or like.other_states:
        dropped = [f"{name} ({text})" for name, text in like.dropped.items()]
        record.details["checkpoint"] = {"entry": like.nest, "dropped": dropped}


def write_outcome(
    out: Path, outcome: Outcome, metadata: dict[str, str], like: Checkpoint | None = None
) -> None:
    """Write the checkpoint, in the form of `like` if given, and the record beside it; remove the resumable state."""
    if like is not None:
        record_dropped(outcome.record, like)
    write_checkpoint(out, outcome.model.state_dict(), like=like, metadata=metadata)
    record = outcome.record.save(out.with_suffix(".json"))
    remove_state(out)
    print(f"checkpoint: {out}\nrecord: {record}")
    # a warning reported a rollback or an unchanged model already
    if outcome.record.ended not in ("finished", "unchanged") and not outcome.run.taken_back:
        notice(outcome.record.status)
