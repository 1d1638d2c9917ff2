"""Run a model that torch.compile compiled as it was before, because hooks inside it do not run otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled models eagerly inside the block."""
    # the module is loaded by the first compilation, and takes seconds
    if "torch._dynamo.eval_frame" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
