"""`SplitSpec`: a split as plain values, as flags and grid files give it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SplitError, raise_all
from .validation_source import source_problems

if TYPE_CHECKING:
    from .samples import Data
    from .split import Split

FORGET = ("forget_class", "forget_share", "forget_ids", "forget_group")


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """What to forget (exactly one of the four), and how the validation set is drawn.

    Args:
        forget_class: Classes to forget, by name, or by number if no class has that name.
        forget_share: Share of the training samples to forget, drawn at random, such as 0.1.
        forget_ids: Text file with the ids to forget, one per line.
        forget_group: Group to forget: COLUMN=VALUE. Repeat it for several values of the column. A comma belongs to the value.
        class_share: Share of each class to forget.
        goal: Remove the influence of the samples (untrain) or the ability (unlearn). The default depends on what is
            forgotten: unlearn for classes, untrain for all else.
        validation: Share of each class to draw for validation, by which settings and the end of a run are chosen.
        validation_from: The set that it leaves: train, which the original must not have seen, or test. Give test if the
            original was trained on all training samples; an audit then uses the other test samples.
        unseen_ids: Text file with ids that the original never saw, one per line, all of the training or all of the test
            data. They are the validation set instead of a draw.
        split_seed: Seed of the validation set and of random forget sets.
        copies: What to do with copies of forget samples: move exact copies from the retain and validation set to the forget
            set (include), only report them (report), or look for none (ignore). Near copies and copies in the test set are
            reported. The default is include for ids and groups, and report for classes and random forget sets.

    Example:
        >>> split = SplitSpec(forget_class=("cat",)).draw(source.train, source.test)
    """

    forget_class: tuple[str, ...] = ()
    forget_share: float | None = None
    forget_ids: Path | None = None
    forget_group: tuple[str, ...] = ()
    class_share: float = 1.0
    goal: Literal["untrain", "unlearn"] | None = None
    validation: float = 0.1
    validation_from: Literal["train", "test"] = "train"
    unseen_ids: Path | None = None
    split_seed: int = 0
    copies: Literal["include", "report", "ignore"] | None = None

    @property
    def forgets(self) -> bool:
        """Whether any of the four ways to forget is set."""
        return bool(self.chosen())

    def __post_init__(self) -> None:
        """Take one group as a text, as grid files may give it."""
        if isinstance(self.forget_group, str):
            object.__setattr__(self, "forget_group", (self.forget_group,))

    def display_name(self, field: str) -> str:
        """Return the name of a field for messages: an entry of a grid file here, a flag on the command line."""
        return field

    def chosen(self) -> list[str]:
        """Which of the four ways to forget are set."""
        return [field for field in FORGET if getattr(self, field) not in ((), None)]

    def problems(self) -> list[str]:
        """Return one sentence for each problem of these values."""
        chosen, problems, name = self.chosen(), [], self.display_name
        if len(chosen) != 1:
            problems.append(
                f"{len(chosen)} of {', '.join(map(name, FORGET))} are given "
                f"({', '.join(map(name, chosen)) or 'none'}); give exactly one."
            )
        if self.class_share != 1 and not self.forget_class:
            problems.append(
                f"{name('class_share')} {self.class_share:g} needs the classes of {name('forget_class')}, which are not given; "
                "give classes, or leave it out."
            )
        problems += [
            f"{name(field)} is {share:g}; give a share above 0 and {'below' if field == 'forget_share' else 'at most'} 1."
            for field in ("forget_share", "class_share")
            if (share := getattr(self, field)) is not None
            and not (0 < share < 1 or (share == 1 and field == "class_share"))
        ]
        if not 0 <= self.validation < 1:
            problems.append(
                f"{name('validation')} is {self.validation:g}; give a share of each class, at least 0 and below 1."
            )
        names = (name("validation"), name("validation_from"), name("unseen_ids"))
        problems += source_problems(self.validation, self.validation_from, self.unseen_ids is not None, names)
        parts = [text.partition("=") for text in self.forget_group]
        problems += [
            f"{name('forget_group')} is '{text}'; write COLUMN=VALUE."
            for text, (column, equals, _) in zip(self.forget_group, parts, strict=True)
            if not (column and equals)
        ]
        if len(columns := dict.fromkeys(column for column, _, _ in parts)) > 1:
            problems.append(
                f"{name('forget_group')} names the columns {', '.join(columns)}; give values of one column."
            )
        return problems

    @property
    def validation_options(self) -> dict[str, Any]:
        """The arguments of `Split.by_class` and the like that say what the validation set is."""
        names = ("validation", "validation_from", "unseen_ids")
        return {**{name: getattr(self, name) for name in names}, "seed": self.split_seed}

    def draw(self, train: Data, test: Data) -> Split:
        """Draw the split.

        Raises:
            SplitError: Lists every problem of these values or of the data.
        """
        # here, so that the help of a command does not import torch
        from .split import Split

        raise_all(self.problems(), SplitError)
        options: dict[str, Any] = {
            **self.validation_options,
            **({"goal": self.goal} if self.goal else {}),
            **({"copies": self.copies} if self.copies else {}),
        }
        if self.forget_class:
            return Split.by_class(train, test, self.forget_class, share=self.class_share, **options)
        if self.forget_share is not None:
            return Split.random(train, test, self.forget_share, **options)
        if self.forget_ids is not None:
            return Split.by_ids(train, test, self.forget_ids, **options)
        parts = [text.partition("=") for text in self.forget_group]
        return Split.by_group(train, test, parts[0][0], [value for _, _, value in parts], **options)
