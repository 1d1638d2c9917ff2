"""Silence what diffusers and transformers print on their own while a pipeline is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def quiet(*, notes: bool = False) -> Iterator[None]:
    """Show no progress bars of diffusers and transformers. What was shown before is shown again afterwards.

    Args:
        notes: Hide their warnings too. Not for loading: a warning may say that parameters are missing.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    with ExitStack() as after:
        for logging in (of_diffusers, of_transformers):
            after.enter_context(_quiet(logging, notes))
        yield


@contextmanager
def _quiet(logging: Any, notes: bool) -> Iterator[None]:
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    if notes:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
