"""What Expunge raises at its edges: `ValueError`s that list every problem found, each with a remedy."""

from __future__ import annotations

from collections.abc import Sequence


class ExpungeError(ValueError):
    """Input that cannot be used. `problems` holds one sentence a problem: what came, what is allowed, what to do."""

    def __init__(self, problems: str | Sequence[str]):
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__(
            "\n".join(self.problems) if len(self.problems) < 2 else "".join(f"\n- {p}" for p in self.problems)
        )


class SplitError(ExpungeError):
    """The forget, retain, validation and test sets cannot be drawn as asked."""


class ModelError(ExpungeError):
    """The model does not fit the task or the data."""


class CheckpointError(ExpungeError):
    """A checkpoint is unsafe, broken, or does not belong to this model or split."""


class MaskError(ExpungeError):
    """A mask does not belong to this model, or a method cannot use one."""


class MissingExtra(ExpungeError, ImportError):
    """An optional library is needed for what was asked."""

    def __init__(self, what: str, extra: str):
        super().__init__(
            f"{what} needs an optional library: install it with `pip install 'expunge[{extra}]'`."
        )


def raise_all(problems: Sequence[str], error: type[ExpungeError] = ExpungeError) -> None:
    """Raise `error` with all `problems` at once; do nothing when there are none."""
    if problems:
        raise error(problems)
