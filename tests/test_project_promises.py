"""What a request names when it comes is kept until a run forgets it, whatever happens to folder, data and settings meanwhile."""

import re
import shutil
from dataclasses import replace

import pytest
import torch

from expunge import Project, TensorData
from expunge.cli import main
from expunge.data.waiting import WaitingRequest, leave_out
from expunge.errors import ExpungeError
from expunge.projects.answered import StillOpen
from expunge.projects.left_waiting import left_waiting
from expunge.projects.prepared import prepare
from expunge.projects.requests import ProjectRequest
from expunge.projects.seal import seal_problems, sealed
from expunge.projects.settings import checked
from expunge.projects.status import states_from_file
from expunge.projects.together import check_together
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from project_office import VALUES, content, edit, refused_by_all, reopen


def ledger(project):
    return Ledger(project.path / "ledger.db")


# ---- the seal of state.json


@pytest.fixture(scope="module")
def waiting_folder(office, tmp_path_factory):
    """A project in which two requests wait."""
    path = tmp_path_factory.mktemp("waiting") / "project"
    shutil.copytree(office / "project", path)
    Project(path).register([wanted(ids=["p1"], subject="case 1"), wanted(group="user=Doe, u3")])
    return path


@pytest.fixture
def waits(waiting_folder, tmp_path):
    shutil.copytree(waiting_folder, tmp_path / "waits")
    return Project(tmp_path / "waits")


EDITS = {
    "request 2 was removed": lambda s: s["requests"].pop(),
    "request 1 was removed": lambda s: s["requests"].pop(0),
    "request 1 was changed": lambda s: s["requests"][0]["what"].update(goal="unlearn"),
    "request 2 was changed": lambda s: s["requests"][1]["what"].update(group="user=Doe, u4"),
    "request 3 was added": lambda s: s["requests"].append({**s["requests"][0], "number": 3}),
    "the entry drawn was changed": lambda s: s["drawn"].update(data="0" * 64),
    "the entry ledger was removed": lambda s: s.pop("ledger"),
    "the entry files was changed": lambda s: s["files"].clear(),
    "the entry models was changed": lambda s: s["models"][0].update(receipt="ul-A"),
    "the entry moves was changed": lambda s: s.update(moves=[]),
    "entries were removed or put in another order": lambda s: (
        s["requests"].reverse() or s["seal"].update(all="0")
    ),
    "it has no seal": lambda s: s.pop("seal"),
}


@pytest.mark.parametrize("words", EDITS)
def test_every_edit_of_the_state_is_named(waits, words):
    assert waits.status().problems == (), "the control"
    edit(waits, EDITS[words], sealed=False)
    refused_by_all(
        waits, f"state.json was changed outside of Expunge: .*{words}.*; restore it from a backup, or"
    )
    status = waits.status()
    assert status.exit_code == 1 and words in status.problems[0]


def test_entries_removed_with_their_seals_are_found():
    state = {"models": [1], "requests": [{"number": 1}, {"number": 2}]}
    good = sealed(state, b"key")
    assert seal_problems(good, b"key") == [] and seal_problems(good, b"other")
    good["requests"].pop()
    del good["seal"]["entries"]["request 2"]
    assert "together with their seals" in seal_problems(good, b"key")[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["requests"].pop(), "lacks request 2, which .* has as a request of this project"),
        (lambda s: s["requests"][0]["what"].update(ids=["p9"]), "has other samples for request 1 than"),
        (lambda s: s["requests"][1]["what"].update(ids=["p9"]), "has other samples for request 2 than"),
    ],
)
def test_the_ledger_contradicts_also_a_state_with_a_new_seal(waits, change, words):
    edit(waits, change, sealed=True)
    refused_by_all(waits, words)
    with pytest.raises(ExpungeError, match=words):
        waits.accept()


def test_an_older_state_with_its_own_seal_is_found(waits, tmp_path):
    shutil.copy(waits.path / "state.json", tmp_path / "older.json")
    waits.register([wanted(ids=["p9"])])
    shutil.copy(tmp_path / "older.json", waits.path / "state.json")
    refused_by_all(waits, "lacks request 3, which")
    # a request that someone adds to the ledger is none of the project
    ledger(waits).add("case 9")
    assert len(waits.status().problems) == 1


def test_an_accepted_state_goes_on(waits):
    edit(waits, lambda s: s["requests"][1]["what"].update(goal="unlearn"), sealed=False)
    assert main(["status", "--project", str(waits.path)]) == 1
    assert main(["status", "--accept", "--project", str(waits.path)]) == 0
    assert waits.plan(pending=True).forget == 9


def test_moves_that_were_edited_are_not_made(waits):
    source = waits.path / "models/0000.pt"
    edit(waits, lambda s: s.update(moves=[["models/0000.pt", "ledger.db"]]), sealed=False)
    before = content(waits.path)
    with pytest.raises(ExpungeError), waits.folder.locked():
        pass
    assert content(waits.path) == before and source.exists()


# ---- what was promised is forgotten


def data_of(monkeypatch, extra=(), keep=range(400), group=None):
    """Let the data keep some samples and get more: (id, position of the sample that it equals or None, user)."""
    import office_data

    source = office_data.data()
    train, at = source.train, list(keep)
    x = [train.x[at], *(train.x[k : k + 1] if k is not None else train.x[:1].flip(-1) for _, k, _ in extra)]
    users = [str(u) for u in train.groups["user"][at]]
    users = [group if group and i in (24, 25) else u for i, u in zip(at, users, strict=True)]
    labels = [train.labels[at], *(train.labels[k or 0][None] for _, k, _ in extra)]
    data = TensorData(
        torch.cat(x),
        torch.cat(labels),
        ids=[*(str(train.ids[k]) for k in at), *(name for name, _, _ in extra)],
        groups={"user": [*users, *(user for _, _, user in extra)]},
    )
    monkeypatch.setattr(office_data, "data", lambda: replace(source, train=data))


def toml(project, old, new):
    path = project.path / "expunge.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_group_that_grew_is_forgotten_whole_and_proved(waits, monkeypatch):
    said = []
    waits.say = said.append
    data_of(monkeypatch, extra=[("new", None, "Doe, u3")])
    found = waits.answer(pending=True)
    assert set(found.outcome.run.split.forget.ids) == {"p1", "new", *(f"p{k}" for k in range(24, 32))}
    assert found.not_proved == [] and "request 2 names 1 more samples than the 8 when it came" in said[-1]
    request = ledger(waits).request(2)
    assert request.state == "done" and request.proved and request.ids == 8
    assert "p24" not in (waits.path / "state.json").read_text()
    # after it came back, it is proved for the same samples
    reopen(waits)
    assert waits.answer(pending=True).not_proved == [] and ledger(waits).request(2).proved
    assert waits.status().exit_code == 0


def test_a_group_that_lost_members_is_forgotten_as_it_was(waits, monkeypatch):
    data_of(monkeypatch, group="Doe, u9")
    found = waits.answer(pending=True)
    assert {"p24", "p25"} < set(found.outcome.run.split.forget.ids) and found.not_proved == []


def test_a_group_whose_samples_are_gone_is_refused_and_lists_them(waits, monkeypatch, capsys):
    data_of(monkeypatch, keep=[k for k in range(400) if k not in (24, 25)])
    words = r"request 2 cannot be answered and stays open: the data no longer has 2 of the 8 samples that it had when it came: 'p24', 'p25'"
    assert main(["forget", "--project", str(waits.path), "--pending"]) == 1
    assert [r.state for r in waits.status().requests] == ["done", "waiting"]
    with pytest.raises(StillOpen, match=words):
        waits.answer(pending=True)
    assert main(["forget", "--project", str(waits.path), "--pending"]) == 1
    assert "error: request 2 cannot be answered" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), [("include", "ignore"), ("ignore", "include")])
def test_another_setting_for_copies_keeps_the_promise(project, monkeypatch, old, new):
    data_of(monkeypatch, extra=[("twin", 1, "Doe, u0")])
    toml(project, "# copies = ...", f'copies = "{old}"')
    project.register([wanted(ids=["p1"])])
    toml(project, f'copies = "{old}"', f'copies = "{new}"')
    found = project.answer(pending=True)
    assert set(found.outcome.run.split.forget.ids) == {"p1", "twin"} and found.not_proved == []
    request = ledger(project).request(1)
    assert request.proved and request.ids == (2 if old == "include" else 1)


def test_a_class_with_copies_keeps_its_goal(project, monkeypatch):
    data_of(monkeypatch, extra=[("twin", 1, "Doe, u0")])
    toml(project, "# copies = ...", 'copies = "include"')
    label = int(prepare(project.folder, print).setting.train.labels[1])
    project.register([wanted(classes=label)])
    toml(project, 'copies = "include"', 'copies = "ignore"')
    found = project.answer(pending=True)
    assert found.outcome.run.split.goal == "unlearn" and found.outcome.run.split.forget_classes == (label,)
    assert found.not_proved == []


# ---- what waits is not trained on


def test_samples_that_wait_are_left_out_of_every_run(waits, monkeypatch):
    found = waits.forget(ids=["p100"])
    split = found.outcome.run.split
    assert not {*split.retain.ids, *split.validation.ids} & {"p1", *(f"p{k}" for k in range(24, 32))}
    assert len(split.retain) == 390 and len(split.train) == 400
    assert found.outcome.run.split.forget.ids == ["p100"] and len(found.requests) == 1
    words = "Left out of retain and validation set, because they wait: request 1 (1 samples), request 2 (8 samples)."
    assert words in found.record.details["limits"] and words in (waits.path / "report.html").read_text()
    assert waits.status().problems == () and [r.state for r in waits.status().requests] == [
        "waiting",
        "waiting",
        "done",
    ]
    # the control: a request that was withdrawn is trained on again, and what is answered is forgotten
    ledger(waits).attach(1, status="withdrawn")
    split = waits.answer(pending=True).outcome.run.split
    assert "p1" in split.retain.ids and not split.waiting
    assert set(split.forget.ids) == {f"p{k}" for k in range(24, 32)}


def test_a_class_that_waits_leaves_validation_and_test_set_too(project, monkeypatch):
    """Also samples that the class got later."""
    toml(project, "validation = 0.0", "validation = 0.1")
    project.register([wanted(classes=3)])
    data_of(monkeypatch, extra=[("new", 3, "Doe, u0")])
    prepared = prepare(project.folder, print)
    states_from_file(project.folder, prepared.state, prepared.requests)
    setting = replace(prepared.setting, waiting=left_waiting(prepared, []))
    split = setting.for_run([setting.draw(wanted(ids=["p100"]))], [])
    for part in (split.retain, split.validation, split.test):
        assert len(part) and 3 not in part.labels
    assert {3} == set(split.withheld.labels.tolist()) and len(split.train) == len(split.for_original.retain)


def test_requests_that_leave_nothing_to_retain_are_named(project):
    project.register([wanted(classes=list(range(9)))])
    named = (
        r"request 1 \(\d+ samples, waits\) together leave no training samples.*ledger.db 1 --status withdrawn"
    )
    with pytest.raises(ExpungeError, match=rf"request 2 \(\d+ samples\) and {named}"):
        project.forget(classes=9)
    with pytest.raises(ExpungeError, match=rf"the new request \(\d+ samples\) and {named}"):
        project.plan([wanted(classes=9)])
    project.register([wanted(classes=9)])
    for call in (project.answer, project.plan):
        with pytest.raises(ExpungeError, match=r"request 1 .*and request 2 .*ledger.db 2 --status withdrawn"):
            call(pending=True)
    # what the sentence says
    assert main(["ledger", "attach", str(project.path / "ledger.db"), "2", "--status", "withdrawn"]) == 0
    assert len(project.plan(pending=True).samples) == 1


def test_classes_that_leave_no_test_samples_are_named(project):
    asked = wanted(ids=["p1"])
    split = prepare(project.folder, print).setting.draw(asked)
    split = replace(split, test=split.test.take(split.test.labels == 0))
    entry = ProjectRequest.new(1, "2030-01-01", asked, "x", split)
    with pytest.raises(ExpungeError, match=r"request 1 .* and request 2 .* leave no test samples"):
        check_together([(entry, split)], [WaitingRequest(2, torch.tensor([0]), (0,))], project.path)
    with pytest.raises(ExpungeError, match=r"request 2 \(1 samples\), which .* leave no test samples beside"):
        leave_out(split, [WaitingRequest(2, torch.tensor([0]), (0,))])


# ---- a nightly `forget --pending`


@pytest.fixture
def unproved(office, tmp_path):
    """A request that is done and not proved: the reference is not comparable."""
    values = {**VALUES, "reference": True, "recipe": {"epochs": 1, "lr": 1e-4}}
    project = Project.create(tmp_path / "unproved", checked(values), office / "mine.pt")
    assert project.forget(ids=["p1", "p2"]).not_proved
    return project


def test_a_run_that_would_give_the_same_is_not_repeated(unproved, capsys):
    words = ["forget", "--project", str(unproved.path), "--pending"]
    before = content(unproved.path)
    assert main([*words, "--dry-run"]) == 1 and main(words) == 1
    assert content(unproved.path) == before
    err = capsys.readouterr().err
    assert "request 1 is done, and not proved. Missing: an audit within the limits" in err
    assert "A run with the same settings gives no other result" in err
    # what waits is answered, and the other one stays as it is
    unproved.register([wanted(ids=["p9"])])
    found = unproved.answer(pending=True)
    assert found.outcome.run.split.forget.ids == ["p9"] and "request 1 is done, and not" in found.skipped[0]
    # with other settings, it is answered again
    toml(unproved, "reference = true", "reference = false")
    found = unproved.answer(pending=True)
    assert set(found.outcome.run.split.forget.ids) == {"p1", "p2", "p9"}
    assert main(words) == (1 if found.not_proved else 0)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--ids", "ids.txt"], ["--ids"]),
        (["--class", "3", "--goal", "unlearn"], ["--class", "--goal"]),
        (["--group", "user=x", "--subject", "case"], ["--group", "--subject"]),
        (["--csv", "r.csv", "--id-column", "n"], ["--csv", "--id-column"]),
        (["--due", "2099-01-01", "--received", "soon"], ["--due", "--received", "write a day"]),
        (
            ["--ids", "ids.txt", "--class", "3", "--wait"],
            ["--ids", "--class", "give exactly one", "--wait only"],
        ),
    ],
)
def test_flags_of_a_new_request_beside_pending_are_refused_together(project, flags, named, capsys):
    before = content(project.path)
    assert main(["forget", "--project", str(project.path), "--pending", *flags]) == 2
    err = capsys.readouterr().err
    assert all(words in err for words in named) and content(project.path) == before


# ---- states that contradict the ledger, also after --accept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(state="done"), "says that request 3 is done, and names no run"),
        (lambda r: r["what"].update(ids=[]), "has 0 ids for request 3, which came with 1 samples"),
    ],
)
def test_a_waiting_request_that_was_emptied_is_not_accepted(answered, change, words):
    answered.register([wanted(ids=["p60"])])
    edit(answered, lambda state: change(state["requests"][2]), sealed=False)
    with pytest.raises(ExpungeError, match=words):
        answered.accept()


def put(where, value):
    """A change of one entry, such as "requests.0.then.UA"."""

    def change(state):
        *path, last = [int(name) if name.isdigit() else name for name in where.split(".")]
        for name in path:
            state = state[name]
        state[last] = value

    return change


DAMAGE = {
    "drawn.samples": ("", "the entry drawn.samples is empty, and samples.npz is there"),
    "drawn.inputs": ({}, "one is empty, and both are written together"),
    "drawn.data": ("x", "the entry drawn.data is no hash"),
    "drawn.validation": (0.5, "the entry drawn.validation is 0.5, and its runs had 0.0"),
    "drawn.split_seed": (7, "the entry drawn.split_seed is 7, and its runs had 0"),
    "drawn.validation_from": ("test", "the entry drawn.validation_from is 'test', and its runs had 'train'"),
    "drawn.classes": (["a"], "the entry drawn.classes has 1 classes, and its runs had 10"),
    "drawn.classes.9": (
        "x",
        "its entry drawn, expunge.toml and the data contradict each other: .*the classes",
    ),
    "drawn.inputs.model": ("cnn", "contradict each other: expunge.toml: model is 'mlp'"),
    "drawn.held_out": ("0" * 64, "is missing"),
    "ledger": ("", "the entry ledger is empty"),
    "files": ({}, "the entry files is empty"),
    "files.models/0001~json": ("0" * 64, "the record of run 1, was changed"),
    "models.0.file": ("models/0002.safetensors", "the entry models.0.file is 'models/0002.safetensors'"),
    "models.0.sha256": ("0" * 64, "the entry models.0.sha256 is not the hash of"),
    "models.1.receipt": ("ul-x", "the entry models.1.receipt is 'ul-x'"),
    "models.2.requests": ("", "the entry models.2.requests is empty"),
    "requests.0.kind": ("class", "request 1: the entry kind is 'class'"),
    "requests.0.run": (2, "request 1: .*the entry run is 2"),
    "requests.0.part": ([0], "name other samples than the ledger got"),
    "requests.1.part": ([9999], "the entry part has positions beyond"),
    "requests.0.request": ("", "request 1: the entry request is no hash"),
    "requests.0.tried": ("x", "the entry tried is no hash of 16"),
    "requests.0.then.UA": (55.0, "the entry then has other scores"),
    "requests.0.now.UA": (55.0, "the entry now has other scores than the audit of run 2"),
    "requests.0.now.MIA": (-5.0, "the entry now.MIA is no percentage"),
    "requests.0.audited": (0, "the entry audited is 0, and audits followed the runs 1 to 2"),
    "requests.0.unreliable_mia": (True, "the entry unreliable_mia is True"),
    "requests.1.not_shown": (True, "the entry not_shown is True"),
    "requests.1.what.classes": (["5"], "the entry what.classes has '5'"),
    "requests.0.what.goal": ("unlearn", "the entry what.goal is 'unlearn'"),
    "requests.0.what.subject": ("other", "the entries subject and what.subject differ"),
}


def test_no_damaged_entry_is_accepted(answered):
    """All that files, ledger, records, settings or data know is compared, and the entry is named."""
    path, state = answered.path / "state.json", (answered.path / "state.json").read_text()
    wrong = {}
    for where, (value, words) in DAMAGE.items():
        path.write_text(state)
        edit(answered, put(where, value) if "~" not in where else _files(where, value), sealed=False)
        before = path.read_bytes()
        with pytest.raises(ExpungeError) as error:
            answered.accept()
        if not re.search(words, str(error.value)) or path.read_bytes() != before:
            wrong[where] = str(error.value)
    assert wrong == {}
    # the control: a free text, which nothing else knows
    path.write_text(state)
    edit(answered, put("requests.0.reason", "a note"), sealed=False)
    answered.accept()
    assert answered.status().problems == ()


def _files(where, value):
    return lambda state: state["files"].update({where.removeprefix("files.").replace("~", "."): value})


def test_what_cannot_be_checked_stops_no_acceptance(answered, monkeypatch):
    """Older evidence may be missing, and the data may be out of reach: the user is told what was not compared."""
    import office_data

    def unreachable():
        raise ExpungeError("the disk is not mounted.")

    (answered.path / "models/0001.json").unlink()
    edit(answered, put("requests.0.reason", "a note"), sealed=False)
    monkeypatch.setattr(office_data, "data", unreachable)
    notes = []
    answered.say = notes.append
    answered.accept()
    assert len(notes) == 1 and "the entry drawn of state.json was not compared with it" in notes[0]
    assert [text for text in answered.status().problems if "seal" in text or "outside" in text] == []


def test_a_subject_in_another_unicode_form_is_one_subject(project):
    project.register([wanted(ids=["p1"], subject="Jose\u0301")])
    assert project.status().problems == ()
    project.register([wanted(ids=["p2"], subject="Jos\u00e9")])
    assert {r.subject for r in project.status().requests} == {"Jos\u00e9"}


# ---- what somebody wrote into the ledger by hand


def test_a_request_that_was_reopened_by_hand_is_answered_again(answered, capsys):
    ledger(answered).attach(1, status="open", note="the person asks again")
    assert main(["status", "--project", str(answered.path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "reopened: 1" in out
    assert "request 1 was reopened in the ledger: `expunge forget --pending` answers it again" in out
    found = answered.answer(pending=True)
    assert found.skipped == [] and found.splits[0].forget.ids == ["p1", "p2"]
    assert [r.shown_state for r in answered.status().requests] == ["done", "done"]
    # the control: closed by hand again, it needs no run
    ledger(answered).attach(2, status="open")
    ledger(answered).attach(2, status="done")
    assert (
        answered.status().reopened == [] and [r.shown_state for r in answered.status().requests][1] == "done"
    )


def test_a_reopened_request_whose_samples_are_gone_says_so(answered, monkeypatch):
    ledger(answered).attach(1, status="open")
    data_of(monkeypatch, keep=[0, *range(3, 400)])
    with pytest.raises(
        StillOpen, match=r"request 1 was reopened in the ledger, and the data no longer has 2 of its 2"
    ):
        answered.answer(pending=True)


def test_requests_that_only_the_ledger_has_are_shown_and_due(answered, capsys):
    number = ledger(answered).add("case by mail", received="2026-01-01", due="2026-01-31")
    ledger(answered).add("not due", ["p9"], due="2099-01-31")
    assert main(["status", "--project", str(answered.path)]) == 1
    out, err = (" ".join(text.split()) for text in capsys.readouterr())
    assert "in ledger only" in out and "overdue: 1, in ledger only: 2" in out
    assert f"request {number} was added with `expunge ledger add`, so no run knows its samples" in err
    assert f"attach {answered.path}/ledger.db {number} --status withdrawn" in err
    with pytest.raises(
        StillOpen,
        match=f"--due 2026-01-31, and --ids, --class or --group.*attach {answered.path}/ledger.db {number} ",
    ):
        answered.answer(pending=True)
    notes = []
    answered.say = notes.append
    answered.register([wanted(ids=["p9"], subject="not due")])
    assert "subject not due already has request 4 (open); this is another one." in notes
    # closed requests are listed, and count nowhere
    ledger(answered).attach(number, status="refused")
    status = answered.status()
    assert status.overdue == [] and [r.number for r in status.listed] == [1, 2, 3, 4, 5]
    assert [r.number for r in status.waiting] == [5]
