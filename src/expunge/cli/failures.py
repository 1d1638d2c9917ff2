"""How a command ends: one handler for every error, and outputs that a closed pipe or a full disk does not end."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ..errors import ExpungeError, UnlearningFailed
from ..secret_text import without_secrets
from .exit_codes import INTERRUPTED, NO_RESULT, NOT_POSSIBLE, UNEXPECTED

DEBUG = "--debug"
# characters of an error of other software that are shown
LONGEST = 400


class Failure(NamedTuple):
    """The sentences that a user sees of an error, and the exit code."""

    problems: Sequence[str]
    code: int


def failure_of(error: BaseException) -> Failure:
    """Return what a user sees of an error."""
    if isinstance(error, ExpungeError):
        return Failure(error.problems, NO_RESULT if isinstance(error, UnlearningFailed) else NOT_POSSIBLE)
    if isinstance(error, KeyboardInterrupt):
        return Failure(["interrupted."], INTERRUPTED)
    if text := _of_the_system(error):
        return Failure([text], NOT_POSSIBLE)
    text = f"unexpected {type(error).__name__}: {_first_line(error)}. It is a fault of Expunge or of your own code"
    return Failure([f"{text}; add {DEBUG} to see where it is."], UNEXPECTED)


def _of_the_system(error: BaseException) -> str:
    """Return the sentence on an error of files, disks, memory or databases; empty for any other."""
    text = _first_line(error)
    if _is_memory(error):
        return f"there is not enough memory: {text}; use a smaller batch_size, a larger --accumulate, or another device."
    if isinstance(error, OSError):
        names = [os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)]
        file = " and ".join(names) or "a file"
        return (
            f"{file} cannot be used: {error.strerror or text}; check that it exists and that you may use it."
        )
    # by its name: importing safetensors here would slow down every command
    if type(error).__name__ == "SafetensorError":
        return f"a safetensors file cannot be read or written: {text}; copy it again, or make room."
    if isinstance(error, sqlite3.Error):
        return f"a database cannot be read or written: {text}; check the file and the room on its disk."
    return ""


def run_guarded(run: Callable[[], int], show: Callable[[Failure], None], debug: bool) -> int:
    """Run a command and return its exit code, whatever it raises.

    Args:
        run: The command.
        show: Shows a failure to the user.
        debug: Also print the traceback.
    """
    try:
        with lasting_streams() as streams:
            try:
                code = run()
            # SystemExit too: code of the user that ends the process must not look like success
            except BaseException as error:
                if debug:
                    print(
                        without_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr
                    )
                failure = failure_of(error)
                show(failure)
                code = failure.code
            if (lost := streams.finish()) is not None:
                text = (
                    f"standard output cannot be written: {lost}; files that the command writes are complete."
                )
                show(Failure([text], NOT_POSSIBLE))
                streams.finish()
                code = code or NOT_POSSIBLE
            return code
    except KeyboardInterrupt:
        return INTERRUPTED


class LastingStream:
    """Pass text on to a stream until that fails, and drop the rest: a closed pipe must not end a run.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: Any):
        self.stream = stream
        self.failed: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text. Characters that the stream cannot hold are escaped."""
        try:
            self._attempt(lambda: self.stream.write(text))
        except UnicodeEncodeError:
            coded = text.encode(self.stream.encoding or "ascii", "backslashreplace")
            self._attempt(lambda: self.stream.write(coded.decode(self.stream.encoding or "ascii")))
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        self._attempt(lambda: self.stream.flush())

    def _attempt(self, action: Callable[[], Any]) -> None:
        if self.failed is not None:
            return
        try:
            action()
        except OSError as error:
            self.failed = error.strerror or str(error)
            self._discard()

    def _discard(self) -> None:
        """Send what is left in the buffer nowhere: the interpreter would fail on it when it exits."""
        with suppress(OSError, ValueError, AttributeError):
            if self.stream in (sys.__stdout__, sys.__stderr__):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


class Streams(NamedTuple):
    """The lasting streams of a command. None where the process has none."""

    out: LastingStream | None
    err: LastingStream | None

    def finish(self) -> str | None:
        """Flush both, and return why standard output was lost, or None."""
        for stream in (self.out, self.err):
            if stream is not None:
                stream.flush()
        return None if self.out is None else self.out.failed


@contextmanager
def lasting_streams() -> Iterator[Streams]:
    """Let standard output and standard error outlive a closed pipe or a full disk inside the block."""
    before = sys.stdout, sys.stderr
    streams = Streams(*(None if stream is None else LastingStream(stream) for stream in before))
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr = before


def _is_memory(error: BaseException) -> bool:
    """Whether memory was too small. torch raises errors of other types, which are known by name and text."""
    words = ("can't allocate memory", "out of memory", "not enough memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))
    )


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text, printable and not too long."""
    line = next((part for part in str(error).splitlines() if part.strip()), "") or "no further text"
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line[:LONGEST])
    return shown.rstrip(".")
