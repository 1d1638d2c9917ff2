"""Help pages, progress in a pipe, completion by the Tab key, and the commands that the demo ends with."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from expunge.cli import main
from expunge.cli.app import COMMANDS, build_app
from expunge.cli.demo import METHODS, next_commands
from expunge.cli.flags import SplitFlags
from expunge.cli.help_examples import EXAMPLES, WIDTH, example
from expunge.cli.progress_line import ProgressLine
from expunge.cli.settings_flags import RARE


def page(capsys, *words):
    assert main([*words]) == 0
    return capsys.readouterr().out


def titles(text):
    return re.findall(r"^╭─ (.*?) ─", text, re.M)


def parsed(command):
    """Parse a command as the terminal does, without running it."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "expunge"
    build_app(words[1:]).parse_args(words[1:], exit_on_error=False, print_error=False)
    return words[1:]


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_every_command_has_an_example_that_parses(name):
    text = example([name] if name else [])
    assert parsed(text)[:1] == [name or "demo"] and max(map(len, text.splitlines())) <= WIDTH


def test_examples_of_methods_and_actions():
    assert parsed(example(["unlearn", "nhle"]))[1] == "nhle" and parsed(example(["erase", "esd"]))[1] == "esd"
    assert parsed(example(["ledger", "attach"]))[1] == "attach"
    assert example(["ledger", "export"]) == EXAMPLES["ledger"]
    # a method of the user's own
    assert "unlearn 'my module:Own' " in example(["unlearn", "my module:Own"])


def test_a_page_begins_with_an_example_and_the_required_flags(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = page(capsys, "unlearn", "salun", "--help")
    assert text.startswith("Example:\n  expunge unlearn salun --checkpoint ")
    assert titles(text) == [
        "Required",
        "Forget set and validation set",
        "Parameters",
        "Model and data",
        "Settings of salun",
    ]
    required = text[text.index("─ Required") : text.index("─ Forget set")]
    assert all(flag in required for flag in ("--checkpoint PATH", "--data STR", "--model STR"))
    assert "*  --" not in text.replace(required, "")
    assert max(map(len, text.partition("Usage")[2].splitlines()[1:-1])) <= 80


def test_rare_flags_are_left_to_help_all(capsys):
    short, long = page(capsys, "unlearn", "salun", "--help"), page(capsys, "unlearn", "salun", "--help-all")
    assert set(titles(long)) - set(titles(short)) == set(RARE)
    assert "--weight-decay" in long and "--weight-decay" not in short and "--amp" not in short
    assert "--density" in short and "--lr FLOAT" in short
    assert short.splitlines()[-1].startswith("--help-all adds") and "--help-all" not in long
    # a page without rare flags speaks of none
    assert "--help-all" not in page(capsys, "verify", "--help")


def test_a_switch_is_shown_by_its_useful_form(capsys):
    text = page(capsys, "ledger", "limits", "--help")
    assert "--no-key" in text and "--no-no-key" not in text and "[default: False]" not in text
    # one that is on by default is turned off
    assert "--no-attacks" in page(capsys, "demo-generation", "--help")


def test_help_of_an_unknown_command_names_the_nearest(capsys):
    assert main(["unlern", "--help"]) == 2
    assert "Did you mean 'unlearn'?" in capsys.readouterr().err


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr("expunge.cli.progress_line.time", found)
    return found


def test_a_pipe_gets_a_line_every_few_seconds(clock, capsys):
    line = ProgressLine()
    for step in range(1, 41):  # 40 steps, one each 0.5 s
        line.show("salun", f" step {step}", step == 40)
        clock.now += 0.5
    assert capsys.readouterr().err.splitlines() == [f"salun step {k}" for k in (1, 11, 21, 31, 40)]


def test_other_work_is_shown_at_once(clock, capsys):
    line = ProgressLine()
    line.show("retrain", " step 1")
    line.show("salun", " step 1")
    line.show("salun", " step 2")
    assert capsys.readouterr().err.splitlines() == ["retrain step 1", "salun step 1"]


def test_a_terminal_gets_one_line_that_changes(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = ProgressLine()
    line.show("a", " long text")
    line.show("a", " short")
    line.finish()
    line.finish()
    assert capsys.readouterr().err == "\ra long text\ra short    \n"


@pytest.mark.parametrize(
    "flags",
    [
        SplitFlags(forget_class=("3", "a b")),
        SplitFlags(forget_share=0.1),
        SplitFlags(forget_ids=Path("some ids.txt")),
        SplitFlags(forget_group=("user=Doe, Jane",)),
    ],
)
def test_the_demo_ends_with_three_commands_to_paste(flags):
    lines = next_commands("digits", flags, Path("my demo")).splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith("expunge")]
    unlearn, audit, init = map(parsed, commands)
    assert [c[0] for c in (unlearn, audit, init)] == ["unlearn", "audit", "init"]
    forget = [word for word in unlearn if word.startswith("--forget")]
    assert forget == [word for word in audit if word.startswith("--forget")] and forget
    assert (
        "my demo/original.safetensors" in unlearn
        and "my demo/salun.safetensors" in audit
        and "salun" in METHODS
    )


@pytest.mark.slow  # imports every command and method
def test_the_completion_of_bash_knows_commands_methods_and_flags(tmp_path, capsys):
    path = tmp_path / "expunge"
    assert main(["completion", "--shell", "bash", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    if (bash := shutil.which("bash")) is None:
        pytest.skip("there is no bash")
    program = """
source "$1"; shift
function=$(complete -p expunge | sed -E 's/.*-F ([^ ]+).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"
$function; echo "${COMPREPLY[@]}"
"""

    def completed(*words):
        done = subprocess.run(
            [bash, "-c", program, "bash", path, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert completed("expunge", "unl") == ["unlearn", "unlearn-generator"]
    assert completed("expunge", "unlearn", "salun") == ["salun", "salun_soft"]
    assert completed("expunge", "unlearn", "salun", "--dens") == ["--density"]
    assert completed("expunge", "unlearn", "finetune", "--relab") == []


def test_an_unknown_shell_is_asked_for(monkeypatch, capsys):
    from cyclopts.completion import detect

    def unknown():
        raise detect.ShellDetectionError("none")

    monkeypatch.setattr(detect, "detect_shell", unknown)
    assert main(["completion"]) == 2
    assert "give --shell: one of bash, zsh, fish, powershell" in capsys.readouterr().err
