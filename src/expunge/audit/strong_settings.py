"""Settings of the strong audit, and the names of its attacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import raise_all

AttackName = Literal[
    "lira", "rmia", "challenge", "klom", "iam", "ruli", "label-only", "relearning", "confusion", "features"
]
ATTACKS: tuple[AttackName, ...] = get_args(AttackName)
WITH_SHADOWS = {"lira", "rmia", "challenge", "klom", "iam", "ruli"}


@dataclass(frozen=True, kw_only=True)
class StrongSettings:
    """Choose what a strong audit runs, and with how much effort.

    Args:
        attacks: Attacks to run. The default runs all.
        shadows: Number of shadow originals, and of retrained shadow models. At least 4.
        share: Share of the retained samples that each shadow sees, above 0 and at most 1. Every shadow original also
            sees all forget samples.
        folder: Folder that keeps the shadow models. An interrupted run continues from it.
        relearn_steps: Number of steps after which relearning stops.
        seed: Seed of everything random in the audit.
    """

    attacks: tuple[AttackName, ...] = ATTACKS
    shadows: int = 32
    share: float = 1.0
    folder: Path | None = None
    relearn_steps: int = 200
    seed: int = 0

    def check(self) -> None:
        """Raise `ExpungeError` with every problem."""
        # the import of torch would make `expunge audit --help` slow
        from ..torch_utils.module_state import check_seed

        check_seed(self.seed)
        problems = [
            f"there is no attack '{a}'; the attacks are {', '.join(ATTACKS)}."
            for a in self.attacks
            if a not in ATTACKS
        ]
        if self.shadows < 4:
            problems.append(
                f"shadows is {self.shadows}; give 4 or more, because halves of a population are compared."
            )
        if not 0 < self.share <= 1:
            problems.append(f"share is {self.share:g}; give a share above 0 and at most 1.")
        if self.relearn_steps < 1:
            problems.append(f"relearn_steps is {self.relearn_steps}; give at least 1.")
        raise_all(problems)
