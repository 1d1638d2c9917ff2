"""`expunge completion`: completion of commands, methods and flags by the Tab key."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import App, Parameter

from ..errors import ExpungeError
from ..records.atomic_files import write_text

Shell = Literal["bash", "zsh", "fish", "powershell"]


def completion(
    *,
    shell: Shell | None = None,
    out: Path | None = None,
    startup: Annotated[bool, Parameter(negative="--no-startup")] = True,
) -> None:
    """Install completion of commands, methods and flags by the Tab key.

    It holds the commands and methods of this version: give the command again after an update.

    Args:
        shell: The shell. By default that of the current terminal.
        out: File for the script. By default the file that the shell looks for in the home folder.
        startup: Add a line to the start-up file of the shell that loads the script. Never done with --out.
    """
    from cyclopts.completion.install import add_to_rc_file, get_default_completion_path

    name = shell or _current_shell()
    script = whole_app().generate_completion(shell=name)
    path = out or get_default_completion_path(name, "expunge")
    write_text(path, script)
    print(f"completion for {name}: {path}")
    if out is None and startup and name != "fish" and add_to_rc_file(path, "expunge", name):
        print("the start-up file of the shell loads it; open a new terminal.")


def _current_shell() -> Shell:
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    try:
        return detect_shell()
    except ShellDetectionError:
        raise ExpungeError(
            f"the shell of this terminal is not known; give --shell: one of {', '.join(get_args(Shell))}."
        ) from None


def whole_app() -> App:
    """Return the application with every command, method and flag. This imports all of them."""
    from .app import COMMANDS, build_app

    app = build_app([])
    for name, command in COMMANDS.items():
        if not command.per_method:
            continue
        del app[name]
        commands = command.load()()
        several = commands.app([])
        for method in commands.methods():
            del several[method]
            # a method for Python alone has no flags
            with suppress(ExpungeError):
                several.command(commands.build(method), name=method)
        app.command(several)
    return app
