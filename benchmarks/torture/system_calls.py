"""Follow the system calls of a process with strace, end it at one of them, or let them fail."""

from __future__ import annotations

import contextlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# the system calls that change a disk; a kill or an error can be injected into each
CHANGES = ("write", "pwrite64", "writev", "ftruncate", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link",
           "linkat", "mkdir", "mkdirat")  # fmt: skip
REMOVALS = ("unlink", "unlinkat", "rmdir")
CALL = re.compile(r"^(\d+) +([a-z0-9_]+)\(")


@dataclass(frozen=True)
class Injection:
    """What happens at a system call of the child.

    Args:
        calls: Names of the system calls.
        number: Number of the call among those of its name, from 1. 0 only counts the calls.
        error: Name of the error, such as ENOSPC, from this call on. Empty: the process is killed there.
    """

    calls: tuple[str, ...]
    number: int = 0
    error: str = ""

    def words(self) -> list[str]:
        """Return the arguments of strace."""
        names = ",".join(self.calls)
        words = ["-e", f"trace={names}", "-e", "signal=none"]
        if self.number:
            does = (
                f"error={self.error}:when={self.number}+" if self.error else f"signal=KILL:when={self.number}"
            )
            words += ["-e", f"inject={names}:{does}"]
        return words


@contextlib.contextmanager
def traced(child: int, inject: Injection, trace: Path):
    """Let strace follow the child, and yield when it does."""
    words = ["strace", "-f", "-o", str(trace), *inject.words(), "-p", str(child)]
    tracer = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        assert tracer.stderr is not None
        for line in tracer.stderr:
            if "attached" in line or "ptrace" in line or "not permitted" in line:
                break
        yield tracer
    finally:
        end_tracer(tracer)


def end_tracer(tracer: subprocess.Popen) -> None:  # type: ignore[type-arg]
    try:
        tracer.wait(5)
    except subprocess.TimeoutExpired:
        tracer.terminate()
        tracer.wait(20)
    if tracer.stderr is not None:
        tracer.stderr.close()
