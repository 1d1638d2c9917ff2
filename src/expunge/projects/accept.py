"""`expunge status --accept`: check everything that a changed `state.json` says, and seal it as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ExpungeError, raise_all
from ..sources.loading import load
from .entry_checks import entry_problems
from .folder import LEDGER, STATE, Folder, write_state
from .places import SETTINGS
from .prepared import prepare, say_nothing
from .settings import read_settings


def accept_state(
    folder: Folder, state: dict[str, Any], found: tuple[list[str], list[str]], say: Callable[[str], None]
) -> None:
    """Give `state.json` a new seal as it is. The lock must be held.

    Args:
        folder: The project.
        state: Its state.
        found: What is wrong with files (`problems_unsealed`).
        say: Gets a sentence if the data cannot be read, and was not compared.

    Raises:
        ExpungeError: A file that is needed is missing, or an entry contradicts the files, the ledger, the settings or the data.
            All are listed. Nothing is changed.
    """
    of_files, of_evidence = found
    try:
        of_entries = entry_problems(folder, state)
    except ExpungeError as error:
        of_entries = error.problems if not of_files else []
    raise_all([*of_entries, *of_files])
    raise_all(of_evidence)
    _compare_data(folder, state, say)
    # the next command reads all evidence again
    write_state(folder.path / STATE, {**state, "stats": {}}, folder.find(LEDGER, state))


def _compare_data(folder: Folder, state: dict[str, Any], say: Callable[[str], None]) -> None:
    """Let all checks of a command run on settings and data. Data that cannot be read says nothing."""
    settings = read_settings(folder.settings_file)
    if not state.get("drawn"):
        return
    try:
        load(settings.data)
    except ExpungeError as error:
        say(
            f"the data cannot be read, so the entry drawn of {STATE} was not compared with it: {error.problems[0]}"
        )
        return
    try:
        prepare(folder, say_nothing)
    except ExpungeError as error:
        raise ExpungeError(
            [
                f"{folder.path / STATE} is not accepted, because its entry drawn, {SETTINGS} and the data contradict each other: {text}"
                for text in error.problems
            ]
        ) from error
