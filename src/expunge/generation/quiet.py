"""Silence what diffusers and transformers print on their own while a pipeline is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..models.silenced import silenced


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
            after.enter_context(silenced(logging, warnings=notes))
        yield
