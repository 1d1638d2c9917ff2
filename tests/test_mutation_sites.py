"""The small changes that `make mutants` makes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from mutation_sites import sites

CODE = """def f(a, b):
    \"\"\"Words.\"\"\"
    if a < b:
        raise ValueError(f"{a + 1}")
    g(a, key=b)
    return not a or -b
"""


def test_each_change_by_hand():
    found = [(s.line, s.operator, s.after) for s in sites(CODE)]
    assert found == [
        (3, "comparison", "(a <= b)"),
        (5, "call left out", "pass"),
        (5, "keyword left out", "(g(a))"),
        (6, "and/or", "(not a and -b)"),
        (6, "sign or not", "(a)"),
        (6, "sign or not", "(b)"),
    ]


def test_a_change_alters_one_place_and_is_python():
    for site in sites(CODE):
        changed = site.apply(CODE)
        compile(changed, "f.py", "exec")
        lines = zip(CODE.splitlines(), changed.splitlines(), strict=True)
        assert [k for k, (a, b) in enumerate(lines, 1) if a != b] == [site.line]


def test_texts_errors_and_docstrings_stay():
    assert not sites('def f():\n    """1"""\n    warn(1 + 1)\n    raise ValueError(2)\n')
