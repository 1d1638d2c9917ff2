"""Measure how well a model unlearned. Every measure stands beside Retrain's."""

from .evaluation import Evaluation, evaluate, gaps
from .grounds import Grounds, Tolerances
from .measure import Measure, find_measure, measure_names
from .standard import AuditResult, audit, summarize

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
