"""The tutorials are notebooks with the output of a run, without faults, and they still run."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def cells(path, kind):
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def text_of(output):
    return "".join(output.get("text", ())) + str(output.get("data", {}).get("text/plain", ""))


def test_every_tutorial_is_in_the_index():
    index = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) >= 4
    for path in NOTEBOOKS:
        assert f"({path.name})" in index and f"\n{path.stem}\n" in index


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_tutorial_holds_the_output_of_a_run_without_faults(path):
    outputs = [o for cell in cells(path, "code") for o in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) or "text/markdown" in o.get("data", {}) for o in outputs)
    texts = [text_of(o) for o in outputs]
    assert sum(map(bool, texts)) >= 3
    # no folder of the machine, and no key that opens something
    assert not [t for t in texts if re.search(r"(?<![\w.])/\w+/", t) or "PRIVATE KEY" in t]
    assert "".join(cells(path, "markdown")[0]["source"]).startswith("# ")


@pytest.mark.slow  # the four take about seven minutes
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_tutorial_runs(path):
    for package in ("nbclient", "ipykernel", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; the extra docs brings it")
    command = [sys.executable, str(ROOT / "tools" / "tutorials.py"), "--check", path.stem]
    subprocess.run(command, check=True, timeout=3600)
