"""A split by values alone, as flags and grid files give it, and how it is drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SplitError, raise_all

if TYPE_CHECKING:
    from .samples import Data
    from .split import Split

FORGET = ("forget_class", "forget_share", "forget_ids", "forget_group")


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """What to forget (exactly one of the four), and how the validation set is drawn."""

    # classes to forget, by name, or by number where no class has that name
    forget_class: tuple[str, ...] = ()
    # forget a random share of the training samples, such as 0.1
    forget_share: float | None = None
    # text file with the ids to forget, one a line
    forget_ids: Path | None = None
    # forget the samples of a group: COLUMN=VALUE[,VALUE...]
    forget_group: str | None = None
    # name only this share of each class to forget
    class_share: float = 1.0
    # remove the samples' influence, or the ability; default by scenario
    goal: Literal["untrain", "unlearn"] | None = None
    # share of each class held out of training; 0 if the original was trained on everything
    validation: float = 0.1
    # seed of the validation set and of random forget sets
    split_seed: int = 0

    @property
    def forgets(self) -> bool:
        """Whether it says what to forget."""
        return bool(self._given())

    def spelled(self, field: str) -> str:
        """A field as whoever wrote it knows it: a grid file's entry here, a flag on the command line."""
        return field

    def _given(self) -> list[str]:
        return [field for field in FORGET if getattr(self, field) not in ((), None)]

    def problems(self) -> list[str]:
        """What is wrong, a sentence each."""
        chosen, found, name = self._given(), [], self.spelled
        if len(chosen) != 1:
            found.append(
                f"{len(chosen)} of {', '.join(map(name, FORGET))} were given "
                f"({', '.join(map(name, chosen)) or 'none'}); give exactly one."
            )
        if self.class_share != 1 and not self.forget_class:
            found.append(
                f"{name('class_share')} {self.class_share:g} is a share of the classes of {name('forget_class')}, which is "
                "not given; name classes, or leave it out."
            )
        found += [
            f"{name(field)} is {share:g}; it is a share, above 0 and {'below' if field == 'forget_share' else 'at most'} 1."
            for field in ("forget_share", "class_share")
            if (share := getattr(self, field)) is not None
            and not (0 < share < 1 or (share == 1 and field == "class_share"))
        ]
        if not 0 <= self.validation < 1:
            found.append(
                f"{name('validation')} is {self.validation:g}; it is a share of each class, at least 0 and below 1."
            )
        column, equals, _ = (self.forget_group or "").partition("=")
        if self.forget_group is not None and not (column and equals):
            found.append(
                f"{name('forget_group')} is '{self.forget_group}'; write COLUMN=VALUE, or COLUMN=VALUE,VALUE."
            )
        return found

    def draw(self, train: Data, test: Data) -> Split:
        """The split that is asked for. Raises `SplitError`."""
        from .split import Split  # here, so that the help of a command does not import torch

        raise_all(self.problems(), SplitError)
        rest: dict[str, Any] = {
            "validation": self.validation,
            "seed": self.split_seed,
            **({"goal": self.goal} if self.goal else {}),
        }
        if self.forget_class:
            return Split.by_class(train, test, self.forget_class, share=self.class_share, **rest)
        if self.forget_share is not None:
            return Split.random(train, test, self.forget_share, **rest)
        if self.forget_ids is not None:
            return Split.by_ids(train, test, self.forget_ids, **rest)
        column, _, values = str(self.forget_group).partition("=")
        return Split.by_group(train, test, column, values.split(","), **rest)
