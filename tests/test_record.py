"""Records: `ended` says in one word how a run ended, also for records written before the field existed."""

import io
import json

import pytest
from rich.console import Console

from expunge.bench.results import entry
from expunge.bench.tables import markdown
from expunge.cli.table import result_table
from expunge.errors import ExpungeError
from expunge.records.record import Record
from expunge.report.study import studies
from expunge.report.tables import main_rows


@pytest.mark.parametrize(("status", "ended"), [
    ("finished", "finished"),
    ("stopped: the forget set is at chance", "stopped"),
    ("stopped at step 9: the loss became NaN; the last good state (step 5) was kept.", "stopped"),
    ("diverged at step 1: a weight became NaN", "diverged"),
    ("lost", "diverged")])  # fmt: skip
def test_ended_of_an_old_record_comes_from_its_status(tmp_path, status, ended):
    values = json.loads(Record("unlearn", "salun", status=status).save(tmp_path / "new.json").read_text())
    assert values.pop("ended") == ended
    (tmp_path / "old.json").write_text(json.dumps(values))
    assert Record.load(tmp_path / "old.json").ended == ended == Record.load(tmp_path / "new.json").ended


def test_ended_counts_and_not_the_status():
    run = Record("unlearn", "salun", status="finished, by hand", ended="diverged", scores={"UA": 1.0})
    console = Console(width=200, file=io.StringIO())
    console.print(result_table([run]))
    assert "salun (diverged)" in console.file.getvalue()
    written = entry(run, "salun", {})
    assert "salun (1 diverged)" in markdown([written])
    assert "salun (1 diverged)" in markdown([{**written, "ended": None, "status": "diverged at step 3: NaN"}])
    assert main_rows(studies([run])[0])[0]["diverged"]
    assert Record("unlearn", "salun", ended=["no", "word"]).ended == "finished"  # an edited file


@pytest.mark.parametrize(
    "values", [{"kind": "unlearn", "schema": 1}, {"kind": "unlearn", "method": "salun", "schema": "1"}, []]
)
def test_other_json_is_not_a_record(tmp_path, values):
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(ExpungeError, match="not a record"):
        Record.load(tmp_path / "r.json")
