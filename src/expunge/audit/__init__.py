"""Measure how well a model unlearned. Every measure stands beside Retrain's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate as evaluate
    from .evaluation import gaps as gaps
    from .measure import Measure as Measure
    from .measure import find_measure as find_measure
    from .measure import measure_names as measure_names
    from .result import AuditResult as AuditResult
    from .result import Grounds as Grounds
    from .standard import audit as audit
    from .standard import summarize as summarize
    from .tolerances import Tolerances as Tolerances

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AuditResult": "result",
        "Evaluation": "evaluation",
        "Grounds": "result",
        "Measure": "measure",
        "Tolerances": "tolerances",
        "audit": "standard",
        "evaluate": "evaluation",
        "find_measure": "measure",
        "gaps": "evaluation",
        "measure_names": "measure",
        "summarize": "standard",
    },
)
