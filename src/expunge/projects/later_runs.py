"""Files of runs that a state does not list: state and ledger are older than the models beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# files of a run, such as models/0002.receipt.json
_OF_RUN = re.compile(r"([0-9]{4,})\..+")


def later_files(models: Path, runs: int) -> list[Path]:
    """Return the files of later runs than run `runs` in the folder of the models, in the order of their names."""
    if not models.is_dir():
        return []
    names = ((path, _OF_RUN.fullmatch(path.name)) for path in models.iterdir())
    return sorted(path for path, name in names if name and int(name[1]) > runs)


def later_run_problems(path: Path, state: Mapping[str, Any], models: str, name: str) -> list[str]:
    """Return why a state is older than the files of its models, as one sentence. A run from it would learn later requests again.

    Args:
        path: The folder of the project.
        state: Its state.
        models: Name of the folder of the models.
        name: Name of the file of the state.
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
    return [
        f"{files[0]}{more} of {runs}, and {path / name} knows no run after run {last}: {name} and the ledger are older than the models, "
        "and a new run would learn again what later ones removed. Restore all files of the project from one backup, of the time of the "
        f"latest model. Without such a backup, {new}."
    ]
