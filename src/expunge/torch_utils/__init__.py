"""Small tools for PyTorch: modes and random state of a model, memory formats, the allocator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .allocator import keep_freed_memory as keep_freed_memory
    from .module_state import device_of as device_of
    from .module_state import evaluating as evaluating
    from .module_state import seeded as seeded

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "device_of": "module_state",
        "evaluating": "module_state",
        "keep_freed_memory": "allocator",
        "seeded": "module_state",
    },
)
