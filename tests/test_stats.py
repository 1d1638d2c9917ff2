"""One mean and one spread, the sample standard deviation, in the terminal's table, on the benchmarks page and in the report."""

import io
import re

import pytest
from rich.console import Console

from expunge.bench.results import entry
from expunge.bench.tables import markdown
from expunge.cli.table import result_table
from expunge.records.record import Record
from expunge.records.statistics import grouped, row_order, stat, stat_text
from expunge.report import page


def test_stat_by_hand():
    found = stat([1.0, None, 3.0])
    assert found.mean == 2 and found.spread == pytest.approx(2**0.5) and found.n == 2
    assert found.text() == "2.00±1.41" and stat_text([1.0, 3.0], 1) == "2.0±1.4"
    assert stat([None, 4.0]).spread is None and stat_text([4.0]) == "4.00" and stat_text([None]) == "–"
    assert stat([]) is None


def test_rows_stand_together_in_order():
    assert grouped([1, 2, 3, 4], lambda n: n % 2) == [[1, 3], [2, 4]]
    order = [("unlearn", [None]), ("unlearn", [2.0]), ("retrain", [0.0]), ("original", [9.0])]
    assert sorted(order, key=lambda row: row_order(*row)) == order[::-1]


def test_the_spread_is_the_same_figure_everywhere():
    setting = {"split": {"scenario": "class", "forget_class": ["1"]}, "data": {"name": "toy"}}
    runs = [
        Record("unlearn", "salun", seed=seed, scores={k: ua for k in ("UA", "RA", "TA", "MIA")}, **setting)
        for seed, ua in enumerate((20.0, 22.0, 27.0))
    ]
    console = Console(width=200, file=io.StringIO())
    console.print(result_table(runs))
    table = console.file.getvalue()
    assert "23.00±3.61" in table and "sample standard deviation" in " ".join(table.split())
    assert "23.00±3.61" in markdown([entry(r, "salun", {}) for r in runs])
    assert "± 3.6" in re.sub(r"<[^>]*>", "", page(runs)).replace("\xa0", " ")
