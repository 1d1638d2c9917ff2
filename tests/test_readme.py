"""The README's own blocks run."""

import re
import shlex
from pathlib import Path

from expunge.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.S | re.M)


def test_the_python_blocks_run_in_order(capsys):
    space: dict = {}
    blocks = [text for kind, text in BLOCKS if kind == "python"]
    assert len(blocks) == 2 and len(blocks[0].splitlines()) <= 16
    for block in blocks:
        exec(compile(block, "README.md", "exec"), space)
    assert "avg. gap to Retrain" in capsys.readouterr().out


def test_the_commands_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = next(text for _, text in BLOCKS if "expunge unlearn" in text)
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


def test_what_the_readme_links_to_is_there():
    missing = [
        link
        for link in re.findall(r"\]\(([^)#]+)\)", TEXT)
        if not link.startswith("http") and not (ROOT / link).exists()
    ]
    assert not missing
