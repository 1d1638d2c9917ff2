"""Earlier requests in the report and in the table of the terminal."""

import io

import pytest
from rich.console import Console

from expunge.cli.table import earlier_table
from expunge.records.record import Record
from expunge.report import page, request_history


def record(after, values, before="", back=()):
    """A run after `len(values)` requests; `values` are (accuracy, MIA) of each, the last one being its own."""
    earlier = [
        {"number": k + 1, "request": f"r{k}", "scenario": "ids", "goal": "untrain", "samples": 1000 + k, "UA": 100 - a, "MIA": m,
         "UA_then": 90.0 - a, "MIA_then": m, "UA_retrained": None, "MIA_retrained": None, "UA_change": 10.0, "MIA_change": 0.0,
         "came_back": k in back, "reason": "", "receipt": "", "record": ""}
        for k, (a, m) in enumerate(values[:-1])
    ]  # fmt: skip
    own = values[-1]
    scores = {"UA": 100 - own[0], "RA": 99.0, "TA": 90.0, "MIA": own[1]}
    return Record(
        kind="unlearn", method="salun", scores=scores, model={"hash_before": before, "hash_after": after},
        details={"earlier_requests": earlier} if earlier else {}, machine={}, created="2026-01-01T00:00:00",
        split={"scenario": "ids", "hash": after, "earlier": [e["request"] for e in earlier]},
    )  # fmt: skip


RUNS = [
    record("c", [(12, 80), (7, 60), (95, 10)], "b", back=(1,)),
    record("a", [(10, 85)], "0"),
    record("b", [(11, 82), (6, 61)], "a"),
]


def test_heat_maps_are_in_the_order_of_the_requests():
    accuracy, mia = request_history.heat_maps(RUNS)
    shown = [[c["text"] for c in cells] for _, cells in accuracy["rows"]]
    assert shown == [["10.0", "", ""], ["11.0", "6.0", ""], ["12.0", "7.0", "95.0"]]
    assert [c["shade"] for c in accuracy["rows"][2][1]] == [1, 0, 9]
    assert [name for name, _ in mia["rows"]] == ["after request 1", "after request 2", "after request 3"]
    assert [c["text"] for c in mia["rows"][2][1]] == ["80.0", "60.0", "10.0"]


def test_there_is_no_heat_map_without_a_sequence():
    assert request_history.heat_maps(RUNS[1:2]) == []
    # two seeds of one request are no sequence
    assert request_history.heat_maps([RUNS[2], record("d", [(11, 82), (6, 61)], "a"), RUNS[1]]) == []


def test_the_page_shows_what_came_back():
    text = page(RUNS)
    assert "Requests in order" in text and "came back" in text and text.count("still forgotten") == 2
    assert "90.0 (+10.0)" not in text and "88.0 (+10.0)" in text
    assert "Requests in order" not in page(RUNS[1:2]) and "Other requests" not in page(RUNS[1:2])


@pytest.mark.parametrize(
    "broken", [None, 3, [3, None], [{}], [{"UA": "<b>", "number": "<script>"}], [{"UA": 1e400}]]
)
def test_values_that_someone_edited_break_nothing(broken):
    run = record("c", [(12, 80), (7, 60)], "b")
    run.details["earlier_requests"] = broken
    assert "<script>x" not in page([run])
    assert "&lt;script&gt;" in page([run]) or "<script>" not in str(broken)


def test_the_terminal_table_fits_eighty_columns():
    out = io.StringIO()
    Console(file=out, width=80).print(earlier_table(RUNS[0]))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    assert sum("came back" in line for line in lines) == 1 and "88.0 (+10.0)" in out.getvalue()
    assert earlier_table(RUNS[1]) is None
