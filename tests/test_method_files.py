"""The example method of CONTRIBUTING works everywhere once its file is added; nothing else is edited."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import expunge.methods
from expunge.cli import main
from expunge.cli import methods_page as docs_table
from expunge.errors import ExpungeError
from expunge.training.execute import execute
from expunge.training.method import GradientMethod
from expunge.training.registry import find, names

ROOT = Path(__file__).parent.parent
NAME = "tug_of_war"

# runs the conformance suite with one more folder of methods
SUITE = "import sys, pytest, expunge.methods; expunge.methods.__path__.append(sys.argv[1]); sys.exit(pytest.main(sys.argv[2:]))"


@pytest.fixture
def dropped(tmp_path, monkeypatch):
    """A folder with the file of the example, added to the folders that hold methods."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    template = next(b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "GradientMethod" in b)
    (tmp_path / f"{NAME}.py").write_text(template, encoding="utf-8")
    monkeypatch.setattr(expunge.methods, "__path__", [*expunge.methods.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop(f"expunge.methods.{NAME}", None)
    vars(expunge.methods).pop(NAME, None)


def test_the_example_is_found_and_runs(dropped, classifier):
    assert NAME in names()
    kind = find(NAME)
    assert issubclass(kind, GradientMethod)
    before = classifier.probe(classifier.model, "forget")
    run = execute(
        classifier.model, classifier.by_class, kind(lr=0.05, batch_size=64, density=0.5), classifier.task
    )
    assert run.mask is not None and classifier.probe(run.model, "forget") < before - 30


def test_the_command_line_has_it(dropped, capsys):
    assert main(["unlearn", NAME, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--retain-share" in out and "--density" in out
    assert main(["methods"]) == 0
    assert NAME in capsys.readouterr().out


def test_the_docs_page_shows_the_example(dropped):
    page = docs_table.page()
    assert f"[{NAME}](methods/{NAME}.md)" in page and f"\nmethods/{NAME}\n" in page
    row = "| `retain_share` | `0.95` | 0.9, 0.95 | Weight of the retain loss, from 0 to 1. |"
    assert row in docs_table.settings_table(NAME)


@pytest.mark.slow
def test_the_conformance_suite_passes_on_the_example(dropped):
    args = ["-q", "-p", "no:cacheprovider", "-k", NAME, str(ROOT / "tests" / "test_methods.py")]
    result = subprocess.run(
        [sys.executable, "-c", SUITE, str(dropped), *args], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 12


def test_without_its_file_the_example_is_unknown():
    assert NAME not in names()
    with pytest.raises(ExpungeError, match=NAME):
        find(NAME)


def test_a_file_with_two_methods_is_refused(dropped):
    two = (dropped / f"{NAME}.py").read_text(encoding="utf-8")
    (dropped / f"{NAME}.py").write_text(two + "\n\nclass Second(TugOfWar):\n    pass\n", encoding="utf-8")
    with pytest.raises(ExpungeError, match="exactly one"):
        find(NAME)


def test_the_docs_page_is_current(capsys):
    assert docs_table.main(["--check", str(ROOT / "docs" / "methods.md")]) == 0
    assert "current" in capsys.readouterr().out


def test_the_check_of_the_docs_page_notices_a_change(tmp_path, capsys):
    page = tmp_path / "methods.md"
    assert docs_table.main(["--check", str(page)]) == 1
    assert docs_table.main([str(page)]) == 0 and docs_table.main(["--check", str(page)]) == 0
    page.write_text(page.read_text(encoding="utf-8") + "x", encoding="utf-8")
    assert docs_table.main(["--check", str(page)]) == 1
    assert "out of date" in capsys.readouterr().out
