"""How long a subject and a note may be, and which days are plausible: at every entry, before anything is written."""

from datetime import date, timedelta

import pytest

from expunge.cli import main
from expunge.days import utc_today
from expunge.errors import ExpungeError
from expunge.projects.request_csv import read_csv
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from expunge.receipts.request_entry import day_notes
from project_office import content

LONG = "s" * 201


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.db", create=True)


def test_texts_of_a_ledger_have_a_length(ledger):
    ledger.add("s" * 200, ["a"], note="n" * 2000)
    before = ledger.head()
    with pytest.raises(ExpungeError, match=r"the subject has 201 characters\. Allowed are 200\."):
        ledger.add(LONG, ["a"])
    for call in (
        lambda: ledger.add("s", note="n" * 2001),
        lambda: ledger.attach(1, status="done", note="n" * 2001),
    ):
        with pytest.raises(ExpungeError, match=r"the note has 2,001 characters\. Allowed are 2,000\."):
            call()
    assert ledger.head() == before


@pytest.mark.parametrize(
    "days",
    [
        {"received": "0001-01-01"},
        {"received": "1999-12-31"},
        {"due": "2200-01-01"},
        {"due": "9999-12-31"},
    ],
)
def test_days_of_another_century_are_refused(ledger, days):
    (name,) = days
    with pytest.raises(
        ExpungeError, match=rf"{name} on {days[name]} is not between 2000-01-01 and 2199-12-31"
    ):
        ledger.add("case 1", ["a"], **days)
    assert not ledger.requests()


def test_days_far_from_today_are_asked_about():
    today = utc_today()
    near = (today - timedelta(days=731)).isoformat(), (today + timedelta(days=731)).isoformat()
    assert day_notes(*near) == []
    received, due = day_notes(
        (today - timedelta(days=1000)).isoformat(), (today + timedelta(days=1000)).isoformat()
    )
    assert (
        received.endswith("is 1,000 days before today; is the year right?") and "1,000 days from today" in due
    )
    assert len(day_notes("2000-01-01", date(2000, 1, 29).isoformat())) == 1


def test_the_command_of_the_ledger(tmp_path, capsys):
    book = str(tmp_path / "new.db")
    assert (
        main(["ledger", "add", book, LONG]) == 2
        and main(["ledger", "add", book, "s", "--received", "0001-01-01"]) == 2
    )
    assert not (tmp_path / "new.db").exists()
    assert main(["ledger", "add", book, "s", "--received", "2001-01-01"]) == 0
    assert "received on 2001-01-01 is" in capsys.readouterr().err


def test_a_project_refuses_them_by_flags_csv_and_python(project, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("p1\n")
    (tmp_path / "long.csv").write_text(f"id,subject\np1,s\np2,{LONG}\n")
    (tmp_path / "old.csv").write_text("id,received\np1,0001-01-01\n")
    before, path = content(project.path), str(project.path)
    ids = ["--ids", str(tmp_path / "ids.txt")]
    for flags in (
        [*ids, "--subject", LONG],
        [*ids, "--received", "0001-01-01"],
        ["--csv", str(tmp_path / "long.csv")],
        ["--csv", str(tmp_path / "old.csv")],
    ):
        for end in ([], ["--wait"], ["--dry-run"]):
            assert main(["forget", "--project", path, *flags, *end]) == 2, (flags, end)
    for request in (wanted(ids=["p1"], subject=LONG), wanted(ids=["p1"], received="0001-01-01")):
        with pytest.raises(ExpungeError, match=r"has 201 characters|is not between"):
            project.register([request])
    assert content(project.path) == before
    with pytest.raises(ExpungeError, match=r"line 3: the subject has 201 characters; give at most 200"):
        read_csv(tmp_path / "long.csv")
    capsys.readouterr()
    assert main(["forget", "--project", path, *ids, "--received", "2001-01-01", "--wait"]) == 0
    assert "request 1: received on 2001-01-01 is" in capsys.readouterr().err


def test_a_wrong_day_of_a_row_is_cut(tmp_path):
    (tmp_path / "day.csv").write_text(f"id,due\np1,{'9' * 100_000}\n")
    with pytest.raises(ExpungeError) as error:
        read_csv(tmp_path / "day.csv")
    assert len(str(error.value)) < 300
