"""Exceptions of Expunge.

Each is a `ValueError`. One exception lists every problem that a check found.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any


class ExpungeError(ValueError):
    """Input that Expunge cannot use.

    Each problem is one sentence: what was wrong, what is allowed, what to do.

    Args:
        problems: One sentence, or a list of sentences. The attribute `problems` is always a list.

    Example:
        >>> try:
        ...     split = Split.random(train, test, share=2.0)
        ... except ExpungeError as error:
        ...     print(error.problems[0])
    """

    def __init__(self, problems: str | Sequence[str]):
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__(
            "\n".join(self.problems) if len(self.problems) < 2 else "".join(f"\n- {p}" for p in self.problems)
        )


class SplitError(ExpungeError):
    """The requested forget, retain, validation and test sets cannot be drawn."""


class ModelError(ExpungeError):
    """The model does not fit the task or the data."""


class CheckpointError(ExpungeError):
    """A checkpoint is unsafe or broken, or it belongs to another model or split."""


class MaskError(ExpungeError):
    """A mask belongs to another model, or the method cannot use a mask."""


class WriteError(ExpungeError):
    """An output cannot be written: the disk is full, the folder is read-only, or the name is too long."""


class UnlearningFailed(ExpungeError):
    """A run diverged or changed nothing, so there is no unlearned model.

    Args:
        problems: Why, as for `ExpungeError`.
        run: The `Run`, with the model, the curves and the status.

    Example:
        >>> try:
        ...     unlearned = unlearn(model, split, "salun", task)
        ... except UnlearningFailed as error:
        ...     print(error.run.status)
    """

    def __init__(self, problems: str | Sequence[str], run: Any):
        super().__init__(problems)
        self.run = run


class MissingExtra(ExpungeError, ImportError):
    """An optional library is not installed.

    Args:
        feature: What needs the library, as the subject of a sentence: "reading image files".
        extra: The extra of Expunge that installs it: "images".
    """

    def __init__(self, feature: str, extra: str):
        super().__init__(
            f"{feature} needs an optional library: install it with `pip install 'expunge[{extra}]'`."
        )


def raise_all(problems: Sequence[str], error: type[ExpungeError] = ExpungeError) -> None:
    """Raise one `error` that lists all `problems`. Do nothing if the list is empty."""
    if problems:
        raise error(problems)


# what to do, by the number of the system's error
_REMEDIES = {
    errno.ENOSPC: "make room, or write to another disk",
    errno.EDQUOT: "make room, or write to another disk",
    errno.EACCES: "give another path, or get the right to write there",
    errno.EPERM: "give another path, or get the right to write there",
    errno.EROFS: "give another path, or get the right to write there",
    errno.ENAMETOOLONG: "give a shorter name",
}


def write_error(path: str | os.PathLike[str], error: OSError) -> WriteError:
    """Return the exception for a file that the system cannot write."""
    remedy = _REMEDIES.get(error.errno or 0, "give another path")
    return WriteError(f"{os.fspath(path)} cannot be written: {error.strerror or error}; {remedy}.")
