"""Choose the settings of a method: search, trials on validation data, presets of known data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .one_call import unlearn as unlearn
    from .presets import recipe as recipe
    from .search import Trial as Trial
    from .trials import tune as tune
    from .tuned import Tuned as Tuned

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Trial": "search",
        "Tuned": "tuned",
        "recipe": "presets",
        "tune": "trials",
        "unlearn": "one_call",
    },
)
