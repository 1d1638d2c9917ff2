"""UGradSL+: the objective of UGradSL, with a pass over the retain set for an epoch and the forget set cycling beside.

Di et al., arXiv:2406.07698 (ICLR 2026); see `ugradsl` for what is published and what is ours. Twice the cost of FT, and
the better of the two in the paper's tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ugradsl import UGradSL


@dataclass(frozen=True, kw_only=True)
class UGradSLPlus(UGradSL):
    """UGradSL+: ascent with negative label smoothing beside descent, over the retain set."""

    lr: float = 1e-2

    def plan(self) -> str:
        return "retain" if self.p == 1 else "retain+forget"
