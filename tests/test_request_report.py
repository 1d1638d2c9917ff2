"""Earlier requests in the report and in the table of the terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from expunge.cli.table import earlier_table, requests_table, result_table
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
        split={"scenario": "ids", "hash": after, "request": f"r{len(earlier)}", "earlier": [e["request"] for e in earlier]},
    )  # fmt: skip


RUNS = [
    record("c", [(12, 80), (7, 60), (95, 10)], "b", back=(1,)),
    record("a", [(10, 85)], "0"),
    record("b", [(11, 82), (6, 61)], "a"),
]


def test_heat_maps_have_a_row_for_each_request():
    accuracy, mia = request_history.heat_maps(RUNS)
    shown = [[c["text"] for c in cells] for _, cells in accuracy["rows"]]
    assert shown == [["10.0", "11.0", "12.0"], ["", "6.0", "7.0"], ["", "", "95.0"]]
    assert [cells[2]["shade"] for _, cells in accuracy["rows"]] == [1, 0, 9]
    assert [name for name, _ in mia["rows"]] == ["request 1", "request 2", "request 3"]
    assert mia["columns"] == [f"run {k} (request {k})" for k in (1, 2, 3)]
    assert [cells[2]["text"] for _, cells in mia["rows"]] == ["80.0", "60.0", "10.0"]
    # the record of a first request does not name its hash
    without = replace(RUNS[1], split={"scenario": "ids", "hash": "a"})
    assert request_history.heat_maps([RUNS[0], without, RUNS[2]]) == [accuracy, mia]


def several():
    """Two runs; the second one answers three requests, entered as 2, 4 and 3. Its own scores are those of their union."""
    first, run = record("a", [(10, 85)], "0"), record("b", [(11, 82), (50, 50)], "a")
    own = [
        {"number": n, "request": f"s{n}", "scenario": "ids", "goal": "untrain", "samples": 2, "UA": UA, "MIA": MIA,
         "UA_before": 5.0, "MIA_before": 80.0, "UA_retrained": None, "verdict": ["unknown"], "warning": text}
        for n, UA, MIA, text in ((2, 90.0, 30.0, ""), (4, 20.0, 40.0, "It was taught."), (3, 0.0, 7.0, ""))
    ]  # fmt: skip
    run.details["requests"] = own
    return [first, run]


def test_each_request_of_a_run_has_a_row_with_its_own_scores():
    runs = several()
    accuracy, mia = request_history.heat_maps(runs)
    assert accuracy["columns"] == ["run 1 (request 1)", "run 2 (requests 2, 4, 3)"]
    shown = {name: [c["text"] for c in cells] for name, cells in accuracy["rows"]}
    assert shown == {
        "request 1": ["10.0", "11.0"],
        "request 2": ["", "10.0"],
        "request 3": ["", "100.0"],
        "request 4": ["", "80.0"],
    }
    assert [cells[1]["text"] for _, cells in mia["rows"]] == ["82.0", "30.0", "7.0", "40.0"]
    text = page(runs)
    # the union's own values stand in no heat map, and its row in the table of methods says what it is
    assert "SalUn (union of 3 requests)" in text and "Requests of this run" in text
    assert "Request 4: It was taught." in text and "5.0 &gt; 20.0" in text
    assert "union of" not in page(runs[:1]) and request_history.own_table(runs[0]) is None


def test_the_terminal_shows_the_scores_of_each_request():
    out = io.StringIO()
    Console(file=out, width=80).print(requests_table(several()[1]))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    assert [line.split()[1] for line in lines if "(ids)" in line] == ["2", "4", "3"]
    assert sum("not shown │" in line for line in lines) == 1 and "5.0 > 90.0" in out.getvalue()
    assert requests_table(several()[0]) is None
    out.truncate(0)
    Console(file=out, width=80).print(result_table(several()))
    assert "3 requests together" in " ".join(out.getvalue().split())


def test_a_model_that_answered_requests_is_no_original():
    before = record("b", [(11, 82), (6, 61)])
    before.kind, before.details["answered"] = "original", 1
    # an original that is scored with earlier requests of another model stays one
    first = record("a", [(10, 85), (1, 2)])
    first.kind = "original"
    for run, words, others in (
        (before, "before this run", "original"),
        (first, "original", "before this run"),
    ):
        out = io.StringIO()
        Console(file=out, width=80).print(result_table([run]))
        for text in (out.getvalue().lower(), page([run, RUNS[1]]).lower()):
            assert words in text
        assert others not in out.getvalue().lower()


def test_the_texts_name_the_model_before_a_later_run_as_its_row_does():
    before, run = record("b", [(11, 82), (6, 61)]), record("c", [(12, 80), (7, 60)], "b")
    retrained = record("r", [(10, 85), (1, 2)])
    before.kind, retrained.kind, before.details["answered"] = "original", "retrain", 1
    counts = {"bins": [0, 0.5, 1], "original": {"forget": [1, 3]}, "unlearned": {"forget": [3, 1]}}
    run.details |= {"histograms": counts, "trials": [{"settings": {"lr": 0.1}, "distance": 1.0}]}
    run.details["features"] = {"original": {"cka_original": 1.0}, "unlearned": {"cka_original": 0.5}}
    run.ended = "worse"
    rows = [replace(r, split={"scenario": "ids", "earlier": ["r0"]}) for r in (before, retrained, run)]
    text = page(rows)
    assert "The model before this run is" in text and "target than the model before this run" in text
    assert "model before this run 75.0" in text and "points; the model before this run:" in text
    assert (
        "</svg>model before this run</span>" in text
        and "original" not in text.split("<main>")[1].lower().split("<script>")[0]
    )
    assert "CKA to the model before this run" in text
    assert "the model before this run:" in page(rows[2:])
    before.details["answered"] = 0
    assert "The original is" in page(rows) and "this run 75.0" not in page(rows)


def test_there_is_no_heat_map_without_a_sequence():
    assert request_history.heat_maps(RUNS[1:2]) == []
    # two seeds of one request are no sequence
    assert request_history.heat_maps([RUNS[2], record("d", [(11, 82), (6, 61)], "a"), RUNS[1]]) == []


def test_the_page_shows_what_came_back():
    text = page(RUNS)
    assert "Requests in order" in text and "came back" in text and text.count("not back") == 2
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


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_number_of_the_result_table_is_cut_in_eighty_columns(seeds):
    gap = dict.fromkeys(("UA", "RA", "TA", "MIA", "avg", "features"), 100.0)
    runs = [
        Record(kind=kind, method="ugradsl_plus", seed=seed, seconds=12345.6, peak_memory=2**40, machine={},
               scores={"UA": 100.0, "RA": 100.0, "TA": 100.0, "MIA": 100.0, "gap": gap},
               details={"grounds": {"over_forgotten": "It is."}} if kind == "unlearn" else {})
        for kind in ("original", "unlearn")
        for seed in range(seeds)
    ]  # fmt: skip
    for width in (72, 80, 200):
        out = io.StringIO()
        Console(file=out, width=width).print(result_table(runs, width=width))
        text = out.getvalue()
        assert max(map(len, text.splitlines())) <= width and "…" not in text
        # four scores, average and feature gap in each of two rows, the gaps to Retrain in brackets
        assert text.count("100.00") == 20 and text.count("(100.00)") == 8
        assert ("MiB" in text) == (width == 200)
        assert text.count("±0.00") == (0 if seeds == 1 else 13 if "RTE" in text else 12)


def test_words_and_marks_of_other_requests_say_what_their_own_audits_showed():
    run = record("c", [(12, 80), (7, 60), (95, 10)], "b")
    run.details["earlier_requests"][0] |= {"not_shown": True, "unreliable_mia": True, "repeated": [4, 9]}
    out = io.StringIO()
    Console(file=out, width=200).print(earlier_table(run))
    lines = [line for line in out.getvalue().splitlines() if "(ids)" in line]
    assert (
        ["not shown" in line for line in lines] == ["not back" not in line for line in lines] == [True, False]
    )
    assert "80.0*" in out.getvalue() and "60.0*" not in out.getvalue() and "forgotten │" not in out.getvalue()
    rows = request_history.earlier_table(run)
    assert [row[1][-1].partition(":")[0] for row in rows["rows"]] == ["not shown", "not back"]
    accuracy, mia = request_history.heat_maps([run, *RUNS[1:]])
    assert accuracy["notes"] == ["Requests 4, 9: see request 1."]
    assert [name for name, _ in mia["rows"]] == ["request 1*", "request 2", "request 3"]
    assert "unreliable" in mia["notes"][-1] and "see request 1." in page([run, *RUNS[1:]])
