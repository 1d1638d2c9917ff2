"""Files of runs that a state does not list: it is older than the models beside it, and the ledger may be so too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ExpungeError

RECEIPT_SUFFIX = ".receipt.json"
# files of a run, such as models/0002.receipt.json
_OF_RUN = re.compile(r"([0-9]{4,})\..+")


def later_files(models: Path, runs: int) -> list[Path]:
    """Return the files of later runs than run `runs` in the folder of the models, in the order of their names."""
    if not models.is_dir():
        return []
    names = ((path, _OF_RUN.fullmatch(path.name)) for path in models.iterdir())
    return sorted(path for path, name in names if name and int(name[1]) > runs)


def later_run_problems(
    path: Path,
    state: Mapping[str, Any],
    models: str,
    name: str,
    ledger: Path,
    open_ledger: Callable[[Path], Any],
) -> list[str]:
    """Return why a state is older than the files of its models, as one sentence. A run from it would learn later requests again.

    Args:
        path: The folder of the project.
        state: Its state.
        models: Name of the folder of the models.
        name: Name of the file of the state.
        ledger: The ledger of the project.
        open_ledger: Makes a `Ledger` of its path.
    """
    last = len(state["models"]) - 1
    if not (files := later_files(path / models, last)):
        return []
    numbers = sorted({int(file.name.partition(".")[0]) for file in files})
    runs = f"run {numbers[0]}" if len(numbers) == 1 else f"runs {numbers[0]} to {numbers[-1]}"
    more = f" and {len(files) - 1} more files are" if len(files) > 2 else ""
    more = f" and {files[1]} are" if len(files) == 2 else more or " is"
    of = max((f for f in files if f.name.endswith(".requests.json")), default=None, key=lambda f: f.name)
    model = "" if of is None else str(of).removesuffix(".requests.json") + ".safetensors"
    new = (
        f"begin a new project with the model of the latest run (`expunge init NEW --checkpoint {model}`), which keeps the samples of all "
        "its requests out"
        if model and Path(model).is_file()
        else "begin a new project with a model that you train without the samples of all requests"
    )
    knows = _knows(ledger, files, open_ledger)
    older = {
        True: f"{name} is",
        False: f"{name} and the ledger are",
        None: f"{name}, and perhaps the ledger, is",
    }[knows]
    restore = (
        f"Restore {name} and all other files that came from the same backup as they were after run {numbers[-1]}; {ledger} knows it"
        if knows
        else "Restore all files of the project from one backup, of the time of the latest model"
    )
    return [
        f"{files[0]}{more} of {runs}, and {path / name} knows no run after run {last}: {older} older than the models, "
        f"and a new run would learn again what later ones removed. {restore}. Without such a backup, {new}."
    ]


def _knows(ledger: Path, files: Sequence[Path], open_ledger: Callable[[Path], Any]) -> bool | None:
    """Return whether a ledger has the receipt of the latest of these runs. None if that cannot be read."""
    receipts = [f for f in files if f.name.endswith(RECEIPT_SUFFIX)]
    if not receipts or not ledger.is_file():
        return None
    try:
        name = json.loads(receipts[-1].read_text(encoding="utf-8"))["id"]
        return any(request.receipt == name for request in open_ledger(ledger).requests())
    except (OSError, ValueError, KeyError, TypeError, ExpungeError):
        return None
