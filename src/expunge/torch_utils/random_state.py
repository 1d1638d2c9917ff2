"""Seed every random generator that Python code draws from, and restore them all: torch, NumPy, `random`, and held ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
# how far attributes are followed to find generators, how many entries of a list are looked at, and how many objects
DEPTH = 5
ENTRIES = 32
OBJECTS = 2000
# NumPy's global generator takes no larger seed
NUMPY_SEEDS = 2**32


def seed_torch(seed: int) -> None:
    """Seed torch's global generators, those of accelerators where there are any.

    `torch.manual_seed` writes down the call stack for accelerators that are not there, which takes longer than a small step.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them afterwards."""
    with torch.random.fork_rng():
        seed_torch(seed)
        yield


@contextmanager
def drawing_from(seed: int, held: Iterable[Any] = ()) -> Iterator[None]:
    """Seed the global generators of torch (CPU), NumPy and `random` inside the block, and restore them afterwards.

    Args:
        seed: The seed, from 0 to 2^63 - 1.
        held: Other generators to seed and restore, such as those that `held_generators` finds.

    Example:
        >>> with drawing_from(3):
        ...     x = torch.rand(2), np.random.rand(2), random.random()
    """
    with ExitStack() as restored:
        for generator in (torch.default_generator, *held):
            restored.callback(_restoration(generator))
            _seed(generator, seed)
        restored.callback(np.random.set_state, np.random.get_state())
        restored.callback(random.setstate, random.getstate())
        np.random.seed(seed % NUMPY_SEEDS)
        random.seed(seed)
        yield


def _restoration(generator: Any) -> Callable[[], Any]:
    """A function that gives the generator its present state back."""
    if isinstance(generator, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, np.random.Generator):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return partial(generator.set_state, generator.get_state())
    return partial(generator.setstate, generator.getstate())


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state  # type: ignore[call-arg]
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % NUMPY_SEEDS)
    else:
        generator.seed(seed)


def held_generators(holder: Any) -> list[Any]:
    """Return the random generators that an object holds: in attributes, transforms, closures and the modules of its classes.

    Generators of `random` that draw from the system, and those of a GPU, cannot be seeded here and are left out.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set()
    pending = [(holder, 0)]
    while pending and len(seen) < OBJECTS:
        value, depth = pending.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, GENERATORS):
            if _can_be_seeded(value):
                found[id(value)] = value
        elif depth < DEPTH:
            pending += [(part, depth + 1) for part in _parts(value)]
    return list(found.values())


def _can_be_seeded(generator: Any) -> bool:
    if isinstance(generator, torch.Generator):
        return generator.device.type == "cpu" and generator is not torch.default_generator
    return not isinstance(generator, random.SystemRandom)


def _parts(value: Any) -> list[Any]:
    """What an object holds that may be, or hold, a generator."""
    if isinstance(value, list | tuple):
        return list(value[:ENTRIES])
    if isinstance(value, dict):
        return list(islice(value.values(), ENTRIES))
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return cells + [v for v in value.__globals__.values() if isinstance(v, GENERATORS)]
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict) or isinstance(value, type | torch.Tensor):
        return []
    # the methods by which a data set and a transform are used
    methods = (getattr(type(value), name, None) for name in ("__getitem__", "__call__"))
    return [*attributes.values(), *(m for m in methods if isinstance(m, FunctionType))]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
