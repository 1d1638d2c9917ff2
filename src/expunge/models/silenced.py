"""Silence what a library of Hugging Face prints on its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def silenced(logging: Any, *, warnings: bool = True) -> Iterator[None]:
    """Show no progress bars, and no warnings. What was shown before is shown again afterwards.

    Args:
        logging: The module `utils.logging` of diffusers or transformers.
        warnings: Hide warnings too.
    """
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    if warnings:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
