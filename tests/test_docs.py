"""The documentation names what is there: Python names resolve, links lead somewhere, flags exist."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("methods/*.md")),
]
FILES = ("json", "md", "py", "safetensors", "toml", "html")  # endings, not attributes


def resolve(dotted: str) -> object:
    """What `from MODULE import NAME` gives, or the module itself."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(resolve(module), name)


def entry_point_groups() -> set[str]:
    """Names of entry-point groups, which look like modules."""
    from expunge.audit.measure import MEASURES
    from expunge.sources.spec import ENTRY_POINTS
    from expunge.training.registry import METHODS

    return {MEASURES.group, METHODS.group, ENTRY_POINTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_dotted_name_resolves(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])expunge(?:\.[A-Za-z_]\w*)+", text))
    named = {n for n in named if n.rpartition(".")[2] not in FILES} - entry_point_groups()
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


def test_the_source_of_the_contributing_page_works(tmp_path, monkeypatch, capsys):
    from expunge.cli.app import main
    from expunge.sources import load

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / "blobs.py").write_text(next(b for b in blocks if "def blobs" in b), encoding="utf-8")
    source = load("blobs:blobs?limit=60")
    assert source.shape == (2,) and len(source.train) == 60 and source.classes == ["low", "middle", "high"]
    for line in re.findall(r"^    (expunge .*)$", text, re.M):
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert (tmp_path / "original.safetensors").exists()
    sys.modules.pop("blobs")


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


def test_the_examples_of_the_extending_page_work(tmp_path, monkeypatch, capsys):
    """Files are written under the name in their first line; commands and other Python blocks run in the page's order."""
    from expunge.cli.app import main

    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.S)
    files = {b.split("\n")[0].removeprefix("# "): b for _, b in blocks if re.match(r"# \w+\.\w+\n", b)}
    modules = {f"my_{k}.py" for k in ("method", "edit", "measure", "parts", "source", "model", "task")}
    assert set(files) == modules | {"test_my_methods.py", "grid.toml", "pyproject.toml"}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    install(tmp_path, tomllib.loads(files["pyproject.toml"])["project"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    spaces = []
    for language, block in blocks:
        if language == "sh":
            for line in block.strip().splitlines():
                assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
        elif language == "python" and block not in files.values():
            # a block of its own: none may depend on another one
            spaces.append({})
            exec(compile(block, "extending.md", "exec"), spaces[-1])
    importlib.import_module("test_my_methods").test_my_methods()
    assert main(["bench", "grid.toml", "--jobs", "1", "--out", "cache", "--results", "results"]) == 0
    record = json.loads((tmp_path / "unlearned.json").read_text(encoding="utf-8"))
    assert {"ToW", "forget_confidence", "sureness_forget", "sureness_test"} <= set(record["scores"])
    assert record["details"]["implementation"]["class"] == "my_method:RetainAndForget"
    names = {name: value for space in spaces for name, value in space.items()}
    assert "RetainAndForget" in repr(names["comparison"]) and not names["comparison"].failed
    assert len(names["comparison"].outcomes) == 8 and "ToW" in repr(names["comparison_of_task"])
    assert {"ToW", "forget_confidence"} <= set(names["result"].scores)
    assert "ToW" in names["outcome"].record.scores and (tmp_path / "report.html").exists()
    for name in files:
        sys.modules.pop(name.removesuffix(".py"), None)


def table(page, heading):
    """The cells of the rows of the first table below a heading."""
    lines = page.split(f"\n{heading}\n")[1].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("|"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_capabilities_is_the_contract():
    from expunge import Classification
    from expunge.tasks.diffusion import Diffusion
    from expunge.tasks.task import CAPABILITIES

    members: dict[str, tuple] = {}
    capability = ""
    for first, text, _ in table((ROOT / "docs/extending.md").read_text(encoding="utf-8"), "### Capabilities"):
        capability = first.strip('`"') or capability
        name, _, arguments = text.strip("`").rstrip(")").partition("(")
        members[capability] = (*members.get(capability, ()), name)
        value = getattr(Diffusion if capability == "noise" else Classification, name, None)
        if callable(value):
            parameters = [p.replace(annotation=p.empty) for p in inspect.signature(value).parameters.values()]
            shown = [str(p) for p in parameters if p.name != "self" and p.kind != p.KEYWORD_ONLY]
            options = [str(p) for p in parameters if p.kind == p.KEYWORD_ONLY]
            assert arguments.split(", ") == [*shown, *options], name
    assert members == {key: names for key, (names, _) in CAPABILITIES.items()}


def test_the_table_of_schedules_names_those_that_there_are():
    from expunge.training.method import GradientMethod
    from expunge.training.registry import find, names
    from expunge.training.schedule import steps_per_epoch

    rows = table((ROOT / "docs/extending.md").read_text(encoding="utf-8"), "### Schedules")
    listed = [row[0].split("`")[1].strip('"') for row in rows]
    run = SimpleNamespace(split=SimpleNamespace(forget=range(4), retain=range(8)))
    assert {name: steps_per_epoch(run, name, 2) for name in listed} == {
        "retain": 4, "forget": 2, "forget+retain": 2, "retain+forget": 4, "sequential": 6, "mixed": 6,
    }  # fmt: skip
    used = {find(n).schedule for n in names() if issubclass(find(n), GradientMethod)}
    assert used <= set(listed) and GradientMethod.schedule == listed[0]


def test_the_examples_of_the_projects_page_work(tmp_path, monkeypatch, capsys):
    from expunge.cli.app import main
    from expunge.models import build
    from expunge.projects.settings import checked
    from expunge.sources import load

    text = (ROOT / "docs/projects.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("1\n2\n3\n")
    (tmp_path / "requests.csv").write_text("id,subject\n7,case 116\n8,case 117\n9,case 116\n")
    for line in re.findall(r"```sh\n(.*?)```", text, re.S)[0].strip().splitlines():
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert "models/0002.safetensors" in capsys.readouterr().out
    assert checked(tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.S)[0])).max_gap == 5
    digits = load("digits?limit=300")
    torch.manual_seed(0)
    model = build("mlp", num_classes=10, shape=digits.shape)
    space: dict = {"model": model, "train": digits.train, "test": digits.test}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "projects.md", "exec"), space)
    assert (tmp_path / "report.html").exists() and space[
        "project"
    ].status().model == "models/0003.safetensors"


def test_the_commands_of_the_requests_page_work(tmp_path, monkeypatch, capsys):
    import torch

    from expunge import Classification
    from expunge.cli.app import main
    from expunge.models import build
    from expunge.sources import load

    text = (ROOT / "docs/requests.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.strip().splitlines():
            assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert "other requests of this model" in capsys.readouterr().out
    # an untrained model of some seeds has nothing to unlearn
    torch.manual_seed(0)
    digits = load("digits?limit=300")
    # untrained: with some parameters no sample of the class is recognised, so there is nothing to forget
    torch.manual_seed(0)
    model = build("mlp", num_classes=10, shape=digits.shape)
    space: dict = {"model": model, "train": digits.train, "test": digits.test, "task": Classification(10)}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "requests.md", "exec"), space)
    assert len(space["requests_of"](space["twice"])) == 2


def test_the_example_of_the_integrations_page_works(capsys):
    text = (ROOT / "docs/integrations.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(block, "integrations.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unlearn salun salun" and lines[-1].startswith(("finished", "stopped"))
    from expunge.tracking.by_name import KINDS

    assert set(KINDS) <= {
        cell.strip("`").partition(":")[0] for row in table(text, "## Trackers") for cell in row
    }


def install(folder, project):
    """Write what pip leaves of a package: the metadata with its entry points."""
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))


def test_every_name_of_the_package_is_somewhere_in_the_documentation():
    import expunge

    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [name for name in expunge.__all__ if not re.search(rf"\b{name}\b", text)]
