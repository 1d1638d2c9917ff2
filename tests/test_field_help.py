"""Every flag says what it means, wherever it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields

import pytest

from expunge.audit.strong import StrongSettings
from expunge.cli import main
from expunge.cli.app import COMMANDS, build_app
from expunge.cli.compute_flags import ComputeFlags, RecipeFlags
from expunge.cli.field_help import field_help
from expunge.cli.flags import ModelFlags, SplitFlags
from expunge.cli.receipt_flags import ReceiptFlags
from expunge.training.registry import find, names

GROUPS = [SplitFlags, ModelFlags, ComputeFlags, RecipeFlags, ReceiptFlags, StrongSettings]


@dataclass
class Parent:
    """Say what it is.

    Args:
        kept: Of the parent.
        plain: Percent: a colon, and more.
        wrapped: In the docstring,
            on two lines.
    """

    plain: int = 0  # a comment is no help
    wrapped: int = 0
    kept: int = 0
    # a comment is no help
    silent: int = 0
    described: int = field(default=0, metadata={"help": "In the metadata."})


@dataclass
class Child(Parent):
    """Say what it is.

    Args:
        kept: Of the child.
    """

    kept: int = 1
    plain: int = 2


@pytest.mark.parametrize(
    ("settings_class", "name", "expected"),
    [
        (Parent, "plain", "Percent: a colon, and more."),
        (Parent, "wrapped", "In the docstring, on two lines."),
        (Parent, "kept", "Of the parent."),
        (Parent, "silent", ""),
        (Parent, "described", "In the metadata."),
        (Child, "kept", "Of the child."),
        (Child, "plain", "Percent: a colon, and more."),
        (Child, "wrapped", "In the docstring, on two lines."),
        (Child, "described", "In the metadata."),
        (Child, "silent", ""),
    ],
)
def test_help_is_the_entry_of_the_nearest_class(settings_class, name, expected):
    assert field_help(settings_class, name) == expected


def test_every_field_of_every_method_and_group_of_flags_has_help():
    kinds = [*map(find, names()), *(g for g in GROUPS if g is not RecipeFlags)]
    assert not [f"{k.__name__}.{f.name}" for k in kinds for f in fields(k) if not field_help(k, f.name)]


LEDGER = ("add", "list", "attach", "show", "limits", "overdue", "check", "export")
METHOD_OF = {"unlearn": "salun", "erase": "esd", "unlearn-generator": "esd"}


def command_words():
    """The words of every command, one with a method for the commands that a method follows."""
    for name in COMMANDS:
        if name == "ledger":
            yield from (["ledger", action] for action in LEDGER)
        else:
            yield [name, METHOD_OF[name]] if name in METHOD_OF else [name]


@pytest.mark.parametrize("words", list(command_words()), ids=" ".join)
def test_every_flag_of_every_command_has_help_on_one_line(words):
    command = build_app(words)
    for word in words:
        command = command[word]
    arguments = command.assemble_argument_collection(parse_docstring=True)
    flags = {a.name: a.parameter.help for a in arguments.filter_by(parse=True) if not a.children}
    assert flags and not [name for name, text in flags.items() if not text or "\n" in text]


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        (["unlearn", "salun"], [find("salun"), SplitFlags, ModelFlags, ComputeFlags, ReceiptFlags]),
        (["train"], [SplitFlags, ModelFlags, ComputeFlags]),
        (["audit"], [StrongSettings]),
    ],
    ids=lambda v: v[-1] if isinstance(v[0], str) else "",
)
def test_the_help_of_a_command_shows_it(command, kinds, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main([*command, "--help-all"]) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).replace("│", " ")
    shown = "".join(plain.split())
    texts = {f.name: field_help(k, f.name) for k in kinds for f in fields(k)}
    assert len(texts) > 5
    assert not [name for name, text in texts.items() if "".join(text.split()) not in shown]
