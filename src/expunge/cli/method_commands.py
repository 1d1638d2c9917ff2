"""Commands that a method follows, such as `expunge unlearn salun`: the method decides which flags there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclopts import App, Group

from ..errors import ExpungeError
from ..training.method import Method
from .help_page import PARAMETERS
from .settings_flags import help_text


@dataclass(frozen=True)
class MethodCommands:
    """A command with one sub-command per method.

    Args:
        name: The command.
        text: What it does, for its help page.
        methods: Returns {method: its line of help}. It may import every method, and is called for the help page only.
        build: Returns the function of one method's sub-command. Raises `ExpungeError` for a method that is unknown or
            unsuitable.
    """

    name: str
    text: str
    methods: Callable[[], Mapping[str, str]]
    build: Callable[[str], Callable[..., Any]]

    def app(self, words: Sequence[str]) -> App:
        """Return the application for the words after the command. Only the method that they name is imported."""
        app = App(
            name=self.name,
            help=help_text(self.text),
            usage=f"Usage: expunge {self.name} METHOD [OPTIONS]",
            group_parameters=PARAMETERS,
            group_commands=Group("Methods"),
        )
        first = words[0] if words else ""
        if first and not first.startswith("-"):
            _make_current_folder_importable()
            function = self.build(first)
            app.command(function, name=first, help=help_text(function.__doc__))
        elif first in ("", "--help", "-h"):
            for name, line in self.methods().items():
                app.command(_placeholder, name=name, help=line)
        else:
            raise ExpungeError(
                f"no method is named before {first}; write `expunge {self.name} METHOD {first} ...`. "
                f"`expunge {self.name} --help` lists the methods."
            )
        return app


def _make_current_folder_importable() -> None:
    """Let `package.module:Class` name a module of the current folder, as `python -m expunge` does."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _placeholder() -> None:
    """Stand for a method on the help page, which shows only its name and its line."""


def first_line(method: type[Method]) -> str:
    """Return the line of help of a method: the first line of its class docstring."""
    return (method.__doc__ or "").strip().partition("\n")[0]
