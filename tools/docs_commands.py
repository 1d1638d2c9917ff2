"""Make docs/command_line.md from the parser: every command with its flags, their defaults and their meaning."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from cyclopts import App
from docstring_parser import parse

from expunge.cli.app import COMMANDS, build_app

# flags of the settings of a method are on the page of the method
EXAMPLE_METHOD = "salun"
HEADER = """# Command line

This page lists every command and its flags, as `expunge COMMAND --help` prints them. `python tools/docs_pages.py` makes it from
the parser.

```
expunge --help
expunge audit --help                                 # an example, required flags, common flags
expunge audit --help-all                             # also flags for rare needs, such as trackers
expunge completion --shell bash --out tab.bash       # the Tab key completes commands, methods and flags; without --out, it is installed
```

Every command takes `--debug`, which adds the traceback to an error. [failures.md](failures.md) lists the exit codes. A flag without a
default and without the mark *required* is off, or its meaning says what happens without it.
"""


def _text(value: str) -> str:
    """Return help as Markdown in the cell of a table."""
    # names in capitals, paths and patterns with | or < would be read as markup
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _default(argument: Any) -> str:
    shown = argument.parameter.show_default
    if argument.required:
        return "*required*"
    if shown is False or shown is None:
        value = argument.field_info.default
        return (
            ""
            if value is None or value in ("", ()) or value is argument.field_info.empty
            else f"`{_shown(value)}`"
        )
    return f"`{shown}`" if isinstance(shown, str) else ""


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _names(argument: Any) -> str:
    names = [name for name in argument.names if "empty-" not in name]
    return ", ".join(f"`{name}`" for name in names)


def flags(app: App) -> str:
    """Return the flags of a command, a table for each group of its help."""
    groups: dict[str, list[str]] = defaultdict(list)
    # the library reads the docstring of a command when it prints help
    documented = {p.arg_name: p.description or "" for p in parse(app.default_command.__doc__ or "").params}
    for argument in app.assemble_argument_collection():
        if not argument.show:
            continue
        meaning = argument.parameter.help or documented.get(argument.field_info.name, "")
        title = getattr((argument.parameter.group or ("Parameters",))[0], "name", "Parameters")
        groups[title].append(f"| {_names(argument)} | {_default(argument)} | {_text(meaning)} |")
    texts = []
    for title, lines in groups.items():
        if title.startswith("Settings of"):
            texts.append("The settings of a method are flags too: see the [page of the method](methods.md).")
            continue
        lead = [] if title == "Parameters" else [f"*{title}*", ""]
        texts.append("\n".join([*lead, "| flag | default | meaning |", "| --- | --- | --- |", *lines]))
    return "\n\n".join(texts)


def _help(app: App) -> str:
    paragraphs = (app.help or "").strip().split("\n\n")
    return "\n\n".join(re.sub(r"([<*])", r"\\\1", " ".join(p.split())) for p in paragraphs)


def section(name: str) -> str:
    """Return the section of one command. A command with actions has a section for each."""
    command = COMMANDS[name]
    if command.per_method:
        app = build_app([name, EXAMPLE_METHOD])[name]
        general = build_app([name])[name]
        return "\n\n".join(
            [
                f"## expunge {name} METHOD",
                _help(general),
                _help(app[EXAMPLE_METHOD]).partition("\n\n")[2],
                flags(app[EXAMPLE_METHOD]),
            ]
        )
    app = build_app([name])[name]
    actions = [key for key in app if not key.startswith("-")]
    if not actions:
        return "\n\n".join([f"## expunge {name}", _help(app), flags(app)])
    parts = [f"## expunge {name}", _help(app)]
    for action in actions:
        parts += [f"### expunge {name} {action}", _help(app[action]), flags(app[action])]
    return "\n\n".join(parts)


def page() -> str:
    """Return the whole page."""
    return "\n\n".join([HEADER.rstrip(), *map(section, COMMANDS)]).replace("\n\n\n", "\n\n") + "\n"
