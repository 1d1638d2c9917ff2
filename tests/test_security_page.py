"""Every claim of SECURITY.md names a test that exists, or says that it is not protected."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "SECURITY.md"
# sections that claim nothing about the code
WITHOUT_CLAIMS = ("Security", "Report a fault")
NAMED = re.compile(r"`(test_\w+)::(test_\w+)`")


def claims(page):
    """The rows of tables and the entries of lists in sections with claims, each as one text."""
    found, section = [], ""
    for block in re.split(r"\n(?=#|- |\| )|\n\n", page):
        if heading := re.match(r"#+ (.*)", block):
            section = heading[1].splitlines()[0]
        elif section not in WITHOUT_CLAIMS and re.match(r"- |\| (?!---|they do|file \|)", block):
            found.append(block)
    return found


def unsupported(page):
    return [c for c in claims(page) if not NAMED.search(c) and "Not protected" not in c]


def missing(page):
    """The named tests that do not exist."""
    return [f"{file}::{test}" for file, test in NAMED.findall(page) if test not in defined(file)]


def defined(file):
    path = TESTS / f"{file}.py"
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_claim_names_a_test_or_says_that_it_is_not_protected():
    page = PAGE.read_text()
    assert len(claims(page)) > 40 and unsupported(page) == []


def test_every_named_test_exists():
    assert missing(PAGE.read_text()) == []


def test_an_unsupported_claim_is_found():
    page = "# Security\n\n## Keys\n\n- All is well.\n- Some is: `test_x::test_y`.\n\n| file | why |\n| --- | --- |\n| a | it is so |\n"
    assert unsupported(page) == ["- All is well.", "| a | it is so |\n"] and missing(page) == [
        "test_x::test_y"
    ]
