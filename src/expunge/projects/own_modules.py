"""The folders from which a project imports the user's own code: data, models, methods and measures as `package.module:name`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ExpungeError, raise_all
from ..imports import search_in
from ..models import KINDS
from ..own_code import is_installed_file
from ..sources.spec import PATHS


def use_modules(entries: Any) -> None:
    """Let imports find modules in the folders of the entry `modules`, before the current folder.

    Raises:
        ExpungeError: A folder does not exist, or a module of the same name is loaded from another place.
    """
    missing = [folder for folder in entries.modules if not Path(folder).is_dir()]
    raise_all(
        [f"{folder} is no folder; name the one that has {_names(entries)}." for folder in missing],
        ExpungeError,
    )
    search_in(entries.modules)
    for name in _modules(entries.model_dump()):
        if (place := _loaded_elsewhere(name, entries.modules)) is not None:
            raise ExpungeError(
                f"{name} is to be imported from {place[0]}, and this process has loaded a module of that name from {place[1]}; give the "
                "modules different names, or open each project in a process of its own."
            )


def module_folders(values: Mapping[str, Any]) -> list[str]:
    """Return the folders in which the user's own modules of entries lie, as absolute paths. Installed packages are left out.

    Args:
        values: The entries. Their modules have been imported.
    """
    folders = []
    for name in _modules(values):
        file = _file(name)
        if file is not None and not is_installed_file(file):
            folders.append(str(_root(file)))
    return list(dict.fromkeys(folders))


def _modules(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the outermost package of each `package.module:name` that entries name, once."""
    data, model = str(values.get("data", "")), str(values.get("model", ""))
    specs = [data] if data.partition("?")[0].partition(":")[0] not in PATHS else []
    specs += [model] if model.partition(":")[0] not in KINDS else []
    specs += [str(values.get("method", "")), *map(str, values.get("measures") or ())]
    names = (spec.partition(":")[0].partition(".")[0] for spec in specs if ":" in spec)
    yield from dict.fromkeys(name for name in names if name.isidentifier())


def _names(entries: Any) -> str:
    names = [f"{name}.py or {name}/" for name in _modules(entries.model_dump())]
    return ", ".join(names) or "the modules, or leave it out"


def _file(name: str) -> Path | None:
    """Return the file of a module or package, loaded or not. None if there is none."""
    try:
        found = find_spec(name)
    # a module that a script made has no specification
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    if found.origin and found.has_location:
        return Path(found.origin).absolute()
    # a folder without __init__.py
    places = list(found.submodule_search_locations or ())
    return Path(places[0]).absolute() / "__init__.py" if places else None


def _root(file: Path) -> Path:
    """Return the folder to search for a module, given its file."""
    return file.parent.parent if file.stem == "__init__" else file.parent


def _loaded_elsewhere(name: str, folders: list[str]) -> tuple[Path, Path] | None:
    """Return where the project has a module and where the loaded one lies, if these are two places."""
    wanted = next((Path(f).resolve() for f in folders if _has(Path(f), name)), None)
    if wanted is None or name not in sys.modules:
        return None
    file = _file(name)
    if file is None or _root(file).resolve() == wanted:
        return None
    return wanted, _root(file)


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()
