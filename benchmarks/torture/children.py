"""Run one command in a child process that can be killed, limited, and denied system calls.

The runner imports torch once and forks, so a command starts within milliseconds. The child gets its own session: processes that
it leaves behind are found by their session, and ended by their id.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from system_calls import CALL, Injection, end_tracer, traced

# seconds that a command may take before it counts as hanging
PATIENCE = 300.0
# seconds that processes of a killed command have to end
AFTERWARDS = 30.0
PR_SET_PTRACER, ANY = 0x59616D61, -1


@dataclass
class Ended:
    """How a child ended.

    Args:
        code: The exit code, or minus the number of the signal that ended it.
        out: Its standard output.
        err: Its standard error.
        seconds: How long it ran.
        hung: Whether it was ended because it took more than its time.
        calls: How often it made each system call that was watched.
        injected: Whether the error was injected.
        left: Command lines of its processes that still ran `AFTERWARDS` seconds later.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    injected: bool = False
    left: list[str] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        """Whether SIGKILL of the harness ended it."""
        return self.code == -signal.SIGKILL and not self.hung


class _Raw(io.RawIOBase):
    """Standard output on a socket: `send` is no `write`, so failing writes to the disk leave messages alone."""

    def __init__(self, end: socket.socket):
        self.end = end

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
        return self.end.send(data)


def can_trace() -> bool:
    """Return whether strace is installed and may follow a process of this machine."""
    if shutil.which("strace") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        ended = run(
            lambda: os.fsync(os.open(folder, os.O_RDONLY)) or 0,
            Path(folder),
            inject=Injection(("fsync",)),
            patience=20,
        )
    return ended.calls["fsync"] == 1


def run(
    call: Callable[[], int],
    folder: Path,
    *,
    kill_after: float | None = None,
    inject: Injection | None = None,
    patience: float = PATIENCE,
    memory: int = 0,
    largest: int = 0,
    only_self: bool = True,
) -> Ended:
    """Run a function in a child process and wait for its end.

    Args:
        call: The function. Its result is the exit code.
        folder: The working folder of the child.
        kill_after: Seconds after which the child gets SIGKILL.
        inject: What happens at a system call.
        patience: Seconds after which the child counts as hanging.
        memory: Bytes of address space that the child may take beyond what it has. 0: no limit.
        largest: Bytes of the largest file that the child may write. 0: no limit.
        only_self: Kill the process alone, as a system that is out of memory does, and not its workers.
    """
    pairs = [socket.socketpair() for _ in range(2)]
    wait_end, go_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(go_end)
        for ours, _ in pairs:
            ours.close()
        _live(call, folder, [theirs for _, theirs in pairs], wait_end, memory, largest)
    os.close(wait_end)
    for ours, theirs in pairs:
        theirs.close()
        ours.setblocking(False)
    with tempfile.TemporaryDirectory() as notes, contextlib.ExitStack() as stack:
        trace = Path(notes) / "trace"
        tracer = stack.enter_context(traced(child, inject, trace)) if inject is not None else None
        os.write(go_end, b"g")
        os.close(go_end)
        ended = _wait(child, [ours for ours, _ in pairs], kill_after, patience)
        if tracer is not None:
            end_tracer(tracer)
            lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
            ended.calls = Counter(m[2] for line in lines if (m := CALL.match(line)) and int(m[1]) == child)
            ended.injected = any("(INJECTED)" in line for line in lines)
    ended.left = _rest_of(child)
    return ended


def _live(
    call: Callable[[], int], folder: Path, ends: list[socket.socket], wait_end: int, memory: int, largest: int
) -> None:
    """Be the child. Never returns."""
    code = 70
    try:
        os.setsid()
        with contextlib.suppress(Exception):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(ANY), 0, 0, 0)
        os.chdir(folder)
        for number, end in enumerate(ends, 1):
            os.dup2(end.fileno(), number)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.BufferedWriter(_Raw(end)), encoding="utf-8", line_buffering=True)
            for end in ends
        )
        if memory:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + memory,) * 2)
        if largest:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        os.read(wait_end, 1)
        code = call()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(child: int, ends: list[socket.socket], kill_after: float | None, patience: float) -> Ended:
    """Read what the child says until it ends."""
    started, said, hung = time.monotonic(), [bytearray(), bytearray()], False
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        for end, text in zip(ends, said, strict=True):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while data := end.recv(1 << 16):
                    text += data
        if gone:
            break
        seconds = time.monotonic() - started
        if kill_after is not None and seconds >= kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        elif seconds > patience:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    for end in ends:
        end.close()
    out, err = (bytes(text).decode("utf-8", "replace") for text in said)
    return Ended(os.waitstatus_to_exitcode(status), out, err, time.monotonic() - started, hung)


def processes_of(session: int) -> dict[int, str]:
    """Return {process id: command line} of the processes of a session."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(after_name[3]) == session and after_name[0] != "Z":
                found[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:160]
                )
    return found


def _rest_of(session: int) -> list[str]:
    """Wait for the other processes of a command, end those that stay, and return their command lines."""
    deadline = time.monotonic() + AFTERWARDS
    while (left := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return list(left.values())
