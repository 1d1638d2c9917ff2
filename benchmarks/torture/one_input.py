"""Let a reader read one input in a child process, and judge what it said and did."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from checks import BEGINNING
from children import run
from mutate import Files
from valid_files import CANARY

import expunge
from expunge.cli.failures import failure_of
from expunge.errors import ExpungeError

SOURCE = str(Path(expunge.__file__).parent) + os.sep
# inputs of one child process, seconds and bytes that one may take
BATCH, SECONDS, MEMORY = 100, 60, 4 << 30
# what no reader of a file has to do
FORBIDDEN = {
    "os.system",
    "subprocess.Popen",
    "os.posix_spawn",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "socket.connect",
    "os.spawn",
}


def files_of(folder: Path) -> Files:
    """Return {name: bytes} of the files of an input."""
    return {
        f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


class Lines:
    """Collect the lines of `src/expunge` that run.

    Args:
        seen: Hashes of the lines that ran before.
    """

    def __init__(self, seen: set[int]):
        self.seen, self.new = seen, []  # type: ignore[var-annotated]
        self._codes: dict[CodeType, int] = {}

    def __call__(self, frame: FrameType, event: str, value: Any) -> Any:
        code = frame.f_code
        if (number := self._codes.get(code)) is None:
            ours = code.co_filename.startswith(SOURCE)
            text = f"{code.co_filename.removeprefix(SOURCE)}:{code.co_qualname}"
            number = (
                int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) << 16 if ours else 0
            )
            self._codes[code] = number
        if not number:
            return None
        point = number | (frame.f_lineno & 0xFFFF)
        if point not in self.seen:
            self.seen.add(point)
            self.new.append(point)
        return self


def try_input(
    reader: Callable[[Path], Any], files: Files, place: Path, lines: Lines | None = None
) -> tuple[str, str]:
    """Let a reader read one input.

    Args:
        reader: Reads the input in a folder.
        files: The input.
        place: Folder for the input. Its parent is the working folder.
        lines: Notes which lines run.

    Returns:
        "accepted", "refused" or a kind of fault, and what was said.
    """
    shutil.rmtree(place, ignore_errors=True)
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    if not files:
        place.mkdir(parents=True)
    said, kind, text = io.StringIO(), "accepted", ""
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.settrace(lines)
        try:
            reader(place)
        except Exception as error:
            sys.settrace(None)
            kind, text = judged(error, said.getvalue())
        finally:
            sys.settrace(None)
    if kind == "accepted" and "error:" in said.getvalue():
        beginnings = len(BEGINNING.findall(said.getvalue()))
        kind, text = ("refused", "") if beginnings == 1 else ("unclear error", said.getvalue()[-400:])
    if (place.parent / CANARY).exists() or (place / CANARY).exists():
        kind, text = "executed code", "the pickle of the input made a folder"
    elif files_of(place) != files and not journals(files, files_of(place)):
        kind, text = "changed input", ", ".join(sorted(set(files) ^ set(files_of(place)))) or "contents"
    return kind, text


def journals(before: Files, after: Files) -> bool:
    """Return whether only a ledger was written: checks note in it what they have verified."""
    return all(name.startswith("l.db") for name in {*before, *after} if before.get(name) != after.get(name))


def judged(error: Exception, said: str) -> tuple[str, str]:
    """Return "refused" for an error of which the command line makes one sentence, else a fault."""
    if isinstance(error, ExpungeError):
        return (
            ("refused", str(error)[:200])
            if str(error).strip()
            else ("unclear error", "an error without words")
        )
    if failure_of(error).code in (1, 2, 3):
        return "refused by the system", f"{type(error).__name__}: {error}"[:200]
    return "traceback", "".join(traceback.format_exception(error)[-4:])[-500:] + said[-300:]


def read_batch(batch: list[tuple[Callable[[Path], Any], Files]], place: Path, lines: Lines | None) -> int:
    """Read inputs in this process, and write one line for each into `answers`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.chdir(place.parent)
    happened: list[str] = []
    sys.addaudithook(lambda event, values: happened.append(event) if event in FORBIDDEN else None)
    with Path("answers").open("w", encoding="utf-8") as out:
        for number, (reader, files) in enumerate(batch):
            print(json.dumps({"begins": number}), file=out, flush=True)
            signal.alarm(SECONDS)
            kind, text = try_input(reader, files, place, lines)
            signal.alarm(0)
            if happened:
                kind, text = "executed code", ", ".join(happened)
                happened.clear()
            new = [] if lines is None else lines.new[:]
            if lines is not None:
                lines.new.clear()
            shutil.rmtree(CANARY, ignore_errors=True)
            print(
                json.dumps({"number": number, "kind": kind, "text": text, "new": new}), file=out, flush=True
            )
    return 0


def answers_of(
    batch: list[tuple[Callable[[Path], Any], Files]], folder: Path, seen: set[int] | None
) -> list[dict[str, Any]]:
    """Read inputs in child processes, and return one answer for each. An input that ends its process has an answer too.

    Args:
        batch: [reader, input].
        folder: Folder to work in.
        seen: Lines that ran before; None to note none.
    """
    done: list[dict[str, Any]] = []
    while len(done) < len(batch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rest = batch[len(done) :]
        lines = None if seen is None else Lines(set(seen))
        ended = run(
            partial(read_batch, rest, folder / "in", lines),
            folder,
            memory=MEMORY,
            patience=SECONDS * len(rest) + 60,
        )
        answers = folder / "answers"
        found = (
            [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
            if answers.exists()
            else []
        )
        done += [answer for answer in found if "kind" in answer]
        if len(done) < len(batch):
            kind = "hang" if ended.code == -signal.SIGALRM or ended.hung else "died"
            done.append({"kind": kind, "text": f"ended with {ended.code}: {ended.err[-300:]}", "new": []})
    return done
