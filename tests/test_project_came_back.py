"""Requests that come back: which one a later audit means, what answers it again, and what it keeps meanwhile."""

import sys

import pytest

import expunge.audit.earlier_requests  # noqa: F401
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger

AUDIT = sys.modules["expunge.audit.earlier_requests"]


def ledger(project):
    return Ledger(project.path / "ledger.db")


def came_back(monkeypatch, *places):
    """Let the next audits say that the earlier requests at these places, from 0, came back."""
    monkeypatch.setattr(AUDIT, "_better_than_chance", lambda entries, test, tolerance: list(places))


def states(project):
    return [(r.state, r.run) for r in project.status().requests]


def test_one_of_two_requests_of_a_run_comes_back(project, monkeypatch):
    project.register([wanted(ids=["p1"], subject="bob"), wanted(ids=["p2", "p3"], subject="alice")])
    project.answer(pending=True)
    came_back(monkeypatch, 0)
    project.forget(ids=["p9"], subject="other")
    assert [r.status for r in ledger(project).requests()] == ["open", "done", "done"]
    assert states(project) == [("came back", 1), ("done", 1), ("done", 2)]
    assert project.status().reopened == []
    came_back(monkeypatch)
    found = project.answer(pending=True)
    assert found.outcome.run.split.forget.ids == ["p1"]
    one, two, _ = ledger(project).requests()
    assert one.drift is None and two.drift is not None
    assert [r.now["UA"] for r in project.status().requests][1] == pytest.approx(two.drift.UA)
    assert all(c.ok for c in ledger(project).check(full=True))
    project.accept()


def test_a_repeat_is_audited_also_after_the_first_request_got_a_new_run(project, monkeypatch):
    project.forget(ids=["p1", "p2"])
    project.forget(ids=["p1"])
    ledger(project).attach(1, status="open", note="again")
    project.answer(pending=True)
    project.forget(ids=["p9"])
    assert [r.drift.request for r in ledger(project).requests()[:2]] == [3, 3]
