"""ToW-MIA: the "tug of war" with the membership attack in place of the accuracy on the forget set.

Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, "What makes unlearning hard and what to do about it",
arXiv:2406.01257: the product of 1 - |score - Retrain's score| over MIA, retain and test accuracy, from 0 to 1. The
attack here is the SVM of the score MIA, our choice.
"""

from __future__ import annotations

from typing import ClassVar

from .tow import ToW


class ToWMIA(ToW):
    """Multiply the closeness to Retrain by MIA, on the retain set and on the test set."""

    name = "ToW_MIA"
    glossary = "Closeness to Retrain by MIA and on retain and test set in one number: 1 is equal, 0 is as far as possible."
    compared: ClassVar = ("MIA", "RA", "TA")
