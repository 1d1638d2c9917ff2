"""Text-to-image pipelines and generators: erase a concept or a class, sample images, audit the erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .erased import Erased as Erased
    from .erasure_audit import audit_erasure as audit_erasure
    from .options import EraseOptions as EraseOptions

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Erased": "erased",
        "audit_erasure": "erasure_audit",
        "EraseOptions": "options",
    },
)
