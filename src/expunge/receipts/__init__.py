"""Evidence of unlearning: receipts, their keys and proofs, and the ledger of deletion requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .keys import make_key as make_key
    from .ledger import Ledger as Ledger

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Ledger": "ledger",
        "make_key": "keys",
    },
)
