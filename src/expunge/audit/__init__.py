"""Measure how well a model unlearned. Every measure stands beside Retrain's."""

from .evaluation import Evaluation, evaluate, gaps
from .standard import AuditResult, audit, summarize

__all__ = ["AuditResult", "Evaluation", "audit", "evaluate", "gaps", "summarize"]
