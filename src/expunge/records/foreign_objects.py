"""Name the objects of a torch file that are neither tensors nor plain values, without running code in it.

The file is unpickled with a stand-in for every class and function, so that nothing of the file is called.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# modules whose objects torch reads with weights_only
TORCH = ("torch", "collections")


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
    def find_class(self, module: str, name: str) -> Any:
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
    try:
        content = _Unpickler(io.BytesIO(_pickle_of(path))).load()
    # a broken or hostile file may raise anything
    except Exception:
        return {}
    return dict(_walk(content, ""))


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
