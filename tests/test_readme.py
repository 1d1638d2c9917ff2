"""The README's own blocks run, and those of the first steps, to which it leads."""

import re
import shlex
from pathlib import Path

import pytest

from expunge.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
STEPS = (ROOT / "docs" / "first_steps.md").read_text(encoding="utf-8")


def blocks_of(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M)


def test_the_python_blocks_run_in_order(capsys):
    (block,) = [text for kind, text in blocks_of(TEXT) if kind == "python"]
    assert len(block.splitlines()) <= 16
    exec(compile(block, "README.md", "exec"), {})
    assert "avg. gap to Retrain" in capsys.readouterr().out


def test_the_first_steps_show_the_block_of_the_readme():
    assert [b for b in blocks_of(STEPS) if b[0] == "python"] == [
        b for b in blocks_of(TEXT) if b[0] == "python"
    ]


@pytest.mark.slow  # trains two models, and unlearns with trials
def test_the_commands_of_the_first_steps_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = next(text for _, text in blocks_of(STEPS) if "expunge unlearn" in text)
    commands = [
        shlex.split(line, comments=True)[1:] for line in block.replace("\\\n", " ").splitlines() if line
    ]
    assert [c[0] for c in commands] == ["methods", "train", "train", "unlearn", "audit"]
    for command in commands:
        code = main(command)
        assert code == 0, command
    assert {"original.safetensors", "retrained.safetensors", "unlearned.safetensors", "report.html"} <= {
        f.name for f in tmp_path.iterdir()
    }


def test_the_readme_is_one_screen_and_has_the_commands_of_a_fresh_clone():
    assert len(TEXT.splitlines()) <= 60
    assert "make test " in TEXT and "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "--index-url" in TEXT, "how to get the CPU build of torch first"


def test_what_the_readme_links_to_is_there():
    missing = [
        link
        for link in re.findall(r"\]\(([^)#]+)\)", TEXT)
        if not link.startswith("http") and not (ROOT / link).exists()
    ]
    assert not missing
