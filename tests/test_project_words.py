"""What a user of a project reads: the last lines of `forget`, notes, numbers of requests, recipe and limit."""

import ast
import json
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import expunge
from expunge import Project, Split, TensorData
from expunge.audit.earlier_requests import not_scored
from expunge.cli import main
from expunge.cli.project_answer import show_answer, show_not_answered
from expunge.errors import ExpungeError
from expunge.projects.answered import BAD_WORDS, NotAnswered
from expunge.projects.effect import _lost_accuracy
from expunge.projects.no_effect import NO_EFFECT
from expunge.projects.request_csv import read_csv
from expunge.projects.request_scores import renumber
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.projects.words import for_project
from expunge.records.record import Record
from expunge.records.statistics import contradicted, shown_word
from expunge.sources import load
from project_office import VALUES, content, edit
from test_project_effect import part_of_run


def test_forget_ends_with_request_state_files_and_the_next_step(project, capsys):
    (project.path.parent / "ids.txt").write_text("p1\np2\n")
    ids = str(project.path.parent / "ids.txt")
    assert main(["forget", "--project", str(project.path), "--ids", ids, "--subject", "case 7"]) == 0
    shown = capsys.readouterr()
    last = shown.out.splitlines()[-7:]
    # two samples are too few for an effect that chance does not explain
    assert last.pop(2) == f"request 1: {NO_EFFECT}" and last.pop(2).startswith(
        "to answer it better: first raise lr"
    )
    assert last[0].startswith("test accuracy: ") and "max_loss is 20" in last[0]
    assert last[1:4] == [
        "request 1 (case 7): done",
        f"model: {project.path}/models/0001.safetensors",
        f"report: {project.path}/report.html",
    ]
    assert last[4].startswith("next: hand over") and "0001.receipt.json" in last[4]
    assert "already has request" not in shown.err
    # a second request of the subject, which a run answers; another subject gets no note
    arguments = ["forget", "--project", str(project.path), "--class", "3", "--wait", "--subject"]
    assert main([*arguments, "case 7"]) == 0
    assert "subject case 7 already has request 1 (done)" in capsys.readouterr().err
    assert main([*arguments, "case 8"]) == 0
    assert "already" not in capsys.readouterr().err


def test_a_costly_run_and_a_bad_verdict_are_in_the_last_lines(office, tmp_path, capsys, monkeypatch):
    values = {
        **VALUES,
        "settings": {"epochs": 1, "lr": 0.001, "batch_size": 64},
        "recipe": {"epochs": 8, "lr": 0.1},
    }
    own = Project.create(tmp_path / "own", checked({**values, "reference": True}), office / "mine.pt")
    found = own.forget(ids=["p1", "p2"], subject="case 7")
    part, words = found.parts[0], "verdict of request 1: utility lost. RA 90 against 99."
    assert set(found.bad_verdicts) == ({1} if BAD_WORDS & set(part.verdict["words"]) else set())
    monkeypatch.setattr(
        type(part), "verdict", {"words": ["utility lost"], "sentences": ["RA 90 against 99."]}
    )
    # of 200 test samples, 5 are 2.5 points
    accuracies = [(95.0, 92.5, torch.ones(200, dtype=torch.bool))]
    monkeypatch.setattr("expunge.projects.effect.accuracies_of", lambda *_: accuracies[-1])
    show_answer(own, found)
    last = capsys.readouterr().out
    assert f"request 1 (case 7): done\n{words}\n" in last.replace(", not proved", "")
    assert "the run cost more than 2 points of test accuracy: lower max_loss" in last
    show_not_answered(own, NotAnswered(["it costs too much."], found.outcomes))
    assert "test accuracy: " in (out := capsys.readouterr().out) and "lower max_loss" not in out
    # the control
    monkeypatch.setattr(type(part), "verdict", {"words": ["indistinguishable"], "sentences": []})
    accuracies.append((95.0, 94.5, torch.arange(200) >= 20))
    found.not_proved.clear()
    status = own.status()
    status.requests[0].ledger_state = "done"
    monkeypatch.setattr(type(own), "status", lambda self: status)
    show_answer(own, found)
    last = capsys.readouterr().out
    assert "verdict of" not in last and "cost more" not in last and "next: hand over the model" in last


def test_status_marks_what_the_scores_do_not_show(answered, capsys):
    def shown():
        assert main(["status", "--project", str(answered.path)]) == 0
        return capsys.readouterr().out

    first, second = answered.status().requests[:2]
    details = Record.load(answered.path / "models/0001.json").details["requests"]
    assert first.not_shown == bool(details[0]["warning"]) and not second.not_shown
    assert second.unreliable_mia == contradicted(Record.load(answered.path / "models/0002.json").scores)

    def marks(value):
        return lambda state: [r.update(not_shown=value, unreliable_mia=value) for r in state["requests"][:1]]

    edit(answered, marks(True), sealed=True)
    text = f"request 1: the scores of its audit do not show that it is forgotten (UA {first.then['UA']:.1f}, MIA "
    out = shown()
    assert text in out and f"{first.now['MIA']:.1f}*" in out and "MIA is unreliable" in out
    # a repeated request has the audit of the first one
    answered.forget(ids=["p1"])
    assert answered.status().requests[-1].not_shown
    edit(
        answered,
        lambda state: [r.update(not_shown=False, unreliable_mia=False) for r in state["requests"]],
        sealed=True,
    )
    out = shown()
    assert "do not show" not in out and "*" not in out


def test_a_repeated_request_names_the_receipt_of_its_run(answered, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("p1\n")
    assert main(["forget", "--project", str(answered.path), "--ids", str(tmp_path / "ids.txt")]) == 0
    receipt = f"run 1 ({answered.path}/models/0001.receipt.json)"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: hand over the receipt of the run that answers the request: {receipt}."
    # together with a new one
    answered.register([wanted(ids=["p2"])])
    answered.register([wanted(ids=["p9"])])
    assert main(["forget", "--project", str(answered.path), "--pending"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"0003.receipt.json; for the requests that an earlier run answers, {receipt})" in last


def test_a_request_whose_due_day_has_passed_is_entered_as_overdue(project, capsys):
    arguments = ["forget", "--project", str(project.path), "--class", "3", "--wait", "--received"]
    assert main([*arguments, "2020-01-01"]) == 0
    assert "waits, due 2020-01-29, already overdue: " in capsys.readouterr().out
    assert main(arguments[:-1]) == 0
    assert "overdue" not in capsys.readouterr().out


def test_a_run_that_answers_nothing_says_what_to_do(office, tmp_path, capsys):
    own = Project.create(
        tmp_path / "own", checked({**VALUES, "settings": {"epochs": 1, "lr": 1e-9}}), office / "mine.pt"
    )
    (tmp_path / "ids.txt").write_text("p1\n")
    assert main(["forget", "--project", str(own.path), "--ids", str(tmp_path / "ids.txt")]) == 3
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last[0] == "request 1 (no subject): open" and last[1].endswith("0000.pt, as it was")
    assert (
        last[2].startswith("next: raise lr in [settings], or change method, in ") and "--pending" in last[2]
    )


def test_a_record_has_the_numbers_of_the_project_and_the_scores_of_each_request(project):
    """Request 2 is answered first, so the model knows it as its first one."""
    project.register([wanted(ids=["p1", "p2"], subject="a")])
    project.forget(classes=3, subject="b")
    project.register([wanted(ids=["p9", "p11"], subject="c")])
    found = project.answer(pending=True)
    record = Record.load(project.path / "models/0002.json")
    assert [e["number"] for e in record.details["earlier_requests"]] == [2]
    own = record.details["requests"]
    assert [e["number"] for e in own] == [1, 3] and [e.number for e in found.entries] == [1, 3]
    for entry, part in zip(own, found.parts, strict=True):
        assert (entry["UA"], entry["UA_before"]) == (part.scores["UA"], part.original.scores["UA"])
        assert entry["warning"] == part.confidence.warning
    assert found.warnings == [f"request {e['number']}: {e['warning']}" for e in own if e["warning"]]
    page = (project.path / "report.html").read_text(encoding="utf-8")
    assert "request 3" in page and "run 2 (requests 1, 3)" in page and "Before this run" in page


def test_the_recipe_is_that_of_the_file_then_of_the_checkpoint_then_the_default(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = ["--data", "digits?limit=200&test_limit=100", "--model", "mlp"]
    assert main(["train", *data, "--epochs", "7", "--lr", "0.07", "--out", "mine.safetensors"]) == 0
    assert main(["init", "own", *data, "--checkpoint", "mine.safetensors", "--trials", "0"]) == 0
    project = Project("own")
    plan = project.plan([wanted(ids=["1", "2"])])
    assert plan.recipe == "the recipe of the checkpoint, 7 epochs"
    # a delivered model names it too, since the original is deleted
    project.forget(classes=3)
    assert project._prepare().settings.make_recipe(project._prepare().trained).lr == 0.07
    settings = project.path / "expunge.toml"
    settings.write_text(settings.read_text() + "\n[recipe]\nepochs = 5\n")
    plan = project.plan([wanted(ids=["1", "2"])])
    assert plan.recipe == "[recipe] of expunge.toml (epochs), else the recipe of the checkpoint, 5 epochs"


def test_without_a_recipe_in_the_checkpoint_the_default_counts(project):
    plan = project.plan([wanted(ids=["p1"])])
    assert plan.recipe.startswith("the default recipe, ")


def test_the_limit_of_lost_accuracy_is_an_entry(office, tmp_path):
    with pytest.raises(ExpungeError, match="max_loss is 101"):
        checked({**VALUES, "max_loss": 101})
    assert checked(VALUES).max_loss == 20
    part = part_of_run((0.9, 4, 96), (0.5, 4, 81))
    assert _lost_accuracy(part) == "" and "at most 10 points are allowed (max_loss)" in _lost_accuracy(
        part, 10
    )
    own = Project.create(tmp_path / "own", checked({**VALUES, "max_loss": 0.0}), office / "mine.pt")
    assert own._prepare().setting.max_loss == 0.0


def test_an_unknown_id_names_the_nearest_and_examples(project):
    with pytest.raises(ExpungeError) as refused:
        project.forget(ids=["p1O1"])
    text = str(refused.value)
    assert "'p1O1' is like 'p1" in text and re.search(r"the data has \d+ ids", text) and "'p0'" not in text
    digits = load("digits?limit=50")
    with pytest.raises(ExpungeError, match=r"is unknown.*the data has|is a position from 0 to 49"):
        Split.by_ids(digits.train, digits.test, ["5000"])


def test_sentences_on_requests_without_samples_name_the_numbers_of_the_project():
    entries = [
        {"number": at, "request": name, "scored": scored}
        for at, (name, scored) in enumerate([("a", "training"), ("b", ""), ("c", "test")], 1)
    ]
    record = SimpleNamespace(
        status="finished",
        details={"earlier_requests": entries, "limits": ["first", *not_scored(entries), "last"]},
    )
    known = [
        SimpleNamespace(
            request=name, number=number, before={}, not_shown=name == "b", unreliable_mia=name == "c"
        )
        for name, number in (("a", 2), ("b", 4), ("c", 7), ("a", 8))
    ]
    renumber(record, known, [])
    assert [e["not_shown"] for e in entries] == [False, True, False]
    assert [e["unreliable_mia"] for e in entries] == [False, False, True] and entries[0]["repeated"] == [8]
    first, gone, tested, last = record.details["limits"]
    assert (first, last) == ("first", "last")
    assert gone.startswith("The other request 4 is not audited") and tested.startswith(
        "The other request 7 is audited on test"
    )


def test_a_typo_in_a_group_names_the_nearest_value_alone():
    people = [f"person {name}" for name in ("Amy", "Bob", "Doe, Jane", "Eve")] * 3
    data = TensorData(torch.zeros(12, 2), torch.arange(12) % 2, groups={"person": people})
    with pytest.raises(ExpungeError) as refused:
        Split.by_group(data, (torch.zeros(2, 2), torch.arange(2)), "person", "person doe, jane")
    text = str(refused.value)
    assert "'person doe, jane' is like 'person Doe, Jane'" in text and "the column has 4 values" in text
    assert not any(name in text for name in ("Amy", "Bob", "Eve"))


def test_status_in_a_pipe_cuts_nothing_and_prints_json(answered, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    subject = "a subject of many words " * 5
    edit(
        answered,
        lambda state: [r.update(subject=subject.strip()) for r in state["requests"][:1]],
        sealed=True,
    )
    code = main(["status", "--project", str(answered.path)])
    assert subject.strip() in capsys.readouterr().out
    assert main(["status", "--project", str(answered.path), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    requests = answered.status().requests
    assert [(r["number"], r["state"], r["then"]) for r in found["requests"]] == [
        (r.number, r.shown_state, r.then) for r in requests
    ]
    assert found["exit_code"] == code and "ids" not in found["requests"][0]


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_declined_request_has_a_row_its_reason_and_its_number(project, monkeypatch, capsys, all_of_them):
    from expunge.projects import answer as module

    monkeypatch.setattr(
        module,
        "failure",
        lambda part, **o: "it is still known" if all_of_them or len(part.split.forget) == 1 else "",
    )
    project.register([wanted(ids=["p1"], subject="a"), wanted(ids=["p8", "p9"], subject="b")])
    code = main(["forget", "--project", str(project.path), "--pending"])
    shown = capsys.readouterr()
    text = " ".join(shown.out.split())
    assert code == (3 if all_of_them else 1) and "those of 2 requests together" in text
    rows = [line.split("│") for line in shown.out.splitlines() if re.match(r"│ [12] \(", line)]
    assert [row[1].split()[0] for row in rows] == (["1", "2"] if all_of_them else ["2", "1"])
    assert [row[-2].strip() for row in rows] == (["declined"] * 2 if all_of_them else ["shown", "declined"])
    assert '"declined": the run does not answer it' in text
    if all_of_them:
        return
    assert "error: the run does not answer request 1: it is still known" in shown.err
    record = Record.load(project.path / "models/0001.json")
    assert [e["number"] for e in record.details["requests"]] == [2]
    (entry,) = record.details["declined"]
    assert entry["number"] == 1 and entry["reason"] == "it is still known" and entry["samples"] == 1
    # the scores of the union are the mean over its three samples
    total = sum(e["UA"] * e["samples"] for e in (*record.details["requests"], entry))
    assert record.scores["UA"] == pytest.approx(total / 3)
    report = (project.path / "report.html").read_text()
    assert "union of 2 requests" in report and "The run does not answer request 1" in report


def test_a_failed_run_names_other_requests_by_the_numbers_of_the_ledger(project, monkeypatch, capsys):
    """Request 2 waits, so the second request that the model has answered is number 3."""
    from expunge.projects import answer as module

    project.forget(ids=["p1", "p2"])
    project.register([wanted(ids=["p9"])])
    project.forget(classes=3)
    monkeypatch.setattr(module, "failure", lambda part, **o: "no")
    assert main(["forget", "--project", str(project.path), "--ids", str(ids_file(project, "p20"))]) == 3
    shown = capsys.readouterr().out
    assert re.findall(r"^│ (\d) \(", shown, re.MULTILINE) == ["1", "3"] and "request 4 (" in shown


def ids_file(project, *names):
    path = project.path.parent / "ids.txt"
    path.write_text("\n".join(names))
    return path


def test_a_request_of_an_earlier_project_has_no_number_of_this_one():
    entry = {
        "number": 1,
        "request": "old",
        "reason": "the accuracy on the 3 samples of request 1 is 9 %",
        "scored": "training",
    }
    record = Record(
        "unlearn",
        "salun",
        details={"earlier_requests": [dict(entry, receipt="ul-A"), dict(entry, receipt="")]},
    )
    own = SimpleNamespace(number=1, request="new", before={}, not_shown=False, unreliable_mia=False)
    renumber(record, [own], [])
    first, second = record.details["earlier_requests"]
    assert first["number"] == "ul-A" and "of request ul-A is" in first["reason"]
    assert second["number"] == "1 of the model's file"


def test_tables_outside_of_projects_say_what_the_numbers_count():
    from expunge.cli.table import earlier_table
    from expunge.report.request_history import earlier_table as of_report

    entry = {
        "number": 1,
        "request": "r",
        "scenario": "ids",
        "samples": 2,
        "came_back": False,
        "UA_retrained": None,
    }
    entry |= {f"{name}{ending}": 1.0 for name in ("UA", "MIA") for ending in ("", "_change")}
    for numbers, said in ((None, True), ("ledger", False)):
        record = Record("unlearn", "salun", details={"earlier_requests": [entry], "numbers": numbers})
        assert ("request file" in earlier_table(record).caption) is said
        assert any("request file" in note for note in of_report(record)["notes"]) is said


def test_a_reference_that_is_not_comparable_says_why_and_what_to_change(
    office, tmp_path, monkeypatch, capsys
):
    from expunge.projects import answer as module

    weak = {"reference": True, "recipe": {"epochs": 1, "lr": 1e-6, "batch_size": 64}}
    project = Project.create(tmp_path / "weak", checked({**VALUES, **weak}), office / "mine.pt")
    monkeypatch.setattr(
        module, "failure", lambda part, **o: "" if part.retrained is not None else "no reference counts"
    )
    assert main(["forget", "--project", str(project.path), "--ids", str(ids_file(project, "p1"))]) == 3
    shown = capsys.readouterr().err
    assert "The retrained model is not comparable with the original. Its RA is" in shown
    assert (
        "by [recipe] in expunge.toml (epochs, lr, batch_size)" in shown
        and "tolerance of the audit" not in shown
    )


# ---- advice


def test_advice_of_a_project_names_entries_and_no_flags_of_other_commands():
    """Every text with a flag below the packages that a project uses."""
    root = Path(expunge.__file__).parent
    packages = ("audit", "data", "masks", "methods", "pipeline", "tasks", "training", "tuning", "records")
    texts = [
        text
        for package in packages
        for file in sorted((root / package).rglob("*.py"))
        for text in advice_in(file.read_text(encoding="utf-8"))
    ]
    assert len(texts) >= 10
    assert [text for text in map(for_project, texts) if set(FLAG.findall(text)) - set(OTHERS)] == []
    assert for_project("Choose another method, or trials='auto' (--trials auto).") == (
        'Choose another method, or trials = "auto" in expunge.toml.'
    )
    shown = "leave copies out (copies='include', --copies include), or not."
    assert for_project(shown) == 'leave copies out (copies = "include" in expunge.toml), or not.'
    assert for_project("(validation=0.5, --validation 0.5)") == "(validation = 0.5 in expunge.toml)"
    assert for_project("give --split-seed 3 (a function for --data must)") == (
        "give split_seed = 3 in expunge.toml (a function for the entry data of expunge.toml must)"
    )
    # the control: what a project has itself
    assert for_project("give --ids FILE, or --pending") == "give --ids FILE, or --pending"


FLAG = re.compile(r"(?<![\w`])--[a-z][a-z-]+")
# flags in texts that no run of a project reaches: its references are trained, its groups have one value
# the last one is a flag of the script that DeepSpeed writes
OTHERS = ("--forget-group", "--history", "--retrained", "--without-forget", "--tag")


def advice_in(code):
    """The texts with flags in a file, with their parts joined. Docstrings and tables of flags are left out."""
    tree = ast.parse(code)
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if getattr(node, "body", None) and is_text(node.body)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            documented |= {id(part) for part in node.values}
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            text = node.value
        else:
            continue
        if FLAG.search(text) and " " in text and not text.startswith("--"):
            yield text


def is_text(body):
    return (
        isinstance(body, list) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    )


def test_errors_warnings_and_records_of_a_run_have_the_words_of_a_project(project, monkeypatch):
    from expunge.projects import project as module

    advice = "do less, or trials='auto' (--trials auto)."

    def warn(*arguments):
        warnings.warn(advice, RuntimeWarning, stacklevel=2)
        raise ExpungeError([advice])

    monkeypatch.setattr(module, "answer", warn)
    words = r'or trials = "auto" in expunge.toml\.$'
    with pytest.warns(RuntimeWarning, match=words), pytest.raises(ExpungeError, match=words):
        project.forget(ids=["p1"])
    record = Record(
        "unlearn", "salun", status=f"worse: {advice}", details={"notes": [advice], "limits": [advice]}
    )
    renumber(record, [], [])
    assert "--trials" not in f"{record.status} {record.details}"


def test_status_gives_each_remark_one_line(answered, capsys):
    def doubt(state):
        for entry in state["requests"]:
            entry["not_shown"] = True

    edit(answered, doubt, sealed=True)
    assert main(["status", "--project", str(answered.path)]) in (0, 1)
    shown = capsys.readouterr().out
    words = (
        "requests 1 and 2: the scores of their audits do not show that they are forgotten (UA and MIA above)"
    )
    assert words in shown and "request 1:" not in shown


def test_requests_with_the_same_remark_share_a_line(capsys):
    from expunge.cli.project_tables import on_requests

    on_requests(
        [(1, "is open: x"), (2, "is not proved"), (4, "is open: x"), (5, ": gone"), (6, ": gone")], sys.stdout
    )
    assert capsys.readouterr().out.splitlines() == [
        "requests 1 and 4: each is open: x",
        "request 2 is not proved",
        "requests 5 and 6, each: gone",
    ]


def test_no_change_has_no_minus(capsys):
    from expunge.cli.table import _changed

    for change, text in ((-0.04, "5.0 (+0.0)"), (-0.06, "5.0 (-0.1)"), (0.0, "5.0 (+0.0)")):
        assert _changed({"UA": 5.0, "UA_change": change}, "UA") == text


def test_an_unknown_id_of_a_csv_file_has_its_line_and_subject(project, tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("id,subject\np1,case 1\nzz1,case 1\np2,case 2\nzz2,case 3\np3,case 3\np3,case 3\n")
    before = content(project.path)
    with pytest.raises(ExpungeError) as error:
        project.register(read_csv(path))
    first, *others = error.value.problems
    assert first.startswith("line 3 (subject 'case 1'): 1 id, 'zz1', is unknown")
    assert len(others) == 2 and all(text.startswith("lines 5, 6, 7 (subject 'case 3'): ") for text in others)
    assert content(project.path) == before
    # lines are for messages only, and the control: requests from elsewhere have none
    assert "lines" not in read_csv(path)[0].to_dict() and read_csv(path)[0].lines == (2, 3)
    with pytest.raises(ExpungeError, match=r"^1 id, 'zz1', is unknown"):
        project.register([wanted(ids=["zz1"])])


def test_the_dry_run_says_what_the_seconds_of_retraining_are(project, capsys):
    assert main(["forget", "--project", str(project.path), "--class", "3", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"^retraining instead: [\d.]+ seconds for a new model without the samples", shown, re.MULTILINE
    )


def test_an_interrupted_forget_says_what_is_kept(project, capsys, monkeypatch):
    """The docs promised that it resumes; a new request was simply gone."""
    (project.path.parent / "ids.txt").write_text("p1\n")
    command = ["forget", "--project", str(project.path)]
    new = [*command, "--ids", str(project.path.parent / "ids.txt"), "--subject", "case 7"]

    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("expunge.projects.answer._run", interrupted)
    assert main(new) == 130
    shown = capsys.readouterr().err
    assert "the request was not entered; with --wait" in shown and "still wait" not in shown
    assert not project.status().requests
    assert main([*new, "--wait"]) == 0 and main([*command, "--pending"]) == 130
    shown = capsys.readouterr().err
    assert "still wait" in shown and "not entered" not in shown
    assert [r.state for r in project.status().requests] == ["waiting"]


def test_the_plan_counts_only_samples_that_the_run_forgets(answered):
    """Request 1 forgot p1 and p2; a plan counted them again beside those of a new request."""
    notes = []
    project = Project(answered.path, say=notes.append)
    plan = project.plan(
        [wanted(ids=["p1"], subject="case 8"), wanted(ids=["p7", "p8", "p9"], subject="case 9")]
    )
    assert plan.samples == [3]
    assert "request 1 removed all samples of the request of case 8 already; no run is needed for it." in notes


@pytest.mark.parametrize(
    ("method", "words"), [("ipru", "leaves the weights as they are"), ("bias_shift", "answers no request")]
)
def test_a_method_whose_file_still_has_what_the_model_knew_is_no_method_of_a_project(method, words):
    """Also for `expunge.toml` that is edited later: it is checked at each command."""
    values = {**VALUES, "method": method, "settings": {}}
    with pytest.raises(ExpungeError, match=words):
        checked(values, Path("expunge.toml"))


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"reason": "it did harm", "unmeasured": True}, "declined"),
        ({"warning": "The scores do not show"}, "not shown"),
        ({"goal": "untrain", "unmeasured": True, "warning": ""}, "–"),
        ({"goal": "untrain", "unmeasured": False, "warning": ""}, "shown"),
        ({"goal": "unlearn", "confidence": None}, "shown"),
    ],
)
def test_a_request_that_was_not_measured_is_not_shown_to_be_forgotten(entry, word):
    assert shown_word(entry) == word
