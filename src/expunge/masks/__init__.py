"""Masks: which parameters may move. Saliency, exact selection, files, and the context that holds the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_exports

if TYPE_CHECKING:
    from .mask import full_mask as full_mask
    from .mask import inverted_mask as inverted_mask
    from .mask import masked as masked
    from .mask import random_mask as random_mask
    from .mask import saliency_mask as saliency_mask
    from .mask import top_mask as top_mask
    from .mask_file import Mask as Mask
    from .mask_file import combine as combine
    from .mask_file import overlap as overlap
    from .other_masks import mask_for_model as mask_for_model
    from .saliency import saliency_scores as saliency_scores

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Mask": "mask_file",
        "combine": "mask_file",
        "full_mask": "mask",
        "inverted_mask": "mask",
        "mask_for_model": "other_masks",
        "masked": "mask",
        "overlap": "mask_file",
        "random_mask": "mask",
        "saliency_mask": "mask",
        "saliency_scores": "saliency",
        "top_mask": "mask",
    },
)
