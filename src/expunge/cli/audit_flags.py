"""The flags of `expunge audit`. They import no torch, so that the help of the command is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..audit.strong_settings import StrongSettings
from .checks import problems_of
from .settings_flags import with_help

if TYPE_CHECKING:
    from ..audit.tolerances import Tolerances

StrongFlags: Any = with_help(StrongSettings)


@with_help
@dataclass(frozen=True, kw_only=True)
class AuditFlags:
    """The models of an audit and its results.

    Args:
        checkpoint: The unlearned model. If the file holds further models of its shape, each is scored too.
        ema: Entry that holds the model, in a .pt file with several: state_dict_ema, or a path with dots. It is looked for in the
            files of --checkpoint and --original.
        original: The original model.
        retrained: A model retrained without the forget set. Without it there are no gaps.
        level: The strong audit adds attacks with shadow populations, relearning and features. It takes minutes to hours;
            the standard audit takes seconds.
        seed: Seed of the samples that the membership attack is fitted on.
        max_gap: Largest average gap to Retrain that passes, in percentage points. Needs --retrained.
        reference_tolerance: Largest difference of RA, and of TA, between --retrained and --original, in percentage points.
            Beyond it the retrained model is not comparable, and the audit draws no conclusion.
        out: Record to write (JSON).
        report: HTML report to write.
        measure: Extra measures: names such as ToW, or package.module:Class. Can be repeated.
        history: File with the requests that the checkpoint's model has answered. By default the file beside the checkpoint.
            Their samples are scored too.
        show_forgotten: Show up to 12 forgotten samples in record and report, each with picture, id and predictions.
    """

    checkpoint: Path
    original: Path
    ema: str | None = None
    retrained: Path | None = None
    level: Literal["standard", "strong"] = "standard"
    seed: int = 0
    max_gap: float | None = None
    reference_tolerance: float = 10.0
    out: Path | None = None
    report: Path | None = None
    measure: tuple[str, ...] = ()
    history: Path | None = None
    show_forgotten: bool = False

    @property
    def tolerances(self) -> Tolerances:
        """The tolerances of the audit."""
        from ..audit.tolerances import Tolerances

        return Tolerances(reference=self.reference_tolerance)

    def problems(self) -> list[str]:
        """Return what is wrong with `max_gap` and `reference_tolerance`, one sentence each."""
        problems = problems_of(self.tolerances.check)
        if self.max_gap is None:
            return problems
        if not self.max_gap >= 0:
            problems.append(f"--max-gap is {self.max_gap:g}; give the points that are allowed, 0 or more.")
        if self.retrained is None:
            problems.append("--max-gap needs --retrained: without a retrained model there is no gap.")
        return problems
