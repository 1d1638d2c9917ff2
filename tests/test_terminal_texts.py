"""No text of a ledger, a receipt, a record or a project reaches the terminal with control characters or line breaks."""

import copy
import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from expunge.cli import ledger, main
from expunge.cli.app import _print_problems
from expunge.cli.table import earlier_table, measures_table, result_table
from expunge.errors import ExpungeError
from expunge.projects.shown_status import ProjectStatus
from expunge.receipts.canonical import canonical
from expunge.receipts.ledger import Ledger
from expunge.receipts.ledger_rows import START, Event, LedgerHead
from expunge.receipts.receipt import Receipt
from expunge.records.record import Record
from test_ledger_proof import entry, make_run

EVIL = "a\x1b[2J\x1b]0;title\x07\nbreak\r\x9b31m\u202ec\u2028d"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def poisoned(value, where=(), types=False):
    """Yield copies of a JSON value, each with one text replaced; with `types`, also by values of other types."""
    if isinstance(value, str):
        yield where, EVIL
    if types and where:
        yield from (
            (where, other) for other in (7, None, [EVIL], {"a": EVIL}) if type(other) is not type(value)
        )
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        for place, changed in poisoned(part, (*where, key), types):
            whole = copy.copy(value)
            whole[key] = changed
            yield place, whole


def run(capsys, *words):
    """Run a command, and return what it prints. Whatever the files hold, there is no traceback."""
    assert main([str(word) for word in words]) in (0, 1, 2)
    return printed(capsys)


def call(capsys, action, *arguments):
    """Call an action of `expunge ledger` as the command does, without reading its words, which takes longer."""
    try:
        action(*arguments)
    except ExpungeError as error:
        _print_problems(error.problems)
    printed(capsys)


def printed(capsys):
    out = capsys.readouterr()
    for text in (out.out, out.err):
        assert not UNSAFE.search(text), text
        assert not re.search("^break", text, re.MULTILINE), text
    return out.out + out.err


def with_bodies(path, bodies):
    """Write a ledger anew, with other contents of its rows and the hashes that belong to them."""
    rows, head = [], LedgerHead(0, START)
    for event, body in zip(Ledger(path).events(), bodies, strict=True):
        row = Event.after(head, event.at, event.kind, event.request, canonical(body).decode())
        rows.append(tuple(row.__dict__.values()))
        head = LedgerHead(row.seq, row.hash)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        kept = db.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name in ("no_UPDATE", "no_DELETE", "no_REPLACE"):
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM events")
        db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("UPDATE head SET count = ?, hash = ?", (head.count, head.hash))
        db.execute("DELETE FROM state")
        db.execute("DELETE FROM mark")
        for (sql,) in kept:
            db.execute(sql)
        db.execute("COMMIT")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A ledger with a request that came back, and the files of its runs."""
    folder = tmp_path_factory.mktemp("filled")
    book = Ledger(folder / "requests.db", create=True)
    one = make_run(folder, "one", ["1"])
    book.add("a", ["1"], note="first", received="2020-01-01")
    book.attach(1, **one)
    book.add("b", ["1"])
    book.attach(2, **make_run(folder, "two", ["1"], earlier=[entry(one)], seed=1), note="second")
    book.set_limits(refused_words=["different"])
    return folder


def test_the_command_prints_what_people_wrote(filled, capsys):
    """The control: the texts are printed, and this file finds unsafe ones."""
    assert "second" in run(capsys, "ledger", "show", filled / "requests.db", "2")
    assert UNSAFE.search(EVIL) and not UNSAFE.search("a\\x1b\n é Ω")


def bodies_of(filled, types):
    """Yield (row, contents of all rows), with one value of one row replaced."""
    bodies = [json.loads(event.body) for event in Ledger(filled / "requests.db").events()]
    for at, body in enumerate(bodies):
        for place, changed in poisoned(body, types=types):
            # `verify` sees all texts of receipts
            if len(place) < 3 or place[0] != "receipt":
                yield at, [*bodies[:at], changed, *bodies[at + 1 :]]


def test_every_text_of_every_row_of_a_ledger(filled, tmp_path, capsys):
    path = tmp_path / "requests.db"
    for at, bodies in bodies_of(filled, types=False):
        shutil.copy(filled / "requests.db", path)
        with_bodies(path, bodies)
        for action in (ledger.list_requests, ledger.check, ledger.limits if at == 5 else ledger.overdue):
            call(capsys, action, path)
        for number in (1, 2):
            call(capsys, ledger.show, path, number)


def test_values_of_other_types_in_a_ledger_are_no_traceback(filled, tmp_path, capsys):
    path = tmp_path / "requests.db"
    for _, bodies in bodies_of(filled, types=True):
        shutil.copy(filled / "requests.db", path)
        with_bodies(path, bodies)
        call(capsys, ledger.list_requests, path)
        call(capsys, ledger.show, path, 1)


def test_every_text_of_a_receipt(filled, tmp_path, capsys):
    original = Receipt.load(filled / "two.receipt.json")
    path = tmp_path / "r.json"
    for part in ("statement", "envelope"):
        for _, changed in poisoned(getattr(original, part), types=True):
            replace(original, **{part: changed}).save(path)
            run(capsys, "verify", path, "--record", filled / "two.json")
    values = json.loads((filled / "two.receipt.json").read_text())
    for _, changed in poisoned(values):
        path.write_text(json.dumps(changed))
        run(capsys, "verify", path)


def test_every_text_of_a_record(filled, tmp_path, capsys):
    values = json.loads((filled / "two.json").read_text())
    path = tmp_path / "record.json"
    for _, changed in poisoned(values):
        path.write_text(json.dumps(changed))
        shutil.copy(filled / "requests.db", tmp_path / "requests.db")
        run(capsys, "ledger", "attach", tmp_path / "requests.db", 1, "--record", path, "--audit", path)
        run(capsys, "ledger", "list", tmp_path / "requests.db")


def test_the_tables_of_records(capsys):
    from rich.console import Console

    earlier = {"number": 1, "scenario": EVIL, "samples": 2, "UA": 1.0, "MIA": 2.0, "UA_change": None, "MIA_change": 1.0,
               "UA_retrained": None, "came_back": False}  # fmt: skip
    record = Record("unlearn", EVIL, scores={"UA": 1.0, EVIL: 2.0}, details={"earlier_requests": [earlier]})
    record.details["measures"] = {EVIL: {"name": EVIL}}
    for table in (result_table([record], EVIL), measures_table([record]), earlier_table(record)):
        if table is not None:
            Console(width=200).print(table)
    shown = capsys.readouterr().out
    assert not UNSAFE.search(shown) and "break" in shown and asdict(record)


def test_every_text_of_the_state_of_a_project(monkeypatch, tmp_path, capsys):
    from expunge import Project
    from expunge.days import utc_today
    from expunge.projects.requests import ProjectRequest

    what = {"ids": ["x"], "classes": [], "group": "", "goal": None, "subject": "s", "due": ""}
    values = {"number": 1, "subject": "s", "due": "2020-01-01", "what": what, "kind": "ids", "samples": 1, "state": "came back",
              "reason": "because"}  # fmt: skip
    monkeypatch.setattr(Project, "__init__", lambda self, *rest, **more: None)
    for place, changed in poisoned(values):
        if place == ("due",):
            # the state is refused without a day
            continue
        found = ProjectStatus([ProjectRequest(**changed)], "m", utc_today(), ("p",), ("o",))
        monkeypatch.setattr(Project, "status", lambda self, today, full, found=found: found)
        run(capsys, "status", "--project", tmp_path)
    found = ProjectStatus([], EVIL, utc_today(), (EVIL,), (EVIL,))
    monkeypatch.setattr(Project, "status", lambda self, today, full: found)
    assert "break" in run(capsys, "status", "--project", tmp_path)


def test_requests_with_the_same_remark_share_a_line(capsys):
    """A hundred deleted requests took a hundred lines."""
    from expunge.cli.project import _print_remarks
    from expunge.projects.no_effect import remedy
    from expunge.projects.requests import ProjectRequest

    def request(number, **values):
        return ProjectRequest(number, "s", "2099-01-31", {}, "ids", 1, "done", run=1, audited=2, **values)

    gone = "not audited any more, as the data no longer has its sample"
    many = [
        request(1, gone=gone),
        request(2, gone=gone, not_shown=True),
        request(3, gone="other", not_shown=True),
    ]
    _print_remarks(many, [], Path("office"))
    assert capsys.readouterr().out.splitlines() == [
        "requests 2 and 3: the scores of their audits do not show that they are forgotten (UA and MIA above)",
        f"to answer such a request better: {remedy('office')}",
        f"requests 1 and 2, each: {gone}; its last audit followed run 2",
        "request 3: other; its last audit followed run 2",
    ]
    _print_remarks(many[1:2], [], Path("office"))
    assert "request 2: the scores of its audit do not show that it is forgotten" in capsys.readouterr().out
