"""Repeated requests are answered by the earlier run. Data that loses, gains or reorders samples keeps earlier requests."""

import copy
import re
import warnings
from dataclasses import replace

import pytest
import torch

from expunge import Classification, Session, TensorData
from expunge.cli import main
from expunge.data.past_requests import requests_of
from expunge.errors import ExpungeError
from expunge.projects.held_out import drawn_ids
from expunge.projects.prepared import prepare
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from expunge.training.registry import find
from project_office import content, edit, reopen


@pytest.fixture
def notes(project):
    """What the project says."""
    said = []
    project.say = said.append
    return said


def ledger(project):
    return Ledger(project.path / "ledger.db")


# ---- repeated requests


@pytest.mark.parametrize("ids", [["p1", "p2", "p3"], ["p2"]])
def test_a_repeated_request_is_answered_by_the_earlier_run(project, notes, ids):
    first = project.forget(ids=["p1", "p2", "p3"], subject="case 1")
    models = content(project.path / "models")
    again = project.forget(ids=ids, subject="case 2", due="2099-01-01")
    assert content(project.path / "models") == models, "no second run"
    assert "request 2 asks for samples that request 1 removed already; run 1 answers it too" in notes[-1]
    assert again.outcomes == [] and again.record.scores == first.record.scores and again.came_back == []
    assert "answered by an earlier run" in repr(again)
    with pytest.raises(ExpungeError, match="nothing was run"):
        _ = again.outcome
    # the second case has an entry of its own with the whole proof
    one, two = ledger(project).requests()
    assert (one.subject, two.subject, two.due) == ("case 1", "case 2", "2099-01-01")
    assert two.status == "done" and two.proved and two.ids == len(ids) and two.receipt == one.receipt
    assert two.missing == one.missing and all(c.ok for c in ledger(project).check())
    assert [(r.state, r.run) for r in project.status().requests] == [("done", 1)] * 2
    # both are scored by the next audit, and one new sample needs a run
    found = project.forget(ids=[*ids, "p50"])
    assert len(found.earlier) == 1 and found.outcomes and project.status().requests[2].run == 2
    assert [r.now["UA"] for r in project.status().requests[:2]] == [found.earlier[0]["UA"]] * 2


def test_a_stronger_goal_or_a_missing_proof_needs_a_run(project):
    project.forget(ids=["p1", "p2"])
    assert project.forget(ids=["p1"], goal="unlearn").outcomes
    assert not project.forget(ids=["p2"]).outcomes
    (secret,) = project.path.glob("models/0001.*.secret.json")
    secret.unlink()
    assert project.forget(ids=["p2"]).outcomes, "without the secret the ledger would get no proof"


def test_samples_of_a_forgotten_class_are_forgotten(project, notes):
    project.forget(classes=3)
    labels = prepare(project.folder, print).setting.train.labels
    three = int((labels == 3).nonzero()[0])
    assert not project.forget(ids=[f"p{three}"]).outcomes and ledger(project).request(2).proved
    assert not project.forget(classes="3").outcomes
    assert project.forget(classes=[3, 5]).outcomes


def test_waiting_repeats_and_new_requests_in_one_run(project, notes):
    project.forget(ids=["p1", "p2"])
    project.register([wanted(ids=["p2"]), wanted(ids=["p7"])])
    assert (
        "request 2 asks for samples that request 1 removed already; `expunge forget --pending`" in notes[-1]
    )
    found = project.answer(pending=True)
    assert found.outcome.run.split.forget.ids == ["p7"]
    assert [(r.state, r.run) for r in project.status().requests] == [("done", 1), ("done", 1), ("done", 2)]


def test_a_request_that_came_back_is_run_again_with_its_repeats(project):
    project.forget(ids=["p1", "p2"])
    project.forget(ids=["p1"])
    reopen(project)
    # the earlier run is no answer now
    assert project.forget(ids=["p2"]).outcomes
    project.answer(pending=True)
    assert [r.run for r in project.status().requests] == [3, 3, 2]
    assert all(r.proved for r in ledger(project).requests())
    # nothing in it contradicts what is known
    project.accept()
    # answered again alone, the first request has another receipt than the second one that its run answered
    ledger(project).attach(1, status="open")
    project.answer(pending=True)
    project.accept()


def test_a_repeat_that_is_answered_anew_scores_the_first_request_too(project):
    """Both name the same samples, so the latest audit is that of both."""
    project.forget(ids=["p1", "p2"])
    project.forget(ids=["p1", "p2"])
    assert [r.run for r in project.status().requests] == [1, 1]
    ledger(project).attach(2, status="open")
    found = project.answer(pending=True)
    first, second = project.status().requests
    assert (first.run, second.run) == (1, 2) and first.audited == second.audited == 2
    assert first.now == second.now == {name: found.parts[0].scores[name] for name in ("UA", "MIA")}
    project.accept()


def test_the_command_prints_the_note_and_exits_with_0(project, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("p1\n")
    words = ["forget", "--project", str(project.path), "--ids", str(tmp_path / "ids.txt")]
    assert main(words) == 0
    assert main([*words, "--dry-run"]) == 0
    assert "request 1 removed all samples" in capsys.readouterr().err
    assert main(words) == 0
    assert "run 1 answers it too" in capsys.readouterr().err


def test_a_session_returns_the_earlier_answer(classifier):
    data = (classifier.by_class.forget.data, classifier.by_class.test.data)
    session = Session(
        classifier.model, data, classifier.task, find("salun")(epochs=1, lr=0.03, batch_size=64)
    )
    first = session.forget(ids=range(5))
    model = session.model
    with pytest.warns(RuntimeWarning, match="removed all these samples already"):
        assert session.forget(ids=[2, 3]) is first
    assert session.model is model and len(session.requests) == 1
    first.record.details["earlier_requests"] = [{"request": first.requests[0].request, "came_back": True}]
    assert session.forget(ids=[2, 3]) is not first


def session_that_forgot_3(classifier):
    data = (classifier.by_class.forget.data, classifier.by_class.test.data)
    method = find("salun")(epochs=2, lr=0.03, batch_size=64)
    session = Session(classifier.model, data, classifier.task, method)
    return session, session.forget(classes=3)


def test_a_session_runs_again_for_a_model_that_was_trained_on(classifier):
    """One changed parameter is enough. Other places and gradients are no change."""
    session, first = session_that_forgot_3(classifier)
    session.model.train().requires_grad_(False)
    with pytest.warns(RuntimeWarning, match="nothing was run"):
        assert session.forget(classes=3) is first
    session.model.requires_grad_(True)
    with torch.no_grad():
        list(session.model.parameters())[-1][3] += 20
    with pytest.warns(RuntimeWarning, match="trained on or replaced since the latest answer"):
        again = session.forget(classes=3)
    assert again is not first and again.scores["UA"] > 90 and session.answers == [first, again]
    assert len(session.requests) == 1


def test_a_replaced_model_of_a_session_keeps_its_requests_out_of_training(classifier):
    session, first = session_that_forgot_3(classifier)
    session.model = copy.deepcopy(classifier.model)
    with pytest.warns(RuntimeWarning, match="has not answered 1 of 1 earlier requests"):
        second = session.forget(ids=range(5))
    (earlier,) = second.earlier
    assert earlier["came_back"] and [p.request for p in session.requests][:1] == [first.requests[0].request]
    of_3 = set((session.setting.train.labels == 3).nonzero()[:, 0].tolist())
    assert second.record.split["sizes"]["retain"] == 700 - len(of_3 | set(range(5)))
    assert requests_of(classifier.model) == ()
    # the request that came back is answered again
    assert session.forget(classes=3).scores["UA"] > 90


# ---- a session with a wrong task


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Classification(5), r"labels go up to 9, but the task has 5 classes"),
        (Classification(20), r"outputs of shape \(2, 10\) for a batch of 2; expected \(2, 20\)"),
        (Classification("10"), "num_classes of the task is '10'; give a whole number"),
        (10, r"the task is 10; give a task such as Classification\(num_classes=10\)"),
        ("classification", "the task is 'classification'"),
        (Classification, "give a task such as"),
    ],
)
def test_a_wrong_task_is_refused_before_the_first_request(classifier, task, words):
    data = (classifier.by_class.forget.data, classifier.by_class.test.data)
    with pytest.raises(ExpungeError, match=words):
        Session(classifier.model, data, task)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"seed": "a"}, "seed is 'a'; give int"),
        ({"seed": True}, "seed is True; give int"),
        ({"validation": "x"}, "validation is 'x'; give int or float"),
        ({"recipe": "salun"}, "recipe is 'salun'; give Retrain or None"),
        ({"compute": 3, "rehearse": "yes"}, "compute is 3.*\n.*rehearse is 'yes'"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_options_of_a_session_are_named(classifier, option, words):
    data = (classifier.by_class.forget.data, classifier.by_class.test.data)
    with pytest.raises(ExpungeError, match=words):
        Session(classifier.model, data, classifier.task, **option)
    with pytest.raises(ExpungeError, match="the model is a str"):
        Session("model", data, classifier.task)


# ---- data that changes between two requests


def data_with(monkeypatch, positions, extra=()):
    """Let the project's data have only these samples, in this order, and new ones."""
    import office_data

    source = office_data.data()
    train = source.train
    at = torch.tensor([*positions, *range(len(extra))])
    names = [*(str(train.ids[k]) for k in positions), *extra]
    changed = TensorData(
        train.x[at], train.labels[at], ids=names, groups={"user": train.groups["user"][at.numpy()]}
    )
    monkeypatch.setattr(office_data, "data", lambda: replace(source, train=changed))
    return changed


def holding_out(project):
    """Let the project hold out a tenth of its data."""
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("validation = 0.0", "validation = 0.1"))


@pytest.mark.parametrize("change", ["removed", "shuffled", "added"])
def test_the_validation_set_and_earlier_requests_survive_changed_data(project, notes, monkeypatch, change):
    """Before, another validation set was drawn: samples that the model was trained on counted as unseen."""
    holding_out(project)
    first = project.forget(ids=["p1", "p2"])
    held = {str(i) for i in first.outcome.run.split.unseen.ids}
    assert len(held) > 20
    order = list(range(400))
    if change == "removed":
        order = [k for k in order if k not in (1, 2, 30)]
    if change == "shuffled":
        order = torch.randperm(400, generator=torch.Generator().manual_seed(3)).tolist()
    data = data_with(monkeypatch, order, ["new1", "new2"] if change == "added" else [])
    second = project.forget(ids=["p5", "p6"])
    split = second.outcome.run.split
    assert set(split.unseen.ids) <= held - {"p1", "p2"} and len(split.unseen.ids) >= len(held) - 3
    assert set(split.forget.ids) == {"p5", "p6"}
    assert not {"p1", "p2", "p5", "p6"} & set(split.retain.ids + split.validation.ids)
    assert sorted([*split.forget.ids, *split.retain.ids, *split.validation.ids]) == sorted(
        # new2 is a copy of p1
        {str(i) for i in data.ids} - {"p1", "p2", "new2"}
    )
    assert split.spec["validation"] == 0.1
    assert any("the training data has changed since the first request" in text for text in notes)
    # those that are gone cannot be scored
    assert second.earlier[0]["samples"] == (0 if change == "removed" else 2)
    assert len(requests_of(project.model)) == 2 and project.status().exit_code == 0
    third = project.forget(classes=4)
    assert not {"p1", "p2", "p5", "p6"} & set(third.outcome.run.split.retain.ids)


@pytest.mark.parametrize(
    "request_of",
    [lambda: wanted(ids=["p1", "p9"]), lambda: wanted(classes=3), lambda: wanted(group="user=Doe, u3")],
)
def test_a_validation_set_by_ids_is_the_drawn_one(project, request_of):
    """The control: on unchanged data, both ways give the same split."""
    setting = replace(prepare(project.folder, print).setting, validation=0.1)
    ids = frozenset(drawn_ids(setting.train, setting.test, 0.1, 0))
    by_ids = replace(setting, held_out=ids)
    request = request_of()
    assert by_ids.draw(request).hash == setting.draw(request).hash
    assert by_ids.draw(request).spec == setting.draw(request).spec
    splits = [setting.draw(request), setting.draw(wanted(ids=["p50"]))]
    assert by_ids.union(splits).hash == setting.union(splits).hash


def test_a_request_that_came_back_and_is_gone_from_the_data_blocks_nothing(project, notes, monkeypatch):
    project.forget(ids=["p1", "p2"])
    project.forget(ids=["p3", "p4"])
    reopen(project)
    data_with(monkeypatch, [k for k in range(400) if k not in (1, 2, 3)])
    found = project.answer(pending=True)
    assert found.outcome.run.split.forget.ids == ["p4"]
    assert any("no longer has 2 of its 2 samples, so no run can answer it again" in text for text in notes)
    assert any("no longer has 1 of its 2 samples; the others are forgotten again" in text for text in notes)
    assert [r.state for r in project.status().requests] == ["came back", "done"]
    # what cannot be proved is not called proved
    assert "the run covers 1 of its 2 samples" in ledger(project).request(2).note
    assert ledger(project).request(2).state == "done, not proved"


def test_a_waiting_request_whose_samples_are_gone_is_left_out(project, notes, monkeypatch, capsys):
    project.register([wanted(ids=["p9"]), wanted(ids=["p1", "p2"])])
    data_with(monkeypatch, [k for k in range(400) if k != 1])
    project.register([wanted(ids=["p8"])])
    words = r"request 2 cannot be answered and stays open: 1 id, 'p1', is unknown"
    assert project.plan(pending=True).samples == [1, 1] and re.search(words, notes[-1])
    # the command answers the others
    assert main(["forget", "--project", str(project.path), "--pending"]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert [r.state for r in project.status().requests] == ["done", "waiting", "done"]
    before = content(project.path)
    with pytest.raises(ExpungeError, match=words):
        project.answer(pending=True)
    assert content(project.path) == before


def test_data_without_ids_may_not_change(classifier):
    data, test = classifier.by_class.forget.data, classifier.by_class.test.data
    session = Session(
        classifier.model, (data, test), classifier.task, find("salun")(epochs=1, lr=0.03, batch_size=64)
    )
    session.forget(ids=range(5))
    fewer = TensorData(data.x[1:], data.labels[1:])
    later = Session(session.model, (fewer, test), classifier.task, session.setting.method)
    with warnings.catch_warnings(), pytest.raises(ExpungeError, match="names its samples by position"):
        later.forget(ids=range(5, 9))


# ---- ids with commas, quotes and other alphabets


def test_ids_in_any_alphabet_and_with_commas(classifier, project, monkeypatch, tmp_path):
    import office_data

    odd = ["Doe, Jane", "Зоя", "名前", 'quo"te', "a=b;c", "e\u0301", "\U0001f600 x", "tab\there"]
    source = office_data.data()
    names = [*odd, *(f"p{k}" for k in range(len(odd), 400))]
    train = TensorData(
        source.train.x, source.train.labels, ids=names, groups={"user": source.train.groups["user"]}
    )
    monkeypatch.setattr(office_data, "data", lambda: replace(source, train=train))
    (tmp_path / "ids.txt").write_text("\n".join(odd[:3]) + "\n", encoding="utf-8")
    words = ["forget", "--project", str(project.path), "--subject", "Fall 7, β"]
    assert main([*words, "--ids", str(tmp_path / "ids.txt")]) == 0
    (tmp_path / "r.csv").write_text('id,subject\n"quo""te",x\na=b;c,x\n"e\u0301",y\n', encoding="utf-8")
    assert main([*words, "--csv", str(tmp_path / "r.csv")]) == 0
    project.forget(ids=odd[6:])
    assert [r.ids for r in requests_of(project.model)] == [
        tuple(odd[:3]),
        tuple(odd[3:5]),
        (odd[5],),
        tuple(odd[6:]),
    ]
    requests = ledger(project).requests()
    assert [r.proved for r in requests] == [True] * 4 and requests[0].subject == "Fall 7, β"


# ---- copies


@pytest.mark.parametrize(("copies", "count"), [("include", 2), (None, 2), ("report", 1), ("ignore", 1)])
def test_copies_in_a_project(project, monkeypatch, copies, count):
    """The copy of p1 is in the data under another id, and in the held-out set if there is one."""
    import office_data

    source = office_data.data()
    train = source.train
    at = torch.tensor([*range(400), 1])
    names = [*map(str, train.ids), "twin"]
    groups = {"user": train.groups["user"][at.numpy()]}
    twice = TensorData(train.x[at], train.labels[at], ids=names, groups=groups)
    monkeypatch.setattr(office_data, "data", lambda: replace(source, train=twice))
    path = project.path / "expunge.toml"
    text = path.read_text()
    assert "# copies = ..." in text
    if copies is not None:
        path.write_text(text.replace("# copies = ...", f'copies = "{copies}"'))
    setting = prepare(project.folder, print).setting
    # the record of a run for several requests says it too
    union = setting.union([setting.draw(wanted(ids=[name])) for name in ("p1", "p3")])
    assert union.spec["copies"] == (copies or "include")
    assert union.spec.get("copies_included") == (1 if count == 2 else None)
    found = project.forget(ids=["p1", "p2"])
    assert set(found.outcome.run.split.forget.ids) == {"p1", "p2", *(["twin"] if count == 2 else [])}
    assert ledger(project).request(1).proved and ledger(project).request(1).ids == count + 1
    # the copy is forgotten already where it was included
    assert bool(project.forget(ids=["twin"]).outcomes) == (count == 1)
    assert not project.forget(ids=["p1"]).outcomes or copies in ("report", "ignore")
    reopen(project, 1)
    again = project.answer(pending=True)
    assert len(again.outcome.run.split.forget) == count + 1 and ledger(project).request(1).proved


@pytest.mark.parametrize(
    "request_of",
    [lambda: wanted(ids=["p1", "p9"]), lambda: wanted(classes=3), lambda: wanted(group="user=Doe, u3")],
)
def test_a_validation_set_of_test_samples_by_ids_is_the_drawn_one(project, request_of):
    """The control: on unchanged data, both ways give the same split. On a larger test set only ids keep it."""
    setting = prepare(project.folder, print).setting
    test = named_test(setting.test, range(len(setting.test)))
    setting = replace(setting, test=test, validation=0.1, validation_from="test")
    names = drawn_ids(setting.train, test, 0.1, 0, "test")
    by_ids = replace(setting, held_out=frozenset(names))
    request = request_of()
    drawn = setting.draw(request)
    assert by_ids.draw(request).hash == drawn.hash and by_ids.draw(request).spec == drawn.spec
    assert drawn.validation.ids == names and len(drawn.train) == len(setting.train)
    splits = [drawn, setting.draw(wanted(ids=["p50"]))]
    assert by_ids.union(splits).hash == setting.union(splits).hash
    more = replace(by_ids, test=named_test(setting.test, [*range(10, 200), *range(5)]))
    assert more.draw(request).validation.ids == [
        n for n in (f"t{k}" for k in [*range(10, 200), *range(5)]) if n in names
    ]


def named_test(test, positions):
    at = torch.tensor(list(positions))
    return TensorData(test.x[at], test.labels[at], ids=[f"t{k}" for k in at.tolist()])


def test_a_project_of_an_original_that_saw_everything(project, notes):
    """Its validation set leaves the test set, is part of the record, and cannot change afterwards."""
    path = project.path / "expunge.toml"
    path.write_text(
        path.read_text()
        .replace("validation = 0.0", "validation = 0.1")
        .replace('_from = "train"', '_from = "test"')
    )
    outcome = project.forget(classes=3).outcome
    split = outcome.run.split
    assert (
        split.validation_from_test and len(split.train) == 400 and "validation_from" in outcome.record.split
    )
    assert len(split.validation) + len(split.test) + len(split.test_forgotten) == 200
    assert not any("validation_from" in text for text in notes)
    path.write_text(path.read_text().replace('validation_from = "test"', 'validation_from = "train"'))
    with pytest.raises(
        ExpungeError, match=r'validation_from is train, .* drawn with test; write validation_from = "test"'
    ):
        project.forget(ids=["p5"])


def test_scores_of_a_larger_request_are_marked(project, capsys):
    """The repeated request has 1 of the 3 samples, and showed their scores as its own."""
    project.forget(ids=["p1", "p2", "p9"], subject="case 1")
    project.forget(ids=["p1", "p2", "p9"], subject="the same")
    found = project.forget(ids=["p1"], subject="a part")
    assert [r.scores_of for r in project.status().requests] == [0, 0, found.entries[0].scores_of]
    of = found.entries[0].scores_of
    assert of in (1, 2) and not found.outcomes
    project.accept()
    capsys.readouterr()
    assert main(["status", "--project", str(project.path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count(f"(no. {of})") == 2 and "UA and MIA of all samples of request N" in shown
    assert main(["ledger", "list", str(project.path / "ledger.db")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("UA and MIA are those of request") == 1 and f"are those of request {of}." in shown
    edit(project, lambda s: s["requests"][2].update(scores_of=7), sealed=False)
    with pytest.raises(ExpungeError, match="the entry scores_of is 7, and its run answered no such request"):
        project.accept()
