"""A ledger file whose tables, triggers or indexes were altered is refused, and `check` names them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.receipts.ledger import Ledger

OLD = Path(__file__).parent / "fixtures" / "ledger_v1.db"
NO_DELETE = "CREATE TRIGGER no_DELETE BEFORE DELETE ON events BEGIN SELECT 1; END"


@pytest.fixture
def path(tmp_path):
    ledger = Ledger(tmp_path / "requests.db", create=True)
    ledger.add("case 1", ["1"])
    return ledger.path


def execute(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["DROP TRIGGER no_UPDATE"], "the trigger 'no_UPDATE' is missing"),
        (["DROP TRIGGER no_DELETE", NO_DELETE], "the trigger 'no_DELETE' was altered"),
        (["DROP TRIGGER no_REPLACE"], "the trigger 'no_REPLACE' is missing"),
        (["DROP INDEX limits_rows"], "the index 'limits_rows' is missing"),
        (["DROP TABLE mark"], "the table 'mark' is missing"),
        (
            ["CREATE TRIGGER more AFTER INSERT ON events BEGIN UPDATE head SET count = 1; END"],
            "the trigger 'more' is unknown",
        ),
        (["CREATE VIEW requests AS SELECT * FROM events"], "the view 'requests' is unknown"),
        (["CREATE INDEX also ON events (at)"], "the index 'also' is unknown"),
        (["ALTER TABLE events ADD COLUMN more TEXT"], "the table 'events' was altered"),
    ],
)
def test_another_schema_is_refused_and_named(path, statements, words, capsys):
    execute(path, *statements)
    before = path.read_bytes()
    with pytest.raises(
        ExpungeError, match=f"schema of .* was changed: .*{words}.*restore the file from a backup"
    ):
        Ledger(path)
    assert main(["ledger", "add", str(path), "case 2"]) == 2 and main(["ledger", "list", str(path)]) == 2
    assert words in capsys.readouterr().err
    assert main(["ledger", "check", str(path)]) == 1
    shown = capsys.readouterr().out
    if "events" not in words:
        assert f"FAILED schema: {words}" in shown and "ok     chain: 2 rows" in shown
    assert path.read_bytes() == before


def test_what_sqlite_does_to_a_file_is_no_change(path, tmp_path):
    """The control: statistics, a compacted file, a file written again from its dump, and files of earlier versions."""
    execute(path, "ANALYZE", "VACUUM")
    assert all(c.ok for c in Ledger(path).check())
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "again.db")) as again:
        db.backup(again)
    assert Ledger(tmp_path / "again.db").add("case 2") == 2
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "dump.db")) as dumped:
        dumped.executescript("\n".join(line for line in db.iterdump() if "sqlite_stat" not in line))
        dumped.execute("PRAGMA user_version = 1")
    assert Ledger(tmp_path / "dump.db").add("case 2") == 2
    old = Ledger(shutil.copy(OLD, tmp_path / "old.db"))
    assert all(c.ok for c in old.check()) and old.add("next") and all(c.ok for c in Ledger(old.path).check())


def test_a_file_that_lost_all_later_tables_is_one_of_an_earlier_version(path):
    """They are computed from the rows again, and every receipt is verified again."""
    execute(path, "DROP TABLE state", "DROP TABLE mark", "DROP TRIGGER no_REPLACE", "DROP INDEX limits_rows")
    ledger = Ledger(path)
    assert ledger.add("case 2") == 2 and all(c.ok for c in ledger.check(full=True))
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("REPLACE INTO events SELECT * FROM events WHERE seq = 1")
