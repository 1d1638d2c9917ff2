"""The moves that end a change of a project. They replace a ledger only by one that has all its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ExpungeError, raise_all
from ..receipts.ledger_file import LedgerFile
from ..receipts.ledger_rows import LedgerHead, read_head

Moves = Sequence[tuple[str, str]]


def finish_moves(path: Path, moves: Moves, ledger: str) -> None:
    """Bring the files of a committed change to their places.

    Args:
        path: The folder of the project.
        moves: (source, target) of each file, below the folder. Every source exists.
        ledger: The name of the ledger.

    Raises:
        ExpungeError: The ledger got rows that its successor lacks, or a file cannot be moved. All files stay where the next
            attempt finds them.
    """
    with _same_ledger(path, [source for source, target in moves if target == ledger], path / ledger):
        make_moves(path, moves)


def check_targets(path: Path, moves: Moves, models: str) -> None:
    """Raise `ExpungeError` if the files of a new run would replace those of another one. A signed receipt replaces its own.

    Args:
        path: The folder of the project.
        moves: All moves of the change.
        models: Name of the folder of the models.
    """
    targets = [target for _, target in moves if target.startswith(f"{models}/")]
    if len(targets) < 2:
        return
    here = [path / target for target in targets if (path / target).exists()]
    # moves that a kill interrupted have brought some files to their places already
    waiting = {target for source, target in moves if (path / source).exists()}
    raise_all(
        [
            f"{file} exists already, and a file of the new run would replace it, so no file is moved; move it out of the folder and keep "
            "it, and give the command again."
            for file in here
            if file.relative_to(path).as_posix() in waiting
        ]
    )


def make_moves(path: Path, moves: Moves) -> None:
    """Move files, while the caller keeps the ledger as it is. Arguments and errors are those of `finish_moves`."""
    for source, target in moves:
        try:
            (path / target).parent.mkdir(exist_ok=True)
            os.replace(path / source, path / target)
        except OSError as error:
            raise ExpungeError(
                f"{path / target} cannot be written: {error.strerror}; the change is made, and its files are kept in "
                f"{path / source}: make the folder writable, and give any command again. It moves them."
            ) from error


def lost_rows(kept: Path, new: Path) -> str:
    """Return why a ledger may not be replaced by a new one, as a sentence. Empty if the new one has all its rows."""
    return _lost_rows(kept, LedgerFile(kept).head(), new)


def _lost_rows(kept: Path, head: LedgerHead, new: Path) -> str:
    if LedgerFile(new).has(head):
        return ""
    return (
        f"{kept} was written after a command had made its change and before the change was finished, so the rows written then are "
        f"in no other file, and no file is moved. Move {kept} out of the folder and keep it, and give any command again: it finishes "
        f"the change. Then compare both ledgers with `expunge ledger list`, and write what is missing again with `expunge ledger`."
    )


@contextmanager
def _same_ledger(path: Path, sources: Sequence[str], kept: Path) -> Iterator[None]:
    """Let no other process write into the ledger while a new one replaces it. Raises `ExpungeError` if rows would be lost."""
    if not sources or not kept.is_file():
        yield
        return
    with LedgerFile(kept).transaction() as db:
        if text := _lost_rows(kept, read_head(db), path / sources[0]):
            raise ExpungeError(text)
        if os.name != "nt":
            yield
    if os.name == "nt":
        # Windows replaces no open file
        yield


@contextmanager
def unchanged_ledger(kept: Path, copied: str) -> Iterator[None]:
    """Keep the ledger file as it is while its changed copy replaces it. Writers wait, and are told that it was replaced.

    Raises:
        ExpungeError: Its head is no longer the one that was copied: the copy lacks rows.
    """
    if not (copied or kept.exists()):
        yield
        return
    with LedgerFile(kept).transaction() as db:
        if str(read_head(db)) != copied:
            raise ExpungeError(
                f"{kept} was written while this command ran, so no file of the project is changed; give the command again. "
                "Use `expunge ledger` to write on the ledger of a project: it does not write while a command runs."
            )
        if os.name != "nt":
            yield
    if os.name == "nt":
        # Windows replaces no open file
        yield


def flush(path: Path) -> None:
    """Write a file or the names of a folder to disk. Some systems cannot flush a folder."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
