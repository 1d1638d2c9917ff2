"""Measure how well a model unlearned. Every measure stands beside Retrain's."""

from .evaluation import Evaluation, evaluate, gaps
from .grounds import Tolerances
from .measure import Measure, find_measure, measure_names
from .result import AuditResult, Grounds
from .standard import audit, summarize

__all__ = [
    "AuditResult",
    "Evaluation",
    "Grounds",
    "Measure",
    "Tolerances",
    "audit",
    "evaluate",
    "find_measure",
    "gaps",
    "measure_names",
    "summarize",
]
