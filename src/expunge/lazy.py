"""Export names of a package that are imported at their first use, so that printing help imports nothing heavy."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_exports(
    package: str, exports: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package (PEP 562).

    Args:
        package: Name of the package, its `__name__`.
        exports: {name: module inside the package that defines it}.

    Example:
        >>> __getattr__, __dir__, __all__ = lazy_exports(__name__, {"Split": "split"})  # doctest: +SKIP
    """

    def getattribute(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(importlib.import_module(f"{package}.{exports[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattribute, lambda: sorted({*vars(sys.modules[package]), *exports}), sorted(exports)
