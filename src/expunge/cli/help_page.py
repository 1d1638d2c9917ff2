"""The help pages: an example first, then required flags, then common ones; `--help-all` adds the rare ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cyclopts import App, Group
from cyclopts.help.formatters import DefaultFormatter

from .help_examples import example
from .settings_flags import RARE

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

HELP, HELP_ALL = ("--help", "-h"), "--help-all"
# after the required flags, which the library would put behind them
PARAMETERS = Group("Parameters", sort_key=0.5)


class Panels:
    """Draws the panels of a page, but those of rare flags only if `everything` is asked for."""

    def __init__(self, everything: bool):
        self.everything = everything
        self.left_out: list[str] = []
        self.draw = DefaultFormatter()

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Draw the line of usage."""
        self.draw.render_usage(console, options, usage)

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Draw what the command does."""
        self.draw.render_description(console, options, description)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Draw one panel. A switch that is off is shown by its one useful form."""
        if panel.title in RARE and not self.everything:
            self.left_out.append(str(panel.title).lower())
            return
        panel.entries = [
            entry.copy(negative_names=(), default=None) if entry.default == "False" else entry
            for entry in panel.entries
        ]
        self.draw(console, options, panel)


def asks_for_help(words: Sequence[str]) -> bool:
    """Return whether the words ask for a help page."""
    return len(without_help(words)) < len(words)


def without_help(words: Sequence[str]) -> list[str]:
    """Return the words that name the command of a help page."""
    return [word for word in words if word not in (*HELP, HELP_ALL)]


def show_help(app: App, command: Sequence[str], *, everything: bool) -> None:
    """Print the help page of a command, with the rare flags if `everything` is asked for."""
    panels = Panels(everything)
    app.help_formatter = panels
    if text := example(list(command)):
        print(f"Example:\n  {text}\n")
    app.help_print(command)
    if panels.left_out:
        print(f"{HELP_ALL} adds the flags for rare needs: {', '.join(panels.left_out)}.")
