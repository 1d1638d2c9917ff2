"""A folder, or a Python session, that keeps a model and every deletion request it has answered."""

from .project import Project
from .session import Session

__all__ = ["Project", "Session"]
