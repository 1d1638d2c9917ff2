"""Test the ledger: requests, attachments, and every way to tamper with the file."""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import stat
import threading
import time
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.receipts import ledger_rows
from expunge.receipts.canonical import canonical
from expunge.receipts.chain import START, Event, LedgerHead, check_events
from expunge.receipts.issue import issue, record_hash
from expunge.receipts.keys import make_key
from expunge.receipts.ledger import DAYS, Ledger, check_export
from expunge.receipts.receipt import Receipt
from expunge.records.record import Record

IDS = ["a1", "a2", "b7"]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "requests.db", create=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run as files: record, audit, receipt, secret, keys."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    make_key(folder / "key")
    record = Record("unlearn", "salun", {"lr": 0.1}, split={"hash": "5" * 64}, machine={})
    record.save(folder / "record.json")
    Record(
        "unlearn",
        "salun",
        scores={"UA": 97.5, "gap": {"UA": 1.0}},
        details={"verdict": "under-forgotten"},
        machine={},
    ).save(folder / "audit.json")
    receipt, secret = issue(
        record, [*IDS, "c"], before=nn.Linear(2, 2), after=nn.Linear(2, 2), key=folder / "key"
    )
    receipt.save(folder / "receipt.json")
    secret.save(folder / "secret.json")
    other, _ = issue(
        Record("unlearn", "other", machine={}), ["z"], before=nn.Linear(2, 2), after=nn.Linear(2, 2)
    )
    other.save(folder / "other.json")
    return folder


def outcome(checks):
    return {c.name: c.ok for c in checks}


def holds(checks):
    return bool(checks) and all(c.ok for c in checks)


def tamper(ledger, *statements):
    """Edit the file without its triggers, and put them back, as a person who knows SQLite can."""
    db = sqlite3.connect(ledger.path)
    triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for statement in (*(f"DROP TRIGGER {name}" for name, _ in triggers), *statements):
        db.execute(*(statement if isinstance(statement, tuple) else (statement,)))
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
        for _, sql in triggers:
            db.execute(sql)
    db.commit()
    db.close()


# requests


def test_a_request_and_its_defaults(ledger):
    number = ledger.add("case 12", IDS)
    request = ledger.request(number)
    today = datetime.now(UTC).date()
    assert number == 1 and request.status == "open" and request.ids == 3
    assert date.fromisoformat(request.received) in (today, today - timedelta(days=1))
    assert date.fromisoformat(request.due) - date.fromisoformat(request.received) == timedelta(days=DAYS)
    other = ledger.request(ledger.add("case 13", due="2099-01-01"))
    assert (other.number, other.due, other.ids_hash) == (2, "2099-01-01", "")


def test_the_file_is_private_and_shows_no_id(ledger):
    ledger.add("case 12", ["secret-person-id"])
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert b"secret-person-id" not in ledger.path.read_bytes()
    assert os.listdir(ledger.path.parent) == ["requests.db"]  # one file, no journal left


def test_two_requests_for_the_same_ids_do_not_look_alike(ledger):
    one, two = (ledger.request(ledger.add("x", IDS)) for _ in range(2))
    assert one.ids_hash != two.ids_hash


def test_only_a_run_that_removed_something_answers(ledger, run, tmp_path):
    number = ledger.add("case 12")
    Record("unlearn", "salun", status="diverged at step 3", ended="diverged", machine={}).save(
        tmp_path / "bad.json"
    )
    Record("original", "retrain", machine={}).save(tmp_path / "original.json")
    for name, words in (
        ("bad", "diverged at step 3. Attach a run that finished"),
        ("original", "of the kind 'original'"),
    ):
        with pytest.raises(ExpungeError, match=words):
            ledger.attach(number, record=tmp_path / f"{name}.json")
    trained, _ = issue(
        Record("original", "retrain", machine={}), None, before=nn.Linear(2, 2), after=nn.Linear(2, 2)
    )
    trained.save(tmp_path / "trained.json")
    with pytest.raises(ExpungeError, match="a run of the kind 'original'"):
        ledger.attach(number, receipt=tmp_path / "trained.json")
    assert ledger.request(number).status == "open"


def test_an_audit_of_another_model_is_refused_before_and_after_the_receipt(ledger, run, tmp_path):
    after = Receipt.load(run / "receipt.json").statement["model_after"]
    for name, digest in (("mine", after), ("other", "f" * 64)):
        verdict = {"words": ["under-forgotten", "worse"]}
        record = Record(
            "audit", "salun", model={"hash_after": digest}, details={"verdict": verdict}, machine={}
        )
        record.save(tmp_path / f"{name}.json")
    first, second = ledger.add("case 12"), ledger.add("case 13")
    ledger.attach(first, receipt=run / "receipt.json")
    with pytest.raises(ExpungeError, match=r"audit is of another model \(ffffffffffff\)"):
        ledger.attach(first, audit=tmp_path / "other.json")
    assert ledger.attach(first, audit=tmp_path / "mine.json").verdict == "under-forgotten, worse"
    ledger.attach(second, audit=tmp_path / "other.json")
    with pytest.raises(ExpungeError, match="audit is of another model"):
        ledger.attach(second, receipt=run / "receipt.json")
    with pytest.raises(ExpungeError, match="audit is of another model"):
        ledger.attach(ledger.add("x"), receipt=run / "receipt.json", audit=tmp_path / "other.json")


def test_everything_wrong_with_a_request_is_said_at_once(ledger):
    with pytest.raises(ExpungeError) as caught:
        ledger.add(" ", ["a", "a"], received="yesterday", due="2026-02-30")
    assert len(caught.value.problems) == 4
    with pytest.raises(ExpungeError, match="before received"):
        ledger.add("x", received="2026-02-02", due="2026-02-01")
    for days in (-1, 10**9):
        with pytest.raises(ExpungeError, match="days is"):
            ledger.add("x", days=days)
    assert ledger.requests() == [] and holds(ledger.check())


def test_a_day_in_the_future_is_no_received_day(ledger):
    today = datetime.now(UTC).date()
    for day in ("2199-12-31", str(today + timedelta(days=2))):
        with pytest.raises(ExpungeError, match=f"received on {day} is after today") as caught:
            ledger.add("x", received=day)
        assert len(caught.value.problems) == 1
    # the control: east of UTC, the next day may have begun
    assert ledger.request(ledger.add("x", received=str(today + timedelta(days=1)), due="2199-12-31"))


def test_a_due_day_beyond_two_years_gets_a_note(tmp_path, capsys):
    book, today = str(tmp_path / "new.db"), datetime.now(UTC).date()
    for days, told in ((730, False), (732, True)):
        assert main(["ledger", "add", book, "x", "--due", str(today + timedelta(days=days))]) == 0
        assert ("is the year right?" in capsys.readouterr().err) == told


def test_the_day_of_the_answer_is_shown(ledger, monkeypatch, capsys):
    today = datetime.now(UTC).date()
    book = str(ledger.path)
    start = ledger.count()
    for due, late in ((today, ""), (today - timedelta(days=1), ", late")):
        number = ledger.add("x", received="2026-01-01", due=str(due))
        ledger.attach(number, status="done")
        assert main(["ledger", "show", book, str(number)]) == 0
        assert f"answered: done on {today}{late}\n" in capsys.readouterr().out
    assert main(["ledger", "list", book]) == 0
    assert re.findall(r"done on \d{4}-\d\d-\d\d(?:, late)?", capsys.readouterr().out)[-2:] == [
        f"done on {today}",
        f"done on {today}, late",
    ]
    # a second entry of the same answer is not another day, and a reopened request has none
    monkeypatch.setattr(
        ledger_rows, "datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(days=9))
    )
    ledger.attach(start + 1, status="done")
    assert ledger.done_on()[start + 1] == str(today)
    ledger.attach(start + 1, status="open")
    assert start + 1 not in ledger.done_on()
    ledger.attach(start + 1, status="done")
    assert ledger.done_on()[start + 1] == str(today + timedelta(days=9))


def test_overdue(ledger):
    for received, days in (("2026-01-01", 30), ("2026-01-10", 5), ("2026-01-01", 60)):
        ledger.add("x", received=received, days=days)
    assert [r.number for r in ledger.overdue(date(2026, 1, 31))] == [
        2
    ]  # a request is not overdue on its due day
    assert [r.number for r in ledger.overdue(date(2026, 2, 1))] == [2, 1]
    ledger.attach(2, status="refused", note="not our data")
    ledger.attach(1, status="running")
    assert [r.number for r in ledger.overdue(date(2026, 2, 1))] == [1]
    assert ledger.request(2).note == "not our data"


# attaching


def test_run_audit_and_receipt_in_steps(ledger, run):
    ledger.add("case", IDS)
    assert ledger.attach(1, record=run / "record.json").status == "running"
    audited = ledger.attach(1, audit=run / "audit.json")
    assert audited.status == "running" and audited.verdict == "under-forgotten"
    assert audited.audit == record_hash(run / "audit.json")
    done = ledger.attach(
        1, receipt=run / "receipt.json", secret=run / "secret.json", ids=IDS, public_key=run / "key.pub"
    )
    assert done.status == "done" and done.proved and done.receipt.startswith("ul-") and done.method == "salun"
    assert done.run == record_hash(run / "record.json") and holds(ledger.check())


def test_a_receipt_alone_proves_nothing_about_the_ids(ledger, run):
    ledger.add("case", IDS)
    assert ledger.attach(1, receipt=run / "receipt.json").proved is False


@pytest.mark.parametrize(
    "given, word",
    [
        ({"ids": ["a1", "a2", "c"]}, "not the 3 ids"),
        ({"ids": ["a1"]}, "not the 3 ids"),
        ({"ids": []}, "both the ids and the secret"),
        ({"secret": None}, "both the ids and the secret"),
        ({"public_key": bytes(32)}, "not signed"),
        ({"record": "audit.json"}, "not the record"),
        ({"receipt": None}, "only with a receipt"),
        ({"receipt": "other.json"}, "not the secret"),
        ({"receipt": "secret.json"}, "not a receipt"),
        ({"receipt": "none"}, "not a readable receipt"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_row(ledger, run, given, word):
    ledger.add("case", IDS)
    before = ledger.head()
    files = {"receipt": "receipt.json", "secret": "secret.json"} | {
        k: v for k, v in given.items() if k in ("receipt", "secret", "record")
    }
    rest = {"ids": IDS} | {k: v for k, v in given.items() if k in ("ids", "public_key")}
    with pytest.raises(ExpungeError, match=word):
        ledger.attach(1, **{k: run / v for k, v in files.items() if v}, **rest)
    assert ledger.head() == before


def test_ids_that_were_asked_for_but_not_forgotten(ledger, run):
    ledger.add("case", ["a1", "zz"])
    with pytest.raises(ExpungeError, match="'zz' is not among"):
        ledger.attach(1, receipt=run / "receipt.json", secret=run / "secret.json", ids=["a1", "zz"])


def test_a_receipt_of_another_run_than_the_attached_one(ledger, run):
    ledger.add("case")
    ledger.attach(1, record=run / "record.json")
    with pytest.raises(ExpungeError, match="another run"):
        ledger.attach(1, receipt=run / "other.json")


def test_nothing_or_nonsense_to_attach(ledger):
    ledger.add("case")
    for given in ({}, {"status": "lost"}):
        with pytest.raises(ExpungeError):
            ledger.attach(1, **given)
    for number in (0, 2, -1):
        with pytest.raises(ExpungeError, match="no request"):
            ledger.attach(number, status="done")


# files that are not a ledger


def test_files_that_are_no_ledger(tmp_path):
    with pytest.raises(ExpungeError, match="no ledger at"):
        Ledger(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text").write_text("hello " * 1000)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE x (y)")
    other.close()
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    for name in ("text", "other.db", "newer.db"):
        for create in (False, True):
            with pytest.raises(ExpungeError):
                Ledger(tmp_path / name, create=create)


# tampering


@pytest.fixture
def full(ledger, run):
    for i in range(4):
        ledger.add(f"case {i}", IDS)
    ledger.attach(2, record=run / "record.json")
    ledger.attach(2, receipt=run / "receipt.json", secret=run / "secret.json", ids=IDS)
    ledger.attach(3, status="withdrawn")
    assert holds(ledger.check())
    return ledger


def test_the_table_refuses_edits_and_deletions(full):
    db = sqlite3.connect(full.path)
    for statement in ("UPDATE events SET at = 'x'", "DELETE FROM events WHERE seq = 3"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


EDITS = [
    ("at", "2020-01-01T00:00:00+00:00"),
    ("kind", "other"),
    ("request", 77),
    ("request", "1"),
    ("body", "{}"),
    ("previous", "f" * 64),
    ("hash", "f" * 64),
    ("seq", 99),
    ("body", b"\x00"),
    ("body", "not json"),
    ("at", 0.5),
]


@pytest.mark.parametrize("row", range(1, 9))
@pytest.mark.parametrize("column, value", EDITS)
def test_every_cell_of_every_row(full, row, column, value):
    if full.events()[row - 1].request == 1 and column == "request":
        value = 2  # the column holds integers: "1" would be stored as the 1 that is there
    tamper(full, (f"UPDATE events SET {column} = ? WHERE seq = ?", (value, row)))
    assert not holds(full.check())


@pytest.mark.parametrize("row", range(1, 9))
def test_every_lost_row(full, row):
    tamper(full, ("DELETE FROM events WHERE seq = ?", (row,)))
    assert not holds(full.check())


def test_rows_that_are_swapped_inserted_or_cut_off(full):
    copy = full.path.read_bytes()
    for edits in (
        [
            "UPDATE events SET seq = 100 WHERE seq = 3",
            "UPDATE events SET seq = 3 WHERE seq = 4",
            "UPDATE events SET seq = 4 WHERE seq = 100",
        ],
        ["INSERT INTO events SELECT 9, at, kind, request, body, previous, hash FROM events WHERE seq = 8"],
        ["INSERT INTO events SELECT 0, at, kind, request, body, previous, hash FROM events WHERE seq = 1"],
        ["DELETE FROM events WHERE seq > 5"],
        ["DELETE FROM events"],
        ["DELETE FROM head"],
        ["DROP TABLE events"],
        ["UPDATE head SET count = 7"],
        ["UPDATE head SET hash = 'x'"],
    ):
        tamper(full, *edits)
        assert not holds(full.check()), edits
        full.path.write_bytes(copy)
    assert holds(full.check())


def test_a_rehashed_row_breaks_the_next_one(full):
    row = full.events()[2]
    forged = Event(
        row.seq, row.at, row.kind, row.request, row.body.replace("case 1", "case 9"), row.previous, ""
    )
    tamper(full, ("UPDATE events SET body = ?, hash = ? WHERE seq = 3", (forged.body, forged.computed())))
    assert forged.body != row.body and outcome(full.check())["chain"] is False


def test_a_whole_new_history_is_found_by_a_head_noted_elsewhere(full):
    noted = full.head()
    full.add("later")
    assert holds(full.check(noted)) and holds(full.check(full.head()))
    events, head = [], LedgerHead(0, START)
    for event in full.events():
        events.append(
            Event.after(head, event.at, event.kind, event.request, event.body.replace("case 1", "case 9"))
        )
        head = LedgerHead(events[-1].seq, events[-1].hash)
    assert holds(
        check_events(events, head)
    )  # the forged history is consistent: the file itself cannot show it
    assert outcome(check_events(events, head, noted))["noted head"] is False
    cut = full.events()[:4]
    assert outcome(check_events(cut, LedgerHead(4, cut[-1].hash), noted))["noted head"] is False


def test_a_receipt_changed_in_a_chain_that_was_made_anew(full):
    events, head = [], LedgerHead(0, START)
    for event in full.events():
        events.append(
            Event.after(head, event.at, event.kind, event.request, event.body.replace("salun", "scrub"))
        )
        head = LedgerHead(events[-1].seq, events[-1].hash)
    assert outcome(check_events(events, head)) == {"chain": True, "head": True, "receipts": False}


def test_damage_anywhere_in_the_file_is_found_or_harmless(full):
    data, rows = full.path.read_bytes(), full.events()
    for place in range(0, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 0x55
        full.path.write_bytes(changed)
        try:
            sound = holds(full.check())
            same = full.events() == rows
        except ExpungeError:
            sound = same = False
        assert same or not sound, place


@pytest.mark.parametrize("text", ["", "3", "3:", "x:" + "0" * 64, ":" + "0" * 64, "-1:" + "0" * 64])
def test_heads_are_read_as_printed(text):
    assert LedgerHead.of(str(LedgerHead(3, "a" * 64))) == LedgerHead(3, "a" * 64)
    with pytest.raises(ExpungeError):
        LedgerHead.of(text)


# export


def test_an_export_is_private_whole_and_checked_the_same_way(full, tmp_path):
    path = tmp_path / "export.json"
    full.export(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and holds(check_export(path, full.head()))
    values = json.loads(path.read_text())
    assert len(values["events"]) == 8
    assert values["events"][6]["body"]["receipt"]["format"] == "expunge-receipt/v1"
    with pytest.raises(ExpungeError, match="not replaced"):
        full.export(path)
    values["events"][3]["body"]["due"] = "2099-01-01"
    (tmp_path / "changed.json").write_bytes(canonical(values))
    assert not holds(check_export(tmp_path / "changed.json"))
    for text in ("{}", "[]", "", '{"format": "expunge-ledger/v1", "head": {}, "events": [1]}'):
        (tmp_path / "changed.json").write_text(text)
        assert not holds(check_export(tmp_path / "changed.json"))


# several writers, and writers that die


def _write(path, name, count, start=None):
    if start is not None:
        start.wait(60)
    ledger = Ledger(path, create=True)
    for i in range(count):
        ledger.add(f"{name}-{i}")


def test_concurrent_writers_even_of_the_first_row(tmp_path):
    path = tmp_path / "requests.db"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    workers = [context.Process(target=_write, args=(path, name, 25, start)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    ledger = Ledger(path)
    assert [w.exitcode for w in workers] == [0] * 4 and holds(ledger.check())
    requests = ledger.requests()
    assert [r.number for r in requests] == list(range(1, 101)) and len({r.subject for r in requests}) == 100


def test_a_ledger_made_by_another_while_it_is_looked_at(tmp_path, monkeypatch):
    path, connect = tmp_path / "requests.db", sqlite3.connect
    other = threading.Thread(target=Ledger, args=(path,), kwargs={"create": True})

    class Slow(sqlite3.Connection):
        def execute(self, statement, *values):
            answer = super().execute(statement, *values)
            if statement == "PRAGMA user_version" and other.ident is None:
                monkeypatch.setattr(sqlite3, "connect", connect)
                other.start()
                other.join(0.5)  # time enough to make the tables, if this one lets it
            return answer

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Slow, **options))
    ledger = Ledger(path, create=True)
    other.join(60)
    assert holds(ledger.check()) and [event.kind for event in ledger.events()] == ["ledger"]


def _dies_making(path, at):
    """Make a ledger in a process that is killed before its statement number `at`. Return whether it was killed."""
    child = os.fork()
    if not child:
        connect, calls = sqlite3.connect, 0

        class Dying(sqlite3.Connection):
            def execute(self, *values):
                nonlocal calls
                calls += 1
                if calls == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().execute(*values)

        sqlite3.connect = lambda *values, **options: connect(*values, factory=Dying, **options)
        Ledger(path, create=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed process is a fork")
@pytest.mark.parametrize("at", [1, 2, 5, 9, 14])
def test_a_killed_process_leaves_no_file_without_tables(tmp_path, at):
    path = tmp_path / "requests.db"
    assert _dies_making(path, at) and not path.exists()
    with pytest.raises(ExpungeError, match="there is no ledger"):
        Ledger(path)
    assert Ledger(path, create=True).add("x") == 1 and holds(Ledger(path).check())
    assert [f.name for f in tmp_path.iterdir()] == ["requests.db"]


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.11])
def test_a_writer_killed_at_any_moment_leaves_whole_rows(tmp_path, delay):
    path = tmp_path / "requests.db"
    Ledger(path, create=True)
    worker = multiprocessing.get_context("fork").Process(target=_write, args=(path, "x", 10_000))
    worker.start()
    time.sleep(delay)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    ledger = Ledger(path)
    assert holds(ledger.check())
    assert ledger.add("after the crash") == len(ledger.requests()) and holds(ledger.check())


def test_an_error_in_a_transaction_leaves_nothing(ledger, monkeypatch):
    ledger.add("x")
    before = ledger.head()
    monkeypatch.setattr("expunge.receipts.ledger_rows.canonical", lambda value: b"\xff")
    with pytest.raises(UnicodeDecodeError):
        ledger.add("y")
    monkeypatch.undo()
    assert ledger.head() == before and holds(ledger.check())
