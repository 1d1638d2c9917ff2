"""Every flag says what it means, wherever it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

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
    plain: int = 0  # beside
    # above, in
    # two lines
    above: int = 0
    bracketed: int = (
        0  # in brackets
    )  # fmt: skip
    kept: int = 0  # of the parent
    silent: int = 0

    other = 1  # no field


@dataclass
class Child(Parent):
    kept: int = 1
    plain: int = 2  # of the child


@dataclass
class Documented(Child):
    """Say what it is.

    Args:
        kept: From the docstring,
            on two lines.
        plain: Percent: a colon, and more.
    """

    kept: int = 3  # not this
    plain: int = 2


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (Documented, "kept", "From the docstring, on two lines."),
        (Documented, "plain", "Percent: a colon, and more."),
        (Documented, "above", "above, in two lines"),
        (Parent, "plain", "beside"),
        (Parent, "above", "above, in two lines"),
        (Parent, "bracketed", "in brackets"),
        (Parent, "silent", ""),
        (Child, "kept", "of the parent"),
        (Child, "plain", "of the child"),
        (Child, "above", "above, in two lines"),
    ],
)
def test_help_is_the_comment_of_the_nearest_class(kind, name, said):
    assert field_help(kind, name) == said


def test_every_field_of_every_method_and_group_of_flags_has_help():
    kinds = [*map(find, names()), *(g for g in GROUPS if g is not RecipeFlags)]
    assert not [f"{k.__name__}.{f.name}" for k in kinds for f in fields(k) if not field_help(k, f.name)]


LEDGER = ("add", "list", "attach", "overdue", "check", "export")
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
    assert main([*command, "--help"]) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).replace("│", " ")
    shown = "".join(plain.split())
    texts = {f.name: field_help(k, f.name) for k in kinds for f in fields(k)}
    assert len(texts) > 5
    assert not [name for name, text in texts.items() if "".join(text.split()) not in shown]
