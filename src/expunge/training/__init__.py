"""Run a method: its base classes, the registry, the one training loop with guard and resumption, several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .method import GradientMethod as GradientMethod
    from .method import Method as Method
    from .registry import find as find
    from .registry import names as names
    from .run import Compute as Compute
    from .run import Run as Run

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Compute": "run",
        "GradientMethod": "method",
        "Method": "method",
        "Run": "run",
        "find": "registry",
        "names": "registry",
    },
)
