"""The one pipeline: original, retrained reference, methods, scores, records. Every command, demo and benchmark uses it."""

from .experiment import experiment, train
from .factory import seeded_factory
from .outcome import Outcome, Reference, References
from .pipeline import Pipeline
from .watch import Trials, Watch

__all__ = [
    "Outcome",
    "Pipeline",
    "Reference",
    "References",
    "Trials",
    "Watch",
    "experiment",
    "seeded_factory",
    "train",
]
