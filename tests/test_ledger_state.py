"""The stored state of a ledger: constant work for each row, and every way in which it could differ from the rows."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.receipts import chain, ledger_file, ledger_state
from expunge.receipts.ledger import Ledger
from expunge.receipts.replay import replay, to_json
from expunge.receipts.request_entry import request_entry
from test_ledger_proof import entry, make_run

OLD = Path(__file__).parent / "fixtures" / "ledger_v1.db"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "requests.db", create=True)


def edit(path, *statements):
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(*(statement if isinstance(statement, tuple) else (statement,)))
    db.commit()
    db.close()


def outcome(checks):
    return {c.name: c.ok for c in checks}


def holds(checks):
    return bool(checks) and all(c.ok for c in checks)


def messages(checks):
    return {c.name: c.message for c in checks}


def filled(ledger, count):
    """Enter many requests at once."""
    with ledger.transaction() as db:
        for number in range(1, count + 1):
            ledger_file.insert_row(db, "request", number, request_entry(f"case {number}", ["1"]))
    ledger.add("the last one", ["1"])
    return ledger


# ---- rows that replace others


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("pragma", ["PRAGMA recursive_triggers = OFF", "PRAGMA recursive_triggers = ON"])
def test_a_row_that_replaces_another_one_is_refused(tmp_path, pragma, old):
    ledger = Ledger(shutil.copy(OLD, tmp_path / "l.db")) if old else Ledger(tmp_path / "l.db", create=True)
    ledger.add("case 1")
    db = sqlite3.connect(ledger.path)
    db.execute(pragma)
    columns = "seq, at, kind, request, body, previous, hash"
    for words in ("INSERT OR REPLACE", "REPLACE"):
        for row in (1, 2):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(
                    f"{words} INTO events SELECT seq, '2020', kind, request, body, previous, hash FROM events WHERE seq = ?",
                    (row,),
                )
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(f"INSERT OR REPLACE INTO events ({columns}) SELECT {columns} FROM events WHERE seq = 2")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("UPDATE OR REPLACE events SET seq = 1 WHERE seq = 2")
    db.close()
    assert holds(ledger.check(full=True)) and ledger.add("next")


def test_the_chain_shows_a_row_that_was_replaced_without_the_trigger(ledger):
    ledger.add("case 1")
    edit(
        ledger.path,
        "DROP TRIGGER no_REPLACE",
        "REPLACE INTO events SELECT seq, '2020', kind, request, body, previous, hash FROM events WHERE seq = 2",
    )
    assert outcome(ledger.check())["chain"] is False


# ---- constant work


def work(ledger, monkeypatch, call):
    """Return the steps of SQLite's machine (in hundreds), and the rows that were read, of one call."""
    steps, rows, connect = [], [], sqlite3.connect

    def connected(*args, **options):
        db = connect(*args, **options)
        db.set_progress_handler(lambda: steps.append(1), 100)
        return db

    original = ledger_state.rows_after

    def counted(db, count):
        found = original(db, count)
        rows.extend(found)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connected)
        for module in (ledger_state, ledger_file):
            patch.setattr(module, "rows_after", counted)
        call()
    return len(steps), len(rows)


def test_add_and_attach_read_as_much_in_a_small_and_in_a_large_ledger(tmp_path, monkeypatch):
    found = []
    for count in (20, 3000):
        ledger = filled(Ledger(tmp_path / f"{count}.db", create=True), count)
        files = make_run(tmp_path, f"r{count}", ["1"])
        calls = {
            "add": lambda ledger=ledger: ledger.add("x", ["1"]),
            "attach": lambda ledger=ledger, files=files: ledger.attach(7, **files),
            "limits": lambda ledger=ledger: ledger.set_limits(max_gap=3.0),
            "request": lambda ledger=ledger: ledger.request(7),
        }
        found.append({name: work(ledger, monkeypatch, call) for name, call in calls.items()})
        assert holds(ledger.check(full=True))
    small, large = found
    for name, (steps, rows) in large.items():
        assert rows == small[name][1] <= 2, name
        # a deeper search tree costs a little more
        assert steps <= 2 * small[name][0] + 5, (name, small[name], steps)
    # the control: reading all requests costs steps for each of them
    assert work(ledger, monkeypatch, ledger.requests)[0] > 20 * large["request"][0]


def test_a_ledger_without_receipts_does_not_read_like_a_failure(ledger):
    ledger.add("case", ["1"])
    assert messages(ledger.check())["receipts"] == "no request has a receipt yet, so there is none to verify"


def test_only_new_receipts_are_verified_again(ledger, tmp_path, monkeypatch):
    verified, original = [], chain.verify
    monkeypatch.setattr(chain, "verify", lambda *a, **k: verified.append(1) or original(*a, **k))
    for number in range(1, 5):
        ledger.add(f"case {number}", ["1"])
        ledger.attach(number, **make_run(tmp_path, f"r{number}", ["1"], seed=number))
    assert holds(ledger.check()) and not verified, "each was verified before it was entered"
    before = "4 receipts, all valid; 4 verified before, and --full verifies them again"
    assert messages(ledger.check())["receipts"] == before
    assert holds(ledger.check(full=True)) and len(verified) == 4
    # rows of a version that does not move the mark
    edit(
        ledger.path,
        (
            "UPDATE mark SET count = 5, hash = (SELECT hash FROM events WHERE seq = 5) WHERE name = 'verified'",
        ),
    )
    verified.clear()
    assert holds(ledger.check()) and len(verified) == 2
    assert holds(ledger.check()) and len(verified) == 2


def test_a_mark_of_another_history_verifies_everything(ledger, tmp_path, monkeypatch):
    ledger.add("case", ["1"])
    ledger.attach(1, **make_run(tmp_path, "r", ["1"]))
    verified, original = [], chain.verify
    monkeypatch.setattr(chain, "verify", lambda *a, **k: verified.append(1) or original(*a, **k))
    edit(ledger.path, ("UPDATE mark SET hash = ? WHERE name = 'verified'", ("f" * 64,)))
    assert holds(ledger.check()) and len(verified) == 1


def test_a_changed_row_is_found_behind_the_mark(ledger, tmp_path):
    """The quick check computes the hash of every row, not only of those behind the mark."""
    ledger.add("case", ["1"])
    ledger.attach(1, **make_run(tmp_path, "r", ["1"]))
    assert holds(ledger.check())
    edit(
        ledger.path,
        "DROP TRIGGER no_UPDATE",
        "UPDATE events SET body = replace(body, 'salun', 'scrub') WHERE seq = 3",
    )
    checks = ledger.check()
    assert outcome(checks)["chain"] is False and outcome(checks)["receipts"] is False


# ---- the stored state


def test_the_stored_state_is_that_of_the_rows(ledger, tmp_path):
    one = make_run(tmp_path, "one", ["1"])
    for name in ("a", "b", "c"):
        ledger.add(name, ["1"])
    ledger.attach(1, **one)
    ledger.attach(2, **make_run(tmp_path, "two", ["1"], earlier=[entry(one)], seed=1))
    ledger.set_limits(max_gap=2.0)
    ledger.attach(3, status="refused", note="not ours")
    book = replay(ledger.events(), ledger.path)
    for number, request in enumerate(ledger.requests(), 1):
        assert to_json("request", request) == to_json("request", book.request(number))
        assert request == book.request(number) == ledger.request(number)
    assert ledger.request(2).brought_back == (1,) and ledger.request(1).drift.request == 2
    assert messages(ledger.check(full=True))["state"] == "3 requests, stored as their rows say"


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE state SET value = replace(value, '"case"', '"eve"') WHERE kind = 'request'""",
        "DELETE FROM state WHERE kind = 'request'",
        "UPDATE state SET value = '9' WHERE kind = 'count'",
        "INSERT INTO state VALUES ('request', '7', '{}')",
        "INSERT INTO state VALUES ('document', 'x', 'true')",
        "UPDATE state SET value = 'x'",
        "UPDATE mark SET hash = 'x' WHERE name = 'digest'",
    ],
)
def test_an_edit_of_the_stored_state_is_found(ledger, statement):
    ledger.add("case", ["1"])
    edit(ledger.path, statement)
    assert outcome(ledger.check())["state"] is False and outcome(ledger.check(full=True))["state"] is False


def test_a_digest_that_is_no_number_is_an_error_and_not_a_traceback(ledger):
    ledger.add("case", ["1"])
    edit(ledger.path, "UPDATE mark SET hash = 'x' WHERE name = 'digest'")
    with pytest.raises(ExpungeError, match="`expunge ledger check` says what is wrong"):
        ledger.add("next")


def test_an_edit_with_a_new_digest_is_found_by_the_full_check(ledger):
    ledger.add("case", ["1"])
    db = sqlite3.connect(ledger.path)
    ((text,),) = db.execute("SELECT value FROM state WHERE kind = 'request'").fetchall()
    db.execute(
        "UPDATE state SET value = ? WHERE kind = 'request'",
        (json.dumps(json.loads(text) | {"status": "done"}),),
    )
    total = sum(ledger_state._number(*row) for row in db.execute("SELECT kind, key, value FROM state"))
    db.execute("UPDATE mark SET hash = ? WHERE name = 'digest'", (f"{total % 2**256:064x}",))
    db.commit()
    db.close()
    assert holds(ledger.check())
    assert (
        messages(ledger.check(full=True))["state"] == "the stored state of request 1 is not that of the rows"
    )
    assert main(["ledger", "check", str(ledger.path)]) == 0
    assert main(["ledger", "check", str(ledger.path), "--full"]) == 1


def test_rows_of_an_earlier_version_are_taken_up(ledger):
    """An earlier version enters rows and heads, and knows no stored state."""
    ledger.add("case 1", ["1"])
    with ledger.transaction() as db:
        ledger_file.insert_row(db, "request", 2, request_entry("case 2", ["2"]))
    assert [r.subject for r in ledger.requests()] == ["case 1", "case 2"], "read from the rows"
    assert holds(ledger.check()) and ledger.count() == 2
    assert ledger.add("case 3") == 3 and [r.number for r in ledger.requests()] == [1, 2, 3]
    assert holds(ledger.check(full=True))


def test_checking_an_old_file_does_not_change_it(tmp_path):
    old = Ledger(shutil.copy(OLD, tmp_path / "old.db"))
    before = old.path.read_bytes()
    assert holds(old.check()) and holds(old.check(full=True)) and old.requests() and old.request(1)
    assert old.path.read_bytes() == before
    assert old.add("next") == 4 and holds(old.check(full=True))


def test_has_names_the_heads_that_the_ledger_had(ledger):
    heads = [ledger.head()]
    for number in range(3):
        ledger.add(f"case {number}")
        heads.append(ledger.head())
    assert all(map(ledger.has, heads))
    assert not ledger.has(ledger_state.LedgerHead(2, "f" * 64))
    assert not ledger.has(ledger_state.LedgerHead(9, heads[-1].hash))


def test_many_requests_are_printed_as_plain_columns(tmp_path, capsys):
    ledger = filled(Ledger(tmp_path / "l.db", create=True), 600)
    assert main(["ledger", "list", str(ledger.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["no.", "subject", "due", "status", "ids"]
    assert len(lines) == 602 and lines[600].split()[:3] == ["600", "case", "600"]
    assert lines[1].index("case 1") == lines[600].index("case 600") == lines[0].index("subject")
