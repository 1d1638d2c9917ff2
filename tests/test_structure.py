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
        # A model card names and prints scores as the report does.
        and not (file.name == "model_card.py" and within(name, "expunge.report"))
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


MOST_LINES, MOST_BODY, MOST_PARAMETERS = 250, 40, 10

# Exceptions, each with its own limit and the reason.
LONG_FILES = {
    "cli/ledger.py": (320, "one function per action, whose docstrings are the help"),
    "cli/project.py": (320, "one function per action, whose docstrings are the help"),
    "cli/unlearn.py": (290, "flags and their help take half of it"),
    "data/samples.py": (290, "the contract of all data in one place"),
    "data/split_sets.py": (305, "all properties of the one object that every module uses"),
    "projects/settings.py": (290, "to be split: the newest package"),
}
LONG_FUNCTIONS = {
    "cli/audit_run.py:run": (50, "the sequence of one command"),
    "cli/erase.py:run": (55, "the sequence of one command"),
    "cli/train.py:train": (50, "the sequence of one command"),
    "cli/unlearn.py:run": (55, "the sequence of one command"),
    "projects/delivery.py:deliver": (50, "the sequence of one command"),
}
# Public calls: the arguments are independent, keyword-only and have defaults, so that an editor completes them.
MANY_PARAMETERS = {
    "audit/strong.py:strong_audit": 13,
    "bench/compare.py:bench": 12,
    "data/stream.py:__init__": 13,
    "data/tensors.py:__init__": 11,
    "pipeline/experiment.py:experiment": 21,
    "receipts/ledger.py:attach": 11,
    "training/execute.py:execute": 11,
    "tuning/one_call.py:unlearn": 12,
    "tuning/trials.py:tune": 14,
}


def too_large(text: str, place: str) -> list[str]:
    """Return what is over the limits in the file `place` with this text."""
    lines, allowed = len(text.splitlines()), LONG_FILES.get(place, (MOST_LINES, ""))[0]
    problems = [f"{place} has {lines} lines, allowed are {allowed}"] if lines > allowed else []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        name = f"{place}:{node.name}"
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        if length > (allowed := LONG_FUNCTIONS.get(name, (MOST_BODY, ""))[0]):
            problems.append(f"{name} has {length} lines, allowed are {allowed}")
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(a.arg not in ("self", "cls") for a in every)
        if count > (allowed := MANY_PARAMETERS.get(name, MOST_PARAMETERS)):
            problems.append(f"{name} has {count} parameters, allowed are {allowed}")
    return problems


def test_files_functions_and_parameters_are_few():
    files = {file.relative_to(ROOT).as_posix(): file for file in sorted(ROOT.rglob("*.py"))}
    assert not [
        problem
        for place, file in files.items()
        for problem in too_large(file.read_text(encoding="utf-8"), place)
    ]
    named = [place.partition(":")[0] for place in (*LONG_FILES, *LONG_FUNCTIONS, *MANY_PARAMETERS)]
    assert set(named) <= set(files), "an exception names a file that is gone"


def test_a_long_file_a_long_function_and_many_parameters_are_found():
    """The control. A docstring does not count, nor does `self`."""
    at_limit = (
        "def f(self, a, b, c, d, e, *, g, h, i, j, k):\n" + '    """' + "\n" * 50 + '"""\n' + "    a\n" * 40
    )
    assert not too_large(at_limit, "x.py")
    assert too_large(at_limit + "    a\n", "x.py") == ["x.py:f has 41 lines, allowed are 40"]
    assert too_large(at_limit.replace("(self", "(z"), "x.py") == ["x.py:f has 11 parameters, allowed are 10"]
    assert too_large("a\n" * 251, "x.py") == ["x.py has 251 lines, allowed are 250"]
