"""The documentation site: every page is in a table of contents, generated pages agree with the code, terms are defined."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "tutorials"} & set(p.relative_to(DOCS).parts))


@pytest.fixture(scope="module")
def tool():
    """Import a module of tools/, or of the extensions of the site."""
    added = [str(ROOT / "tools"), str(DOCS / "_ext")]
    sys.path[:0] = added
    yield importlib.import_module
    for folder in added:
        sys.path.remove(folder)


def toctrees(text: str) -> list[str]:
    """Return the entries of all tables of contents of a page."""
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(":")]


def reachable(docs: Path, start: str = "index") -> set[str]:
    """Return the pages that tables of contents lead to, the first page included."""
    found, waiting = {start}, [start]
    while waiting:
        file = docs / f"{waiting.pop()}.md"
        folder = file.parent.relative_to(docs)
        for name in toctrees(file.read_text(encoding="utf-8")) if file.exists() else []:
            # the names on a page begin at its folder
            entry = str(folder / name)
            new = (
                {entry}
                if "*" not in entry
                else {str(p.relative_to(docs).with_suffix("")) for p in docs.glob(f"{entry}.*")}
            )
            waiting += sorted(new - found)
            found |= new
    return found


def terms(text: str) -> set[str]:
    """Return the words that a glossary defines, in lower case."""
    block = re.search(r"^```\{glossary\}\n(.*?)^```", text, re.S | re.M)
    return {
        line.lower() for line in (block[1] if block else "").splitlines() if line and not line.startswith(" ")
    }


def linked_terms(text: str) -> set[str]:
    """Return the words of the glossary that a page links to, in lower case."""
    links = re.findall(r"\{term\}`([^`]+)`", text)
    return {(re.search(r"<(.+)>$", " ".join(link.split())) or [0, link])[1].lower() for link in links}


def test_every_page_is_in_a_table_of_contents():
    names = {str(p.relative_to(DOCS).with_suffix("")) for p in PAGES}
    led_to = reachable(DOCS)
    assert not names - led_to
    missing = {n for n in led_to - names if not n.startswith(("api/", "tutorials/"))}
    assert not missing, "tables of contents name pages that are not there"


def test_a_page_outside_the_tables_of_contents_would_be_found(tmp_path):
    (tmp_path / "index.md").write_text("```{toctree}\n:glob:\n\nfirst\nmore/*\n```\n")
    (tmp_path / "first.md").write_text("```{toctree}\nsecond\n```\n")
    (tmp_path / "more").mkdir()
    for name in ("second", "lost", "more/third"):
        (tmp_path / f"{name}.md").write_text("# A page\n")
    assert reachable(tmp_path) == {"index", "first", "second", "more/third"}


def test_the_terms_that_pages_link_to_are_in_the_glossary():
    defined = terms((DOCS / "glossary.md").read_text(encoding="utf-8"))
    assert len(defined) > 30
    linked = {term: page.name for page in PAGES for term in linked_terms(page.read_text(encoding="utf-8"))}
    assert linked and not {term: page for term, page in linked.items() if term not in defined}


def test_a_term_that_is_not_defined_would_be_found():
    glossary = "```{glossary}\nForget set\n  Its samples.\n```\n"
    assert terms(glossary) == {"forget set"}
    assert linked_terms("the {term}`samples\nto go <Forget set>` of a {term}`Ghost`") == {
        "forget set",
        "ghost",
    }


def test_the_generated_pages_are_current(tool):
    assert tool("docs_pages").outdated() == []


def test_a_generated_page_that_differs_would_be_found(tool, tmp_path, monkeypatch):
    pages = tool("docs_pages")
    monkeypatch.setattr(pages, "pages", lambda: {"methods.md": "a", "methods/salun.md": "b"})
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods.md").write_text("a")
    (tmp_path / "methods" / "salun.md").write_text("changed")
    (tmp_path / "methods" / "gone.md").write_text("c")
    assert pages.outdated(tmp_path) == ["methods/salun.md", "methods/gone.md"]


def test_the_docstring_of_a_method_is_sorted_by_topic(tool):
    text = "T: one.\n\n    x <- |y|\n\nIdea.\n\nSource: S.\n\nPublished:\n- a\n\nCost: one pass.\n\nWhen not to use it: never.\n"
    found = tool("docs_methods").parts(text)
    assert (found.title, found.idea) == ("T: one.", ["    x <- |y|", "Idea."])
    assert found.origin == ["Source: S.", "Published:\n- a"] and (found.cost, found.not_for) == (
        "one pass.",
        "never.",
    )


def test_every_method_says_its_cost_and_when_not_to_use_it(tool):
    from expunge.training.registry import find, names

    methods = tool("docs_methods")
    texts = {name: methods.parts(sys.modules[find(name).__module__].__doc__) for name in names()}
    assert not [name for name, text in texts.items() if not (text.cost and text.not_for)]


def test_a_row_of_a_method_page_is_that_of_the_result_file(tool):
    measured = tool("docs_measured")
    rows = next(
        rows
        for case, rows in measured.cases().items()
        if case.file == "digits" and case.request == "one class"
    )
    runs = [
        r for r in measured.read("digits")["runs"] if r["label"] == "salun" and "forget_class" in r["split"]
    ]
    assert rows["salun"].gaps == [r["scores"]["gap"]["avg"] for r in runs] and len(runs) == 3
    assert (
        measured.spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
        and measured.spread([1.25]) == "1.2"
        and measured.spread([]) == "-"
    )


def test_the_decision_table_ranks_by_the_mean_gap(tool):
    row = tool("docs_measured").Row
    rows = [
        row("salun", "salun", "unlearn", gaps=[3.0, 1.0]),
        row("salun, mask random", "salun", "unlearn", gaps=[0.5]),  # another mask
        row("bias_shift", "bias_shift", "unlearn", gaps=[0.0]),  # a baseline
        row("finetune", "finetune", "unlearn", gaps=[1.0, 1.5]),
        row("ssd", "ssd", "unlearn", gaps=[0.1], unchanged=1),  # kept the original
        row("Original", "retrain", "original", gaps=[0.2]),
    ]
    nearest = tool("docs_choose").nearest
    assert [r.label for r in nearest(rows, lambda r: True)] == ["finetune", "salun"]
    assert [r.label for r in nearest(rows, lambda r: r.label != "finetune")] == ["salun"]


def test_every_command_and_flag_is_on_the_page_of_the_command_line():
    from expunge.cli.app import COMMANDS

    text = (DOCS / "command_line.md").read_text(encoding="utf-8")
    assert not [name for name in COMMANDS if not re.search(rf"^## expunge {name}( METHOD)?$", text, re.M)]
    assert "| `--forget-class` |" in text and "| `--max-gap` |" in text
    assert not re.findall(r"^\| `--[^|]*\|[^|]*\| *\|$", text, re.M), "flags without a meaning"


def test_links_out_of_the_docs_folder_become_names_of_files(tool):
    site_text = tool("outside_links").site_text
    assert site_text("see [`x.py`](../examples/x.py).", "extending") == "see `examples/x.py`."
    assert site_text("[the\nrows](../benchmarks/a.json)", "requests") == "the\nrows (`benchmarks/a.json`)"
    assert site_text("[index](../methods.md#x) [C](../../CONTRIBUTING.md)", "methods/salun") == (
        "[index](../methods.md#x) [C](../contributing.md)"
    )


def test_docstrings_become_what_sphinx_reads(tool):
    as_rst = tool("docstrings").as_rst
    given = ["A |b| of `c|d`.", "", "    x <- |y| * z", "", "Ours:", "- one", "  more", "- two"]
    assert as_rst(given, formulas=True) == [
        "A \\|b\\| of `c|d`.", "", "::", "", "    x <- |y| * z", "", "Ours:", "", "- one", "  more", "- two",
    ]  # fmt: skip
    assert as_rst(["Args:", "    x: The |x|."], formulas=False) == ["Args:", "    x: The \\|x\\|."]


def test_every_package_has_a_page_of_the_api(tool):
    pages = tool("api_pages").pages()
    assert {f"{p.parent.name}.rst" for p in (ROOT / "src/expunge").glob("*/__init__.py")} <= set(pages)
    assert ".. automodule:: expunge.audit.measures.tow" in pages["audit.rst"]
    assert "_few_samples" not in pages["methods.rst"] and "   methods\n" in pages["index.rst"]


def test_the_python_blocks_of_the_guides_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("own_loop", "unlearning", "formats"):
        for block in re.findall(
            r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(encoding="utf-8"), re.S
        ):
            exec(compile(block, f"{name}.md", "exec"), {})
    assert capsys.readouterr().out == "untrain unlearn\n100.0\n"


@pytest.mark.slow  # trains four models
def test_the_commands_of_the_guides_run(tmp_path, monkeypatch):
    from expunge.cli.app import main

    monkeypatch.chdir(tmp_path)
    for page in ("reading", "attacks", "ci_gate"):
        for block in re.findall(r"```sh\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.S):
            for line in block.strip().splitlines():
                assert main(shlex.split(line)[1:]) in (0, 1), line
    assert (tmp_path / "audit.html").exists()


@pytest.mark.slow  # imports and formats every module
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    pytest.importorskip("furo", reason="needs the extra docs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-q",
        str(DOCS),
        str(tmp_path / "html"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    index = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert "First steps" in index and (tmp_path / "html" / "api" / "audit.html").exists()
