"""How well a model unlearned: measures beside those of Retrain."""

from .accuracy import AuditResult, Judged, audit, gaps, judge, summarize

__all__ = ["AuditResult", "Judged", "audit", "gaps", "judge", "summarize"]
