"""Kinds of models: the contract `Task`, and the built-in tasks for classifiers and diffusion models."""

from .classification import Classification
from .diffusion import Diffusion
from .predictions import SampleScores
from .task import Task

BUILT_IN: tuple[type[Task], ...] = (Classification, Diffusion)

__all__ = ["BUILT_IN", "Classification", "Diffusion", "SampleScores", "Task"]
