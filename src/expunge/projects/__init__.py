"""A project: a folder (or a Python session) with model, data, recipe, limits and all deletion requests in order."""

from ..lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"Project": "project", "ProjectSettings": "settings", "Session": "session"}
)
