"""Imports go in one order, in at most 14 levels, and only the command line knows flags, terminals and reports."""

import ast
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

import expunge

ROOT = Path(expunge.__file__).parent
TOOL = Path(__file__).parents[1] / "tools" / "import_graph.py"


@pytest.fixture(scope="module")
def tool():
    """`tools/import_graph.py` as a module."""
    spec = importlib.util.spec_from_file_location("import_graph", TOOL)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while it is executed
    sys.modules["import_graph"] = module
    spec.loader.exec_module(module)
    return module


def test_order_cycles_and_levels_of_imports(tool):
    graph = tool.Graph.read()
    assert not tool.problems(graph)
    assert len(graph.files) > 200 and max(graph.levels().values()) <= tool.MOST_LEVELS == 14


def test_the_architecture_page_is_current(tool):
    assert tool.page(tool.Graph.read()) == tool.PAGE.read_text(encoding="utf-8")


def test_a_cycle_an_upward_import_and_an_unknown_package_are_found(tool, tmp_path):
    """The control: the tool sees imports at the head, in functions, and under TYPE_CHECKING."""
    source = tmp_path / "expunge"
    for file, text in {
        "__init__.py": "",
        "errors.py": "def f():\n    from .data import batch\n",
        "data/__init__.py": "",
        "data/batch.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..data import samples\n",
        "data/samples.py": "from .batch import Batch\nimport expunge.news.flash\n",
        "news/__init__.py": "",
        "news/flash.py": "",
    }.items():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text(text)
    graph = tool.Graph.read(source)
    assert graph.cycles() == [["expunge.data.batch", "expunge.data.samples"]]
    assert "expunge.errors imports expunge.data.batch" in graph.upward()
    assert "news is not in ORDER" in graph.upward()
    with pytest.raises(ValueError, match="import each other"):
        graph.levels()


def test_every_package_says_what_it_is_for(tool):
    for package in (f.parent for f in ROOT.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert text and len(text.splitlines()) <= 5, package.name


def imported(file: Path) -> set[str]:
    """Every module that a file imports, at its head or inside a function, by absolute name."""
    found: set[str] = set()
    here = ("expunge", *file.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*here[: -node.level], *filter(None, [node.module])]) if node.level else node.module
            )
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_only_the_command_line_knows_flags_terminals_and_reports():
    above = ("expunge.cli", "expunge.report", "cyclopts", "rich")
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted(ROOT.rglob("*.py"))
        if file.relative_to(ROOT).parts[0] not in ("cli", "report", "__main__.py")
        for name in imported(file)
        if any(within(name, package) for package in above)
        # The figures of the results page are drawn with the chart system of the report.
        and not (file.name == "plots.py" and within(name, "expunge.report.svg"))
        # A project writes the report of its runs.
        and not (file.parent.name == "projects" and within(name, "expunge.report"))
    ]
    assert not wrong


def test_methods_know_no_audit_and_audits_no_grid():
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for folder, other in (("methods", "expunge.audit"), ("audit", "expunge.bench"))
        for file in sorted((ROOT / folder).glob("*.py"))
        for name in imported(file)
        if within(name, other)
    ]
    assert not wrong


def test_no_exported_name_hides_a_module(tool):
    """`expunge.generation.erase` must stay the module: an exported function of that name would replace it."""
    for folder in (f.parent for f in ROOT.glob("*/__init__.py")):
        package = importlib.import_module(f"expunge.{folder.name}")
        names = [n for n in getattr(package, "__all__", []) if not inspect.ismodule(getattr(package, n))]
        hidden = set(names) & {f.stem for f in folder.glob("*.py")} - {"experiment", "preview"}
        assert not hidden, f"{folder.name} exports {sorted(hidden)}"
