"""Paths in `expunge.toml`: absolute where a command writes them, and relative to the folder of the file where it reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..data.timm_folder import timm_config
from ..models.adapters import KIND
from ..models.pretrained import FOLDERS
from ..sources.spec import PATH_OPTIONS, PATHS

# entries that name a file
_FILES = ("sign_key", "passphrase_file")


def fixed_paths(values: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return the entries with absolute paths, so that commands find the files from any folder.

    Args:
        values: The entries. Those of a wrong type stay as they are.
        folder: What relative paths are relative to; by default the current folder.
    """
    base = (folder or Path()).absolute()
    changed = dict(values)
    if isinstance(data := values.get("data"), str):
        changed["data"] = _fixed_data(data, base)
    if isinstance(model := values.get("model"), str):
        kind, colon, rest = model.partition(":")
        place, question, query = rest.partition("?")
        is_folder = kind in (*FOLDERS, KIND) or (kind == "timm" and bool(timm_config(_at(place, base))))
        if colon and place and is_folder and _at(place, base).exists():
            if query.startswith("base=") and _at(query[5:], base).exists():
                query = f"base={_at(query[5:], base)}"
            changed["model"] = f"{kind}:{_at(place, base)}{question}{query}"
    for name in _FILES:
        if isinstance(file := values.get(name), str) and file:
            changed[name] = str(_at(file, base))
    if isinstance(folders := values.get("modules"), list):
        changed["modules"] = [str(_at(f, base)) if isinstance(f, str) else f for f in folders]
    return changed


def _at(path: str, base: Path) -> Path:
    return base / Path(path).expanduser()


def _fixed_data(spec: str, base: Path) -> str:
    address, question, query = spec.partition("?")
    source, colon, path = address.partition(":")
    if source not in PATHS:
        return spec
    if colon and path and _is_place(source, path, base):
        address = f"{source}:{_at(path, base)}"
    parts = [part.partition("=") for part in query.split("&")]
    options = [
        f"{name}={_at(value, base) if value and name in PATH_OPTIONS and '://' not in value else value}"
        if equals
        else name
        for name, equals, value in parts
    ]
    return f"{address}{question}{'&'.join(options)}"


def _is_place(source: str, path: str, base: Path) -> bool:
    """Whether the text after the colon is a path. A name may be a folder or the name of a data set."""
    if PATHS[source] == "NAME":
        return source == "hf" and _at(path, base).exists()
    return PATHS[source] is not None and "://" not in path


def missing_places(spec: str) -> Iterator[str]:
    """Yield one sentence for each path of a data spec that does not exist."""
    address, _, query = spec.partition("?")
    source, _, path = address.partition(":")
    places = {"": path} if PATHS.get(source) in ("FOLDER", "FILE") else {}
    if source in PATHS:
        pairs = (part.partition("=") for part in query.split("&"))
        places |= {f"{name}=": value for name, _, value in pairs if name in PATH_OPTIONS}
    for name, place in places.items():
        # shards are a pattern
        is_pattern = source == "webdataset" or "://" in place
        # torchvision makes the folder that it downloads into
        if place and not is_pattern and source != "torchvision" and not Path(place).expanduser().exists():
            yield f"{name}{place} does not exist; name an existing file or folder."
