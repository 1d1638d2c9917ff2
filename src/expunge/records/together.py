"""Several outputs that appear together or not at all.

Inside `together`, whole outputs wait in hidden folders beside their targets. At the end a journal lists them, and renames bring each to its
place, the main output last. If the process is killed between two renames, `finish_or_remove` ends the work by the journal: the
next command that writes to the folder calls it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ExpungeError, WriteError, write_error
from .part_files import Part, is_abandoned, is_part_of, left_behind, private_file, remove, shortened

JOURNAL = ".expunge-journal"


@dataclass
class Waiting:
    """A whole output that waits for the others.

    Args:
        part: Its part folder.
        replaces: Whether it may replace a file.
    """

    part: Part
    replaces: bool = True


@dataclass
class Together:
    """The outputs of one block of `together`.

    Args:
        main: The main output, which appears last.
        waiting: The outputs by target.
    """

    main: Path
    waiting: dict[Path, Waiting] = field(default_factory=dict)

    def add(self, part: Part, replaces: bool = True) -> None:
        """Take a whole output. It replaces an earlier one of the same target."""
        if (earlier := self.waiting.pop(part.target.absolute(), None)) is not None:
            earlier.part.remove()
        self.waiting[part.target.absolute()] = Waiting(part, replaces)

    def commit(self) -> None:
        """Bring all outputs to their places. Raises `WriteError` if nothing was changed."""
        for target, output in self.waiting.items():
            if not output.replaces and os.path.lexists(target):
                raise ExpungeError(kept_text(target))
            refuse_special(target)
        order = sorted(self.waiting, key=lambda target: target == self.main.absolute())
        moves = [(self.waiting[target].part.path.absolute(), target) for target in order]
        journal = self._write_journal(moves)
        done = 0
        try:
            for part, target in moves:
                # another command may have ended the work by the journal
                if part.exists() or journal is None:
                    _bring(part, target, self.waiting[target].replaces)
                done += 1
        except OSError as error:
            if done == 0 and journal is not None:
                remove(journal)
            raise write_error(moves[done][1], error) from error
        if journal is not None:
            remove(journal)

    def _write_journal(self, moves: list[tuple[Path, Path]]) -> Path | None:
        """Write the journal beside the main output, and return its path. One rename needs none."""
        if len(moves) < 2:
            return None
        journal = journal_of(self.main)
        try:
            for target, output in self.waiting.items():
                if target.parent != journal.absolute().parent:
                    (output.part.folder / JOURNAL).write_text(str(journal.absolute()), encoding="utf-8")
            part = Part(journal)
            try:
                private_file(part.path)
                part.path.write_text(json.dumps([[str(p), str(t)] for p, t in moves]), encoding="utf-8")
                part.flush()
                os.replace(part.path, journal)
            finally:
                part.remove()
        except OSError as error:
            raise write_error(self.main, error) from error
        return journal


def _bring(part: Path, target: Path, replaces: bool) -> None:
    """Bring one output to its place. Unlike a rename, a link fails if another process has made the target meanwhile."""
    if not replaces and part.is_file():
        try:
            os.link(part, target)
            part.unlink()
            return
        except FileExistsError:
            raise
        except OSError:
            # the file system has no hard links
            pass
    os.replace(part, target)


_CURRENT: ContextVar[Together | None] = ContextVar("together", default=None)


def current() -> Together | None:
    """Return the block of `together` that is open, or None."""
    return _CURRENT.get()


@contextmanager
def together(main: Path) -> Iterator[None]:
    """Let all files that are written in the block appear at its end, or none if it raises an exception.

    A block inside another one belongs to the outer one.

    Args:
        main: The main output, such as the checkpoint. It appears last.

    Raises:
        ExpungeError: Nothing can be written, or a target is no plain file. No target was changed.
    """
    if current() is not None:
        yield
        return
    outputs = Together(main)
    token = _CURRENT.set(outputs)
    try:
        yield
        outputs.commit()
    finally:
        _CURRENT.reset(token)
        for output in outputs.waiting.values():
            # after a failure between two renames, the journal needs the parts that are left
            if journal_of(main).exists():
                output.part.release()
            else:
                output.part.remove()


def staged(path: Path) -> Path:
    """Return where the content of an output is: in its part folder inside `together`, else `path` itself."""
    waiting = {} if (block := current()) is None else block.waiting
    output = waiting.get(path.absolute())
    return path if output is None else output.part.path


def journal_of(main: Path) -> Path:
    """Return the journal of a main output."""
    return main.with_name(f".{shortened(main.name)}{JOURNAL}")


def finish_or_remove(folder: Path) -> list[Path]:
    """Bring the outputs of killed processes to their places where a journal lists them, and remove other part folders.

    Returns:
        The part folders that were removed.
    """
    abroad = [journal for part in left_behind(folder) if (journal := _journal_abroad(part)) is not None]
    for journal in [*journals(folder), *abroad]:
        _finish(journal)
    return [part for part in left_behind(folder) if is_abandoned(part, then_remove=True)]


def _journal_abroad(part: Path) -> Path | None:
    """Return the journal beside a main output in another folder that lists a part, or None."""
    try:
        journal = Path((part / JOURNAL).read_text(encoding="utf-8"))
        return journal if journal.name.endswith(JOURNAL) and journal.is_file() else None
    except (OSError, ValueError):
        return None


def journals(folder: Path) -> list[Path]:
    """Return the journals of killed processes in a folder."""
    try:
        return sorted(folder.glob(f".*{JOURNAL}"))
    except OSError:
        return []


def _finish(journal: Path) -> None:
    """Make the renames of a journal that are left. A journal that names other files than outputs and their parts is ignored."""
    try:
        moves = [
            (Path(part), Path(target)) for part, target in json.loads(journal.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, RecursionError):
        return
    moves = [(part, target) for part, target in moves if is_part_of(part, target) and part.exists()]
    # a live process holds the locks of its parts, and is making these renames itself
    if not all(is_abandoned(part.parent) for part, _ in moves):
        return
    for part, target in moves:
        if not part.is_symlink():
            with suppress(ExpungeError):
                refuse_special(target)
                os.replace(part, target)
    remove(journal)


def refuse_special(target: Path) -> None:
    """Raise `WriteError` for a target that is a link, a device, a pipe or a folder: none of them is ever replaced."""
    if problem := special_problem(target):
        raise WriteError(problem)


def special_problem(target: Path) -> str:
    """Return one sentence if a target exists and is no plain file, else an empty text."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(write_error(target, error))
    if stat.S_ISLNK(mode):
        return f"{target} is a link, and links are not replaced; name the file itself."
    if stat.S_ISDIR(mode):
        return f"{target} is a folder; give a file to write."
    if not stat.S_ISREG(mode):
        return f"{target} is a device, a pipe or a socket, and is not replaced; give a file to write."
    return ""


def kept_text(target: Path) -> str:
    """Return the sentence on a file that exists and is never replaced."""
    return f"{target} exists and is not replaced, as it may be the only copy; move it away, or give another path."
