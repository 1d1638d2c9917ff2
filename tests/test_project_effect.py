"""A run that forgets nothing answers no request, status and ledger agree, and each request has its own audit."""

import json
import math
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from expunge import Project, Session, execute
from expunge.audit.confidence_change import ConfidenceChange, Difference
from expunge.audit.result import Grounds
from expunge.cli import main
from expunge.data.past_requests import requests_of
from expunge.errors import ExpungeError
from expunge.projects.answered import NotAnswered
from expunge.projects.effect import (
    _class_remembered,
    _lost_accuracy,
    _still_remembered,
    failure,
    remembered,
)
from expunge.projects.effect import test_accuracies as accuracies
from expunge.projects.no_effect import direction_of
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.receipts.keys import load_public, make_key
from expunge.receipts.ledger import Ledger
from expunge.records.record import Record
from expunge.tasks.predictions import SampleScores
from expunge.training.execute import keep_original
from expunge.training.registry import find
from project_office import VALUES, content


def made(office, tmp_path, name="own", **values):
    """A project with other settings."""
    return Project.create(tmp_path / name, checked({**VALUES, **values}), office / "mine.pt")


def ledger(project):
    return Ledger(project.path / "ledger.db")


# ---- a run that forgets nothing


@pytest.mark.parametrize("ids", [["p1", "p2"], [f"p{k}" for k in range(60)]])
def test_a_run_that_does_nothing_leaves_the_request_open(office, tmp_path, ids, capsys):
    project = made(office, tmp_path, settings={"epochs": 1, "lr": 1e-9})
    with pytest.raises(NotAnswered, match=r"changed the confidence in its samples by 0\.000 points"):
        project.forget(ids=ids, subject="case 1")
    status = project.status()
    (request,) = status.requests
    assert (request.state, request.shown_state, request.run) == ("waiting", "open", 0)
    assert status.model == "models/0000.pt" and requests_of(project.model) == ()
    kept = ledger(project).request(1)
    assert kept.state == "open" and "did not answer it" in kept.note and kept.subject == "case 1"
    # the same by the command, for a request that waits
    assert main(["forget", "--project", str(project.path), "--pending"]) == 3
    assert "answers no request" in capsys.readouterr().err
    # with settings that forget, it is done
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("lr = 1e-09", "lr = 0.005").replace("epochs = 1", "epochs = 4"))
    assert main(["forget", "--project", str(project.path), "--pending"]) == 0
    assert project.status().requests[0].shown_state == ledger(project).request(1).state == "done"


def of_confidences(forget, unseen):
    """An evaluation with these confidences, of a task without classes."""
    scores = [
        SampleScores(torch.ones(len(v)), v, torch.zeros(len(v), 2)) for v in (forget, unseen, unseen[:0])
    ]
    sets = SimpleNamespace(forget=SimpleNamespace(data=SimpleNamespace(has_classes=False)))
    return SimpleNamespace(split=sets, forget=scores[0], test=scores[1], test_forgotten=scores[2])


def test_at_most_half_of_what_stands_out_may_be_left():
    """60 samples above all of 200 unseen ones have a distance of 1; chance explains 0.2234 of it at 1 %."""
    unseen = torch.linspace(0.1, 0.5, 200)
    known = of_confidences(torch.full((60,), 0.9), unseen)
    chance = math.sqrt(-math.log(0.01) / 2 * 260 / (60 * 200))
    assert chance == pytest.approx(0.2234, abs=1e-4) and remembered(known) == pytest.approx(1 - chance)
    assert remembered(of_confidences(unseen[::4], unseen)) == 0.0
    for left, words in ((30, ""), (40, "still tells its samples from unseen ones")):
        own = of_confidences(torch.cat([torch.full((left,), 0.9), torch.full((60 - left,), 0.05)]), unseen)
        part = SimpleNamespace(own=own, original=known, retrained=None, grounds=Grounds(), confidence=None)
        assert remembered(own) == pytest.approx(left / 60 - chance)
        assert words in _still_remembered(part) and bool(words) == bool(_still_remembered(part))
    assert _still_remembered(part).endswith("is allowed without a reference")
    # there is one, and it does not count
    part.grounds = Grounds(reference="The retrained model is not comparable.")
    assert _still_remembered(part).endswith("is allowed without a comparable reference")
    # a retrained model says more
    part.retrained = object()
    assert _still_remembered(part) == ""


def change_of(before, after, lower=False):
    """A change of confidence, where the samples stood (before, after) this many points above unseen ones, and chance explains 0."""
    place = [Difference(points, 0.002 if points > 0 else 0.6, 0.9) for points in (before, after)]
    moved = Difference(after - before, 0.9, 0.002 if lower else 0.4)
    return ConfidenceChange(60, after - before, moved, moved, *place)


@pytest.mark.parametrize(
    ("before", "after", "lower", "words"),
    [
        (
            20.0,
            17.2,
            False,
            "17.2 percentage points above that of unseen samples of the same classes, and 20.0 before",
        ),
        (20.0, 17.2, True, "at most half of that, 10.0, is allowed without a reference"),
        (20.0, 9.0, True, ""),
        # chance explains that it fell
        (20.0, 9.0, False, "other samples changed as much"),
        (20.0, -1.0, False, ""),
        # the samples did not stand out before the run
        (-1.0, 17.2, False, ""),
    ],
)
def test_samples_that_stand_out_by_their_mean_are_remembered(before, after, lower, words):
    """The distance of both distributions is below its critical value, so that only means tell."""
    values = torch.linspace(0.1, 0.5, 60)
    same = of_confidences(values, values)
    change = change_of(before, after, lower)
    part = SimpleNamespace(own=same, original=same, retrained=None, grounds=Grounds(), confidence=change)
    assert remembered(same) == 0.0
    text = _still_remembered(part)
    assert words in text and bool(words) == bool(text)
    # the audit does not say of an answered request that its samples still stand out, as they did before the run
    assert text or not (change.before.higher and "still" in change.warning)
    assert not text or direction_of([text]) == "raise"
    part.retrained = object()
    assert _still_remembered(part) == ""


def test_a_harmful_run_is_not_done(classifier):
    """The control is the run with mild settings in test_projects."""
    digits = (classifier.by_class.forget.data, classifier.by_class.test.data)
    harmful = find("gradient_ascent")(epochs=20, lr=0.3, batch_size=64, max_drop=1000.0)
    session = Session(classifier.model, digits, classifier.task, harmful, validation=0.1)
    with pytest.raises(NotAnswered):
        session.forget(ids=range(20, 60))
    assert session.requests == () and session.answers == []
    # the report says what was refused
    with pytest.raises(ExpungeError, match="nothing to report on: the run answers no request"):
        session.report("report.html")


def test_one_request_of_a_run_may_stay_open(project, monkeypatch):
    from expunge.projects import answer as module

    original = module.failure
    monkeypatch.setattr(
        module, "failure", lambda part, **o: "no" if len(part.split.forget) == 1 else original(part, **o)
    )
    project.register([wanted(ids=["p1", "p2"], subject="a"), wanted(ids=["p9"], subject="b")])
    found = project.answer(pending=True)
    assert found.failures == {1: "no"} and len(found.requests) == 1
    assert [(r.state, r.run, r.reason) for r in project.status().requests] == [
        ("done", 1, ""),
        ("waiting", 0, "no"),
    ]
    assert [r.status for r in ledger(project).requests()] == ["done", "open"]
    assert len(requests_of(project.model)) == 1
    assert project.status().requests[1].what["ids"] == ["p9"], "its ids are still needed"


# ---- kept originals


def test_a_kept_original_has_answered_nothing(classifier):
    first, second = (
        classifier.by_class,
        Session(
            classifier.model,
            (classifier.by_class.forget.data, classifier.by_class.test.data),
            classifier.task,
        ).setting.draw(wanted(ids=range(5))),
    )
    once = execute(classifier.model, first, find("salun")(epochs=1, lr=0.01), classifier.task).model
    before = requests_of(once)
    run = keep_original(once, second, classifier.task, "none was better")
    assert requests_of(run.model) == before and len(before) == 1
    # the same for a run that changes nothing
    with pytest.warns(RuntimeWarning, match="unchanged"):
        still = execute(
            once,
            second,
            find("finetune")(epochs=1, lr=0.0, weight_decay=0.0, batch_norm="freeze"),
            classifier.task,
        )
    assert requests_of(still.model) == before
    # the next run trains on the samples, as they were not forgotten
    third = execute(run.model, second, find("salun")(epochs=1, lr=0.01), classifier.task)
    assert len(requests_of(third.model)) == 2


# ---- one limit, one state


def test_the_limit_is_that_of_the_ledger_and_status_agrees(office, tmp_path, capsys):
    project = made(
        office, tmp_path, reference=True, recipe={"epochs": 8, "lr": 0.1, "batch_size": 64}, max_gap=0.0
    )
    assert ledger(project).limits.max_gap == 0.0
    project.forget(ids=["p1", "p2", "p3"])
    (request,) = project.status().requests
    assert request.shown_state == ledger(project).request(1).state == "done, not proved"
    assert [r.number for r in project.status().not_proved] == [1] and "average gap" in " ".join(
        request.missing
    )
    # the same samples again: the run that is not proved does not answer them
    notes = []
    project.say = notes.append
    project.register([wanted(ids=["p1", "p2"])])
    assert not any("removed already" in text for text in notes)
    # a limit that is changed in the file is written into the ledger by the next command
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("max_gap = 0.0", "max_gap = 100.0"))
    project.register([wanted(ids=["p9"])])
    assert ledger(project).limits.max_gap == 100.0
    assert all("gap" not in text for r in project.status().requests for text in r.missing)


def test_requests_that_are_refused_or_withdrawn_are_not_answered(project):
    project.register([wanted(ids=["p1"]), wanted(ids=["p2"])])
    ledger(project).attach(1, status="withdrawn")
    ledger(project).attach(2, status="refused")
    assert [r.shown_state for r in project.status().requests] == ["withdrawn", "refused"]
    assert project.status().waiting == [] and project.status().exit_code == 0
    with pytest.raises(ExpungeError, match="no request waits"):
        project.answer(pending=True)
    assert main(["forget", "--project", str(project.path), "--pending"]) == 0


def test_the_key_of_the_project_is_a_key_of_its_ledger(office, tmp_path):
    make_key(tmp_path / "key")
    project = made(office, tmp_path, sign_key=str(tmp_path / "key"))
    assert ledger(project).limits.keys == (load_public(tmp_path / "key.pub").hex(),)
    project.forget(ids=["p1", "p2"])
    assert ledger(project).request(1).signer == ledger(project).limits.keys[0]
    # a key that cannot be opened is found before anything is run
    (tmp_path / "key").write_text("no key")
    before = content(project.path)
    with pytest.raises(ExpungeError, match="private key"):
        project.forget(ids=["p9"])
    assert content(project.path) == before and project.status().exit_code == 2
    with pytest.raises(ExpungeError, match="sign_key"):
        made(office, tmp_path, "other", sign_key=str(tmp_path / "key"))
    assert not (tmp_path / "other").exists()


def test_status_lists_every_problem_of_the_settings(project, capsys):
    project.forget(ids=["p1", "p2"])
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("days = 28", "days = -1\nmodle = 3").replace('"mlp"', '"nope"'))
    assert main(["status", "--project", str(project.path)]) == 2
    shown = capsys.readouterr()
    for words in ("days is -1", "'modle' is no entry", "nope"):
        assert words in shown.err
    assert "no subject" in shown.out


# ---- requests of one run


def test_each_request_of_a_run_has_its_own_scores(project):
    project.register([wanted(classes=3, subject="a"), wanted(ids=["p1", "p2", "p4"], subject="b")])
    found = project.answer(pending=True)
    one, two = ledger(project).requests()
    entries = project.status().requests
    assert one.audit != two.audit and {one.run} == {two.run}
    for kept, entry in zip((one, two), entries, strict=True):
        assert float(kept.scores["UA"]) == pytest.approx(entry.then["UA"])
    assert entries[0].then["UA"] > 90
    whole, (first, second) = found.scores["UA"], (p.scores["UA"] for p in found.parts)
    sizes = [len(s.forget) for s in found.splits]
    assert whole == pytest.approx((first * sizes[0] + second * sizes[1]) / sum(sizes))
    file = project.path / "models/0001.request-2.json"
    record = Record.load(file)
    assert record.details["part"]["samples"] == 3 and record.details["verdict"]["words"]
    # it is evidence for no other request of the run, nor for one that failed
    number = ledger(project).add("d", ["p1", "p7"])
    for wrong in (1, number):
        with pytest.raises(ExpungeError, match=f"audit of another request of its run than request {wrong}"):
            ledger(project).attach(wrong, audit=file)
    receipt = project.path / "models/0001.receipt.json"
    (secret,) = (project.path / "models").glob("0001.*.secret.json")
    others = [str(name) for name in found.splits[0].forget.ids]
    with pytest.raises(ExpungeError, match="audit of another request"):
        ledger(project).attach(1, audit=file, ids=others, secret=secret, receipt=receipt)
    assert ledger(project).request(1) == one and ledger(project).attach(2, audit=file).audit == two.audit
    # a repeated request gets the audit of the one that it repeats
    project.forget(ids=["p1"], subject="c")
    assert project.status().requests[2].run in (1, 2)


# ---- days


def test_a_dry_run_refuses_what_the_run_refuses(project, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("p1\n")
    words = [
        "forget",
        "--project",
        str(project.path),
        "--ids",
        str(tmp_path / "ids.txt"),
        "--due",
        "2020-01-01",
    ]
    for extra in (["--dry-run"], ["--wait"], []):
        assert main([*words, *extra]) == 2
        assert "due on 2020-01-01 is before received on" in capsys.readouterr().err
    # a request that came in time and is entered late
    assert main([*words, "--received", "2019-12-20", "--wait"]) == 0
    assert (ledger(project).request(1).received, ledger(project).request(1).due) == (
        "2019-12-20",
        "2020-01-01",
    )
    assert main([*words, "--received", "soon"]) == 2


# ---- trials


def test_trials_of_a_project_are_recorded_and_keep_the_settings_of_the_file(office, tmp_path):
    project = made(office, tmp_path, validation=0.1, trials=2, settings={"epochs": 2, "batch_size": 64})
    record = project.forget(classes=3).record
    assert record.details["trials_asked"] == 2 and len(record.details["trials"]) == 2
    assert record.settings["epochs"] == 2 and all(
        "epochs" not in t["settings"] for t in record.details["trials"]
    )
    plan = project.plan([wanted(ids=["p1"])])
    assert plan.trials == (2, 2) and plan.seconds[0] == plan.seconds[1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trials": -1}, "trials is -1; it must be a whole number of at least 0"),
        ({"trials": "many"}, "trials is 'many'"),
        ({"trials": 4}, "trials: .*validation samples"),
        ({"trials": 4, "validation": 0.1, "method": "nhle", "settings": {}}, None),
    ],
)
def test_wrong_numbers_of_trials_are_refused(values, words):
    if words is None:
        assert checked({**VALUES, **values}).trials == 4
        return
    with pytest.raises(ExpungeError, match=words):
        checked({**VALUES, **values})


# ---- init


@pytest.mark.skipif(not hasattr(signal, "SIGKILL") or os.name == "nt", reason="needs SIGKILL and locks")
@pytest.mark.parametrize("by_clean", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_killed_init_leaves_nothing_behind(office, tmp_path, capsys, by_clean):
    script = f"""
import sys, time
sys.path[:0] = [{str(office)!r}, {os.path.dirname(__file__)!r}]
from expunge.projects import creation
def stop(*args):
    print("here", flush=True)
    time.sleep(60)
creation.create = stop
from expunge import Project
from expunge.projects.settings import checked
from project_office import VALUES
Project.create({str(tmp_path / "new")!r}, checked(VALUES), {str(office / "mine.pt")!r})
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "here\n"
    # while it lives, its folder stays
    with pytest.raises(ExpungeError, match=r"expunge\.toml and state\.json are missing"):
        Project(tmp_path / "new")
    assert main(["clean", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob(".new.init-*"))) == 1
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    if by_clean:
        assert (
            main(["clean", str(tmp_path), "--dry-run"]) == 0
            and "project that was not made: " in capsys.readouterr().out
        )
        assert len(list(tmp_path.glob(".new.init-*"))) == 1
        assert main(["clean", str(tmp_path)]) == 0 and list(tmp_path.iterdir()) == []
    made(office, tmp_path, "new")
    assert [f.name for f in tmp_path.iterdir()] == ["new"]
    assert not (tmp_path / "new" / ".making").exists()


def test_the_list_of_a_ledger_fits_into_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file = Ledger(tmp_path / "l.db", create=True)
    file.add(
        "a reference that is much longer than others", ["1", "2"], received="2020-01-01", note="word " * 40
    )
    file.attach(1, status="done", note="letter sent")
    assert main(["ledger", "list", str(tmp_path / "l.db")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and "2020-01-29  done, not proved, overdue" in lines[1]
    assert lines[2].startswith("     missing: a run;")


def test_state_json_holds_nothing_of_the_ledger(project):
    project.register([wanted(ids=["p1"])])
    (entry,) = json.loads((project.path / "state.json").read_text())["requests"]
    assert "ledger_state" not in entry and "missing" not in entry


# ---- runs that do the opposite, or harm


def part_of_run(before, after, **values):
    """A request for 4 samples of class 1, and 100 test samples. `before` and `after`: (confidences, right, right test samples)."""
    labels = torch.ones(4, dtype=torch.int64)
    sets = SimpleNamespace(
        forget=SimpleNamespace(index=torch.arange(4), data=SimpleNamespace(has_classes=True)),
        earlier_samples=SimpleNamespace(index=torch.arange(0)),
        withheld=SimpleNamespace(labels=torch.tensor(values.get("withheld", []), dtype=torch.int64)),
        goal="untrain",
    )

    def evaluation(confidence, right, tested):
        test = (torch.arange(100) < tested).float()
        return SimpleNamespace(
            split=sets,
            forget=SimpleNamespace(
                confidence=torch.full((4,), confidence), correct=torch.arange(4) < right, labels=labels
            ),
            retain=SimpleNamespace(labels=torch.tensor(values.get("retained", [0, 1]))),
            test=SimpleNamespace(
                correct=test, labels=torch.tensor(values.get("tested", [1])).repeat(100)[:100]
            ),
        )

    retrained = evaluation(*values["retrained"]) if "retrained" in values else None
    return SimpleNamespace(
        split=sets,
        own=evaluation(*after),
        original=evaluation(*before),
        retrained=retrained,
        fresh=torch.ones(4, dtype=torch.bool),
        confidence=None,
    )


def test_a_class_without_retained_samples_must_be_gone():
    """Retrain never saw the class, so it recognises 0 % of it."""
    known = part_of_run((0.9, 4, 95), (0.7, 3, 95), retained=[0, 2])
    assert "still recognises 75.0 %, and 100.0 % before" in failure(known, exact=False)
    assert _class_remembered(part_of_run((0.9, 4, 95), (0.1, 2, 95), retained=[0, 2])) == ""
    assert _class_remembered(part_of_run((0.9, 4, 95), (0.7, 3, 95), retained=[0, 1])) == ""
    # its other samples wait for a run of their own, and are known until then
    assert _class_remembered(part_of_run((0.9, 4, 95), (0.7, 3, 95), retained=[0, 2], withheld=[1])) == ""


def test_a_run_that_costs_test_accuracy_does_not_answer():
    lost = part_of_run((0.9, 4, 96), (0.5, 4, 72))
    assert "cost 24.0 points of test accuracy, from 96.0 % to 72.0 %" in failure(lost, exact=False)
    assert "cost 24.0 points" in failure(lost, exact=True)  # a recipe that does not train is no answer either
    assert _lost_accuracy(part_of_run((0.9, 4, 96), (0.5, 4, 77))) == ""
    # Retrain lost the same, so the samples were needed
    assert _lost_accuracy(part_of_run((0.9, 4, 96), (0.5, 4, 72), retrained=(0.5, 4, 85))) == ""
    assert _lost_accuracy(part_of_run((0.9, 4, 96), (0.5, 4, 72), retrained=(0.5, 4, 95)))


def test_a_run_may_lose_the_test_samples_of_a_class_that_it_must_forget():
    """Of the 100 test samples, the even positions have class 0 and the odd ones class 1, of which no sample is retained."""
    wanted = {"retained": [0, 2], "tested": [0, 1]}
    lost = part_of_run((0.9, 4, 100), (0.1, 0, 50), **wanted)
    # the control: with all classes, the 50 wrong samples from position 50 on are half of all
    assert "cost 50.0 points" in _lost_accuracy(part_of_run((0.9, 4, 100), (0.1, 0, 50), tested=[0, 1]))
    assert (
        "cost 50.0 points of test accuracy on the 50 test samples of classes with retained samples"
        in _lost_accuracy(lost)
    )
    for evaluation, right in ((lost.original, 100), (lost.own, 0)):
        odd = torch.arange(100) % 2 == 1
        evaluation.test.correct = torch.where(odd, float(right > 0), 1.0)
    assert _lost_accuracy(lost) == "" == failure(lost, exact=True) and _class_remembered(lost) == ""
    before, after, counted = accuracies(lost.original, lost.own)
    assert (before, after, counted.sum()) == (100.0, 100.0, 50)
    # a class that waits is still known, so losing its test samples is a loss
    lost.split.withheld.labels = torch.tensor([1])
    assert "cost 50.0 points of test accuracy, from 100.0 % to 50.0 %" in _lost_accuracy(lost)
    # without other classes, all count
    lost.split.withheld.labels, lost.own.retain.labels = torch.tensor([]), torch.tensor([5])
    assert "cost 50.0 points" in _lost_accuracy(lost)
