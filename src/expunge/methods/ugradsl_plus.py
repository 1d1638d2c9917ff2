"""UGradSL+: the loss of UGradSL, in passes over the retain set; the forget set repeats as needed.

    loss = p * CE(retain) - (1 - p) * CE_alpha(forget)    with CE_alpha as in UGradSL

Source: Di et al., arXiv:2406.07698 (ICLR 2026). See `ugradsl` for what is published and what is ours.

A step costs twice as much as one of FT. In the paper's tables it is the better of the two variants.

Cost: One pass over the retain set for each epoch, with as many forget samples beside it: twice the samples of
FT.

When not to use it: There is no retain set or no validation set, or the retain set is too large for a pass:
ugradsl passes over the forget set only.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ugradsl import UGradSL


@dataclass(frozen=True, kw_only=True)
class UGradSLPlus(UGradSL):
    """Ascend with negative label smoothing and descend on the retain set, in passes over the retain set (UGradSL+).

    Args:
        lr: Learning rate.
    """

    lr: float = 1e-2

    def plan(self) -> str:
        return "retain" if self.p == 1 else "retain+forget"
