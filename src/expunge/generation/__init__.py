"""Text-to-image pipelines and generators: erase a concept or a class, sample images, audit the erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .erase import erase as erase
    from .erased import Erased as Erased
    from .erasure_audit import audit_erasure as audit_erasure

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Erased": "erase",
        "audit_erasure": "erasure_audit",
        "erase": "erase",
    },
)
