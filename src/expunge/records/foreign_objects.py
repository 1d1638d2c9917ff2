"""Name the objects of a torch file that are neither tensors nor plain values, without running code in it.

The file is unpickled with a stand-in for every class and function, so that nothing of the file is called.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# modules whose objects torch reads with weights_only
TORCH = ("torch", "collections")
NUMPY = "numpy."
# what files of torch before 1.6 begin with
LEGACY_START = 0x1950A86A20F9469CFC6C


class StandIn:
    """What an object of the file becomes. It takes every call of the unpickler and does nothing."""

    origin = ""

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.items: list[tuple[Any, Any]] = []

    def __setstate__(self, state: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """Take a value of a list."""
        self.items.append((len(self.items), value))

    def extend(self, values: Any) -> None:
        """Take the values of a list."""
        for value in values:
            self.append(value)


class _Unpickler(pickle.Unpickler):
    """Reads with stand-ins. `named` gets every class and function of the file, also those inside of other objects."""

    def __init__(self, file: io.BytesIO, named: dict[str, None]):
        super().__init__(file)
        self.named = named

    def find_class(self, module: str, name: str) -> Any:
        # names of Python 2, which protocol 2 writes
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        self.named[f"{module}.{name}"] = None
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        return type(name, (StandIn,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        return None


class _Dict(dict):
    """An ordered dict, whose attributes are not read."""

    def __setstate__(self, state: Any) -> None:
        return None


def foreign_objects(path: Path) -> dict[str, str]:
    """Return {entry: class} of the objects that are no tensors or plain values, for example {"args": "argparse.Namespace"}.

    Entries are paths with dots. The result is empty if the file cannot be parsed.
    """
    content, _ = _read(path)
    return dict(_walk(content, ""))


def needed_classes(path: Path) -> list[str]:
    """Return every class and function that a conversion must allow, so that one command names all of them.

    Of NumPy one name stands for all that its arrays and numbers need.

    Args:
        path: The torch file. The result is empty if it cannot be parsed.
    """
    content, named = _read(path)
    shown = set(dict(_walk(content, "")).values())
    foreign = [name for name in named if not _is_read(name)]
    numpy = [name for name in foreign if name.startswith(NUMPY) and name not in shown]
    others = {name for name in foreign if not name.startswith(NUMPY)}
    has_numpy = any(name.startswith(NUMPY) for name in shown)
    return sorted(shown | others | set(numpy[:1] if numpy and not has_numpy else ()))


def _read(path: Path) -> tuple[Any, dict[str, None]]:
    """The content with stand-ins, and {name: None} of the classes in the order of the file. A broken file gives what was read."""
    named: dict[str, None] = {}
    content = None
    # a broken or hostile file may raise anything
    with suppress(Exception):
        file = io.BytesIO(_pickle_of(path))
        content = _Unpickler(file, named).load()
        # files of torch before 1.6 have three pickles in front
        if content == LEGACY_START:
            for _ in range(3):
                content = _Unpickler(file, named).load()
    return content, named


def _is_read(name: str) -> bool:
    """Whether torch reads a class with weights_only."""
    try:
        from torch._weights_only_unpickler import _get_allowed_globals

        return name in _get_allowed_globals()
    # not part of torch's interface
    except (ImportError, TypeError):
        return name.partition(".")[0] in TORCH


def _pickle_of(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))


def _walk(value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > 50:
        return
    if isinstance(value, StandIn):
        if value.origin.partition(".")[0] not in TORCH:
            yield place or "the whole file", value.origin
        return
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    for key, item in inside:
        yield from _walk(item, f"{place}.{key}" if place else str(key), depth + 1)
