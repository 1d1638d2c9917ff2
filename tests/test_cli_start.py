"""How the command line starts: what it imports, what it refuses, what a record says was typed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import expunge
from expunge.cli import main
from expunge.cli.app import COMMANDS
from expunge.cli.invocation import command_line, invoked_with

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = [
    ["--help"],
    ["--version"],
    ["no-such-command"],
    ["demo", "--help"],
    ["demo", "--sedes", "2"],
    ["demo-generation", "--help"],
    ["audit", "--help"],
    ["bench", "--help"],
    ["report", "--help"],
    ["methods", "--help"],
    ["init", "--help"],
    ["forget", "--help"],
    ["status", "--help"],
    ["ledger", "--help"],
    ["ledger", "attach", "--help"],
    ["verify", "--help"],
    ["sign", "--help"],
    ["keygen", "--help"],
]
PROBE = """
import sys
import tomllib
from expunge.cli import main
main(sys.argv[1:])
heavy = [name for name in ("torch", "numpy", "sklearn", "matplotlib", "transformers") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("words", WITHOUT_TORCH, ids=" ".join)
def test_help_and_simple_refusals_import_nothing_heavy(words):
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, expunge; print(expunge.__version__, 'SalUn' in dir(expunge), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expunge.__version__, "True", "False"]


def test_the_table_of_lazy_names_is_the_imports_that_type_checkers_see():
    tree = ast.parse(Path(expunge.__file__).read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    imports = {n.module: tuple(a.name for a in n.names) for n in block.body if isinstance(n, ast.ImportFrom)}
    assert imports == expunge._MODULES
    assert sorted(expunge.__all__) == sorted(expunge._MODULE_OF)
    assert all(getattr(expunge, name) is not None for name in expunge.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        expunge.no_such_name  # noqa: B018


def test_audit_is_the_function_whichever_is_imported_first():
    code = "import expunge.audit.verdict, expunge; assert callable(expunge.audit); from expunge import audit; audit.__call__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_of_commands_says_what_the_commands_say():
    for name, command in COMMANDS.items():
        target = command.load()
        if command.per_method:
            text = target().text
        else:
            text = target.help if hasattr(target, "help") else target.__doc__
        assert text.strip().partition("\n")[0] == command.summary or command.per_method, name


REQUIRED = ["unlearn", "salun", "--data", "digits", "--model", "mlp", "--checkpoint", "a.pt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unlearm"], "there is no command 'unlearm'"),
        (["unlearm"], "Did you mean 'unlearn'?"),
        (["unlearn", "salun", "--densty", "0.5"], "Unknown option: --densty. Did you mean --density?"),
        ([*REQUIRED, "--order", "x"], 'Invalid value "x" for --order. Choose from: "sequential"'),
        (["unlearn", "--data", "digits", "salun"], "no method is named before --data"),
        (["unlearn", "salun", "--data", "digits"], "--checkpoint is missing.\n- --model is missing."),
        (["train", "--data"], "--data needs a value"),
        (
            ["erase", "esd", "PIPELINE", "--concept", "a", "--out", "b", "--eta", "high"],
            'unable to convert "high" into float',
        ),
        (["erase", "scrub", "PIPELINE"], "'scrub' has no form for pipelines; choose one of salun"),
        (["unlearn-generator", "scrub"], "Scrub needs what the task 'diffusion' does not offer"),
        (["keygen", "a", "b"], "unexpected word 'b'"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(words, message, capsys):
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.startswith("error:") and "Traceback" not in printed


def test_no_words_show_the_help(capsys):
    assert main([]) == 2
    assert "unlearn-generator" in capsys.readouterr().out
    assert main(["unlearn"]) == 2
    assert "Usage: expunge unlearn METHOD" in capsys.readouterr().out


def test_the_command_line_is_what_was_typed_and_the_host_keeps_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["host", "--of", "another", "program"])
    with invoked_with(["unlearn", "salun", "--data", "folder:my images", "\udcff"]):
        assert command_line() == "expunge unlearn salun --data 'folder:my images' '\\udcff'"
    assert command_line() == "expunge" and sys.argv == ["host", "--of", "another", "program"]


def test_every_setting_of_a_method_is_a_flag_of_each_command(capsys):
    for words in (["erase", "esd"], ["unlearn-generator", "esd"]):
        assert main([*words, "--help-all"]) == 0
        shown = capsys.readouterr().out
        assert all(
            f"--{name} " in shown for name in ("eta", "base", "source", "lr-schedule", "momentum", "clip")
        )


def test_flags_of_settings_work_in_a_program_that_imported_pydantic(capsys):
    """cyclopts then validates the defaults of all flags, and these have a default that is no setting."""
    import pydantic  # noqa: F401

    assert main(["train", "--data", "no-such-data", "--model", "mlp", "--out", "x.pt"]) == 2
    error = capsys.readouterr().err
    assert "no-such-data" in error and "NOT_GIVEN" not in error


@pytest.mark.slow  # runs the demo in a process of its own
def test_the_core_alone_runs_the_first_command_of_the_readme():
    """As after `pip install .`: every package that only an extra brings is missing."""
    names = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = re.compile(r"[A-Za-z0-9_-]+")
    core = {package.match(line)[0].lower() for line in names["dependencies"]}
    extras = {
        package.match(line)[0].lower()
        for extra, lines in names["optional-dependencies"].items()
        for line in lines
        if extra != "dev"
    }
    modules = {{"pillow": "PIL"}.get(name, name) for name in extras - core}
    assert {"pyarrow", "transformers", "diffusers", "cryptography", "datasets"} <= modules
    code = f"""
import sys
import tomllib
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(modules)}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from expunge import Classification, Retrain, SalUn, Split, audit, execute
from expunge.models import build
from expunge.sources import load
data = load("digits?limit=300")
split = Split.by_class(data.train, data.test, forget=3)
model = execute(build("cnn", num_classes=10, shape=data.shape), split.for_original, Retrain(epochs=1), Classification(10)).model
ours = execute(model, split, SalUn(epochs=1, batch_size=64), Classification(10)).model
assert audit(ours, split, Classification(10), original=model).examples
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
