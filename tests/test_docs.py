"""The documentation names what is there: Python names resolve, links lead somewhere, flags exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = ("json", "md", "py", "safetensors", "toml", "html")  # endings, not attributes


def resolve(dotted: str) -> object:
    """What `from MODULE import NAME` gives, or the module itself."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(resolve(module), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_dotted_name_resolves(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])expunge(?:\.[A-Za-z_]\w*)+", text))
    named = {n for n in named if n.rpartition(".")[2] not in FILES}
    for module, names in re.findall(r"^from (expunge[\w.]*) import ([\w, ]+)", text, re.M):
        named |= {f"{module}.{n.split(' as ')[0]}" for n in names.split(", ")}
    broken = []
    for dotted in sorted(named):
        try:
            resolve(dotted)
        except AttributeError:
            broken.append(dotted)
    assert not broken


def test_a_name_that_is_not_there_would_be_found():
    with pytest.raises(AttributeError):
        resolve("expunge.audit.no_such_thing")
    assert resolve("expunge.audit.verdict.within_gap")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert not [k for k in links if not k.startswith("http") and not (page.parent / k).exists()]


def test_the_factory_of_the_data_page_works(tmp_path, monkeypatch):
    from expunge.sources import load

    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / "mine_of_the_docs.py").write_text(next(b for b in blocks if "def data" in b))
    source = load("mine_of_the_docs:data")
    assert source.shape == (5,) and len(source.train) == 200 and source.train.ids[3] == "user-3"


def test_every_entry_of_a_grid_is_explained_and_the_example_is_one(tmp_path):
    from expunge.bench.checks import SCENARIOS, GridFile, MethodEntry, Tuning
    from expunge.bench.grid import read_grid

    text = (ROOT / "docs/grids.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`\[*(\w+)\]*`", text))
    assert (
        not {*SCENARIOS.values(), *(k for t in (GridFile, MethodEntry, Tuning) for k in t.__annotations__)}
        - named
    )
    (tmp_path / "g.toml").write_text(re.findall(r"```toml\n(.*?)```", text, re.S)[0])
    grid = read_grid(tmp_path / "g.toml", tuned="validation")
    assert len(grid.jobs) == 12 and not grid.skipped
    assert {j.settings["epochs"] for j in grid.jobs} == {1} and grid.jobs[0].tuned_on == grid.jobs[0]


def test_the_blocks_of_the_python_page_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.S
    ):
        exec(compile(block, "python.md", "exec"), space)
    assert (tmp_path / "salun.state").exists() and space["run"].ended == "finished"
    assert not (space["ours"](space["first"].x).argmax(1) == 3).any()


def test_every_name_of_the_package_is_somewhere_in_the_documentation():
    import expunge

    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [name for name in expunge.__all__ if not re.search(rf"\b{name}\b", text)]
