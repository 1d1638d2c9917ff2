"""The files that a run writes: the checkpoint, its record, and what an interrupted run resumes from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..errors import UnlearningFailed, WriteError
from ..pipeline.outcome import Outcome
from ..records.checkpoint import Checkpoint, write_checkpoint
from ..records.file_names import beside
from ..records.record import Record
from ..records.together import together
from ..training.processes import is_first_process
from ..training.run import Run
from .run_files import failed_file, state_file, trials_file
from .settings_flags import flag_group, with_help
from .terminal import notice

FAILURE = flag_group("Failures", 8)
# how the warnings on a run without a result start: the error that ends its command says the same
_FAILED = r"\w+ (diverged|unchanged)\b"
_KEPT = r"(The only trial|None of the \d+ trials) of \S+ (did not improve|improved) on"


@with_help
@dataclass(frozen=True, kw_only=True)
class FailureFlags:
    """What happens if the run has no result, or if its results cannot be written.

    Args:
        keep_failed: Write the model of a run that diverged or changed nothing to NAME.failed, and its record beside it.
        spill: Folder that gets all outputs if they cannot be written to their places, for example because the disk is full.
    """

    keep_failed: bool = False
    spill: Path | None = None


@contextmanager
def resumable(out: Path, keeps_original: bool = False) -> Iterator[Path]:
    """Yield the file where the run that writes `out` keeps its resumable state.

    If the user interrupts the run, a note says whether the same command will resume it. The status of a run without a result
    is not shown here, because `refuse_failed` says it.

    Args:
        out: The checkpoint that the run writes.
        keeps_original: Whether trials that do not improve on the original end in a run without a result.
    """
    try:
        with warnings.catch_warnings():
            for start in (_FAILED, *([_KEPT] if keeps_original else [])):
                warnings.filterwarnings("ignore", start, RuntimeWarning)
            yield state_file(out)
    except KeyboardInterrupt:
        if text := kept_text(out):
            notice(text)
        raise


@contextmanager
def note_if_written(out: Path) -> Iterator[None]:
    """Tell a user who interrupts the block whether the folder `out` is there already."""
    try:
        yield
    except KeyboardInterrupt:
        if out.exists():
            notice(f"{out} and its record are written; only images and scores are missing.")
        raise


def kept_text(out: Path) -> str:
    """Return the sentence on what an interrupted run has kept, or an empty text."""
    path = state_file(out)
    resumed_from = {
        path: "resumes from its last written state",
        trials_file(out): "goes on after its last finished trial",
        path.with_suffix(".latents"): "goes on with the same training images",
    }
    words = next((words for file, words in resumed_from.items() if file.exists()), "")
    return f"the run {words} when you give the same command again." if words else ""


def remove_state(out: Path) -> None:
    """Remove the resumable state of a run that is finished."""
    for file in (state_file(out), trials_file(out)):
        file.unlink(missing_ok=True)


def record_dropped(record: Record, like: Checkpoint) -> None:
    """Store in the record which entry of the input was used, and which ones no output has."""
    if like.dropped or like.other_states:
        dropped = [f"{name} ({text})" for name, text in like.dropped.items()]
        record.details["checkpoint"] = {"entry": like.nest, "dropped": dropped}


def deliver(out: Path, write: Callable[[Path], list[str]], flags: FailureFlags) -> None:
    """Write all outputs of a run together, remove its resumable state, and print where the outputs are.

    Args:
        out: The checkpoint.
        write: Writes all outputs for a checkpoint at the path it gets, and returns the lines to print.
        flags: Where the outputs go if they cannot be written.

    Raises:
        WriteError: An output cannot be written. Either all of them are in the folder of `--spill`, or none was written.
    """
    try:
        with together(out):
            lines = write(out)
    except WriteError as error:
        if flags.spill is None:
            left = kept_text(out) or "add --spill DIR to have them written elsewhere."
            raise WriteError([*error.problems, f"none of the outputs was written; {left}"]) from error
        place = flags.spill / out.name
        with together(place):
            lines = write(place)
        remove_state(out)
        print("\n".join(lines))
        raise WriteError(
            [*error.problems, f"all outputs are in {flags.spill} instead; move them where you need them."]
        ) from error
    remove_state(out)
    print("\n".join(lines))


def write_outcome(
    out: Path, outcome: Outcome, metadata: dict[str, str], like: Checkpoint | None = None
) -> list[str]:
    """Write the checkpoint, in the form of `like` if given, and the record beside it. Returns the lines to print."""
    if like is not None:
        record_dropped(outcome.record, like)
    write_checkpoint(out, outcome.model.state_dict(), like=like, metadata=metadata)
    record = outcome.record.save(beside(out, ".json"))
    return [f"checkpoint: {out}", f"record: {record}"]


def note_status(record: Record, run: Run) -> None:
    """Show a status other than "finished". A warning reported a rollback already."""
    if record.ended != "finished" and not run.taken_back:
        notice(record.status)


def refuse_failed(
    out: Path, run: Run, record: Record, flags: FailureFlags, like: Checkpoint | None = None
) -> None:
    """Raise `UnlearningFailed` for a run that diverged or changed nothing. Its state is removed.

    Args:
        out: The checkpoint that is not written.
        run: The run.
        record: Its record.
        flags: Whether the model is kept under another name.
        like: The input checkpoint.
    """
    if not run.has_result:
        _give_up(out, run, record, flags, like)


def _give_up(out: Path, run: Run, record: Record, flags: FailureFlags, like: Checkpoint | None) -> NoReturn:
    what = f"{out} was not written"
    if flags.keep_failed and is_first_process():
        failed = failed_file(out)
        with together(failed):
            # the metadata of the input stays: the model has answered no request
            write_checkpoint(
                failed, run.model.state_dict(), like=like, metadata={"failed": record.status}, named=out
            )
            record.save(failed.with_name(f"{failed.name}.json"))
        what += f"; the model is in {failed}"
    elif not flags.keep_failed:
        what += "; --keep-failed keeps the model under another name"
    if is_first_process():
        remove_state(out)
    earlier = " The file of that name is from an earlier run." if out.exists() else ""
    raise UnlearningFailed(f"{record.method} {record.status} {what}.{earlier}", run)
