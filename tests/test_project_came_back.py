"""Requests that come back: which one a later audit means, what answers it again, and what it keeps meanwhile."""

import os
import sys

import pytest

import expunge.audit.earlier_requests  # noqa: F401
from expunge import Project
from expunge.errors import ExpungeError
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from test_ledger_proof import make_run
from test_project_repeats import data_with

AUDIT = sys.modules["expunge.audit.earlier_requests"]


def ledger(project):
    return Ledger(project.path / "ledger.db")


def came_back(monkeypatch, *places):
    """Let the next audits say that the earlier requests at these places, from 0, came back."""
    monkeypatch.setattr(AUDIT, "_better_than_chance", lambda *_: list(places))


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


def test_a_larger_request_answers_no_sample_that_came_back(project, monkeypatch):
    project.forget(ids=["p1"])
    project.forget(ids=["p1", "p2"])
    came_back(monkeypatch, 0)
    project.forget(ids=["p9"])
    came_back(monkeypatch)
    assert states(project)[:2] == [("came back", 1), ("done", 2)]
    assert project.forget(ids=["p1"]).outcomes, "the latest model recognises it"
    assert not project.forget(ids=["p2"]).outcomes


def test_what_a_run_gives_to_other_requests_is_judged_after_it(project, monkeypatch):
    """The second one was not proved only because its run had brought the first one back."""
    said = []
    project.say = said.append
    project.forget(ids=["p1"])
    came_back(monkeypatch, 0)
    project.forget(ids=["p2"])
    assert "a new run for request 1" in ledger(project).request(2).missing[0]
    came_back(monkeypatch)
    found = project.answer(pending=True)
    assert found.splits[0].forget.ids == ["p1"] and found.skipped == [] and found.not_proved == []
    assert not [text for text in said if "not proved" in text]
    assert [r.state for r in ledger(project).requests()] == ["done", "done"]


def test_samples_that_the_data_lost_for_a_while_are_forgotten_when_they_are_back(project, monkeypatch):
    said = []
    project.say = said.append
    project.forget(ids=["p1", "p2"], subject="case 1")
    ledger(project).attach(1, status="open", note="again")
    data_with(monkeypatch, [k for k in range(400) if k != 1])
    assert project.answer(pending=True).splits[0].forget.ids == ["p2"]
    (entry,) = project.status().requests
    assert (entry.shown_state, entry.before) != ("done", {}) and entry.samples == 2
    with pytest.raises(
        ExpungeError, match="the data no longer has 1 of its 2 samples, so no run can prove it"
    ):
        project.answer(pending=True)
    project.accept()
    # an audit of what the last run lacked reopens the request too
    came_back(monkeypatch, 0)
    project.forget(ids=["p9"])
    assert states(project)[0] == ("came back", 2) and ledger(project).request(1).status == "open"
    came_back(monkeypatch)
    monkeypatch.undo()
    assert sorted(project.answer(pending=True).splits[0].forget.ids) == ["p1", "p2"]
    (entry, _) = project.status().requests
    assert (entry.shown_state, entry.before, entry.part) == ("done", {}, []) and ledger(project).request(
        1
    ).proved
    project.accept()


def test_an_answer_that_was_attached_in_the_ledger_is_taken_over(project):
    said = []
    project.say = said.append
    project.register([wanted(ids=["p1"])])
    project.forget(ids=["p1", "p2"])
    place = project.path / "models"
    (secret,) = place.glob("0001.*.secret.json")
    files = {
        "record": place / "0001.json",
        "audit": place / "0001.json",
        "receipt": place / "0001.receipt.json",
    }
    assert ledger(project).attach(1, **files, secret=secret, ids=["p1"]).state == "done"
    status = project.status()
    assert status.problems == () and status.requests[0].shown_state == "done"
    project.forget(ids=["p9"])
    assert "request 1 was answered in the ledger with run 1, and the project takes that over." in said
    assert states(project) == [("done", 1), ("done", 1), ("done", 2)]
    assert ledger(project).request(1).drift is not None
    project.accept()


def test_an_answer_from_elsewhere_does_not_stop_the_project(project, tmp_path):
    said = []
    project.say = said.append
    project.register([wanted(ids=["p1"])])
    project.forget(ids=["p2"])
    assert ledger(project).attach(1, **make_run(tmp_path, "other", ["p1"])).state == "done"
    project.forget(ids=["p9"])
    assert [text for text in said if "request 1 was closed in the ledger with the receipt" in text]
    project.accept()


def test_a_changed_audit_is_no_evidence_for_a_second_request(project):
    said = []
    project.say = said.append
    project.register([wanted(ids=["p1", "p2"]), wanted(ids=["p9"])])
    project.answer(pending=True)
    audit = project.path / "models/0001.request-1.json"
    stat = audit.stat()
    audit.write_bytes(audit.read_bytes().replace(b'"UA": ', b'"UA":  ', 1))
    os.utime(audit, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert project.forget(ids=["p1"]).outcomes
    assert [text for text in said if "request 3 gets a new run, as files that prove run 1" in text]
    audit.unlink()
    assert project.forget(ids=["p2"]).outcomes, "the audit of the whole run is not that of the request"


def test_two_requests_for_the_same_samples_in_one_run(project):
    project.register(
        [wanted(ids=["p1", "p2"]), wanted(ids=["p2", "p1"]), wanted(ids=["p1", "p2"], goal="unlearn")]
    )
    found = project.answer(pending=True)
    numbers = [e["number"] for e in found.record.details["requests"]]
    assert numbers == [r.number for r in project.status().requests if r.run] and len(set(numbers)) == len(
        numbers
    )
    assert set(found.bad_verdicts) <= set(numbers)
    project.accept()


@pytest.mark.parametrize("name", ["03", "3.0"])
def test_a_class_that_is_written_in_another_way_is_accepted(project, name):
    project.forget(classes=name)
    project.accept()


def test_a_new_project_tells_which_requests_of_the_old_one_are_open(project, monkeypatch, tmp_path):
    project.forget(ids=["p1"])
    project.forget(ids=["p2"])
    came_back(monkeypatch, 0)
    project.forget(ids=["p9"])
    ledger(project).attach(2, status="open", note="again")
    ledger(project).add("by hand", ["x"])
    said = []
    model = project.path / project.status().model
    Project.create(tmp_path / "next", project.settings, model, say=said.append)
    assert [t for t in said if "requests that wait (4)" in t]
    assert [t for t in said if "requests that came back or were reopened (1, 2)" in t]
