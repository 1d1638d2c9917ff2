"""Records and reports keep no picture, id or name of a forgotten sample, unless somebody asks for them."""

import json
import re
import warnings
from types import SimpleNamespace

import pytest
import torch

from expunge import Classification, Retrain, SalUn, Session, Split, TensorData, audit, train
from expunge.cli import main
from expunge.cli.invocation import command_line, invoked_with
from expunge.models import build
from expunge.pipeline.outcome import Outcome
from expunge.projects.settings import checked
from expunge.projects.wanted import union_of
from expunge.records.record import Record
from expunge.report import page
from expunge.report.copies_found import copies_text
from project_office import VALUES

PICTURE = "data:image/png"
DATA = ["--data", "digits?limit=300&test_limit=100", "--model", "mlp"]


pytestmark = pytest.mark.filterwarnings("ignore:1 exact copy of forget samples:UserWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    file = tmp_path_factory.mktemp("trained") / "mine.safetensors"
    assert not main(["train", *DATA, "--epochs", "2", "--batch-size", "64", "--out", str(file)])
    return file


def forgotten_ids(text, ids):
    """Those of the ids that a text holds as a whole JSON text."""
    return [name for name in ids if re.search(rf'"{name}"|\b{name}\b', text)]


def test_records_and_report_of_a_project_hold_no_samples_and_no_names(project, capsys):
    ids = [f"p{k}" for k in range(8, 16)]
    arguments = ["forget", "--project", str(project.path), "--group", "user=Doe, u1", "--subject", "Jane Doe"]
    assert main(arguments) == 0
    for file in (*project.path.glob("models/*.json"), project.path / "report.html"):
        if ".secret." in file.name or ".requests." in file.name:
            continue
        text = file.read_text()
        assert not forgotten_ids(text, ids) and "Doe" not in text and PICTURE not in text, file.name
        assert "iVBOR" not in text, file.name
    record = Record.load(project.path / "models/0001.json")
    assert "--group 'user=***' --subject '***'" in record.command and record.split["group_values"] == 1
    # the control: the request file, which is private, has all of it
    kept = (project.path / "models/0001.requests.json").read_text()
    assert forgotten_ids(kept, ids) == ids and "Doe, u1" in kept


def test_the_report_of_a_project_shows_samples_if_the_settings_ask(project):
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("show_forgotten = false", "show_forgotten = true"))
    project.forget(ids=["p1", "p2"])
    report = project.path / "report.html"
    assert report.read_text().count(PICTURE) == 2 and report.stat().st_mode & 0o777 == 0o600
    assert "examples" not in Record.load(project.path / "models/0001.json").details
    # the next run without the entry shows none, also not those of the run before
    path.write_text(path.read_text().replace("show_forgotten = true", "show_forgotten = false"))
    project.forget(ids=["p3"])
    assert PICTURE not in report.read_text()


def test_pictures_in_records_of_earlier_versions_stay_out_of_new_reports(answered):
    """An old record keeps its bytes, as receipt and ledger have its hash."""
    from expunge.projects.delivery import shown_records

    file = answered.path / "models/0001.json"
    record = Record.load(file)
    record.details["examples"] = [{"png": "iVBOR", "id": "p1", "label": 1}]
    record.save(file)
    (kept,) = shown_records([file])
    assert "examples" not in kept.details and "examples" in Record.load(file).details


def test_a_changed_entry_for_the_report_is_no_other_setting_of_a_run():
    assert checked(VALUES).attempt(3) == checked({**VALUES, "show_forgotten": True}).attempt(3)
    # the control
    assert checked(VALUES).attempt(3) != checked({**VALUES, "seed": 1}).attempt(3)


@pytest.mark.parametrize("asked", [False, True])
def test_unlearn_and_audit_keep_samples_only_if_asked(trained, tmp_path, capsys, asked):
    flag = ["--show-forgotten"] if asked else []
    out, report = tmp_path / "out.safetensors", tmp_path / "report.html"
    run = ["unlearn", "salun", *DATA, "--checkpoint", str(trained), "--forget-share", "0.1", "--epochs", "1"]
    assert main([*run, "--trials", "0", "--out", str(out), "--report", str(report), *flag]) in (0, 1)
    record = Record.load(out.with_suffix(".json"))
    assert ("examples" in record.details) is asked and (PICTURE in report.read_text()) is asked
    looked = ["audit", *DATA, "--checkpoint", str(out), "--original", str(trained), "--forget-share", "0.1"]
    main([*looked, "--out", str(tmp_path / "audit.json"), "--report", str(report), *flag])
    record = Record.load(tmp_path / "audit.json")
    assert ("examples" in record.details) is asked and (PICTURE in report.read_text()) is asked


def world(groups=None):
    torch.manual_seed(0)
    x, y = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8), torch.arange(60) % 4
    x[20] = x[3]
    ids = [f"file-{k}.png" for k in range(40)]
    data = TensorData(x[:40], y[:40], ids=ids, groups=groups or {}, classes=["a", "b", "c", "d"])
    return data, TensorData(x[40:], y[40:], classes=["a", "b", "c", "d"])


def test_a_split_is_described_without_ids_of_copies_and_values_of_groups():
    users = [f"user {k // 4}" for k in range(40)]
    first, test = world({"user": users})
    splits = [Split.by_group(first, test, "user", [f"user {k}"], validation=0) for k in (0, 1)]
    texts = [json.dumps(split.to_dict()) for split in splits]
    assert not any("file-" in text or "user 0" in text or "user 1" in text for text in texts)
    assert splits[0].to_dict()["copies_found"]["exact"]["retain"] == {"count": 1, "other_label": 1}
    # a request remembers its values, for messages; its file is private
    assert splits[0].as_request("salun").description["values"] == ["user 0"]
    # the requests of two people are no seeds of one request
    records = [
        Record(kind="unlearn", method="salun", split=split.to_dict(), scores={"UA": 1.0}) for split in splits
    ]
    assert page(records).count("those with 1 value of the column user") == 2


def test_a_session_shows_samples_only_if_asked(tmp_path):
    data, test = world()
    model = build("mlp", num_classes=4, shape=(1, 8, 8))
    split = Split.by_class(data, test, 3, validation=0)
    model = train(model, split, Retrain(epochs=20, lr=0.1, batch_size=8), Classification(4)).model
    assert audit(model, split, Classification(4)).examples[0]["png"]
    assert "examples" not in audit(model, split, Classification(4)).details
    session = Session(model, (data, test), Classification(4), SalUn(epochs=10, lr=0.1, batch_size=8))
    session.forget(classes=3)
    for asked in (False, True):
        text = session.report(tmp_path / "report.html", show_forgotten=asked).read_text()
        assert (PICTURE in text) is asked


def test_a_record_without_an_audit_is_shown_as_it_is():
    record = Record(kind="unlearn", method="salun")
    assert Outcome(SimpleNamespace(), record).shown_record is record


def test_a_command_in_a_record_names_no_people():
    line = [
        "forget",
        "--subject",
        "Jane Doe",
        "--group=author=jane@x.org",
        "--forget-group",
        "a=Jane",
        "b=Roe",
        "--ids",
        "f",
        "--csv=--jane.csv",
        "--forget_ids",
        "--roe.txt",
        "--history",
        "j.txt",
        "--out",
        "m=1",
        "--forget_group=a=Jane Doe",
        "a=Roe",
        "--unseen-ids",
        "j=1.txt",
    ]
    with invoked_with(line):
        assert (
            command_line()
            == "expunge forget --subject '***' '--group=author=***' --forget-group 'a=***' 'b=***' --ids '***' '--csv=***' --forget_ids "
            "'***' --history '***' --out m=1 '--forget_group=a=***' 'a=***' --unseen-ids '***'"
        )


def near_world():
    """40 smooth pictures; 21 is nearly 3, 22 nearly 4, and 23 nearly 24."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(60, 1, 16, 16, generator=generator)
    x = torch.nn.functional.interpolate(small, 32, mode="bilinear")
    for copied, of in ((21, 3), (22, 4), (23, 24)):
        x[copied] = x[of] * 0.95
    ids = [f"file-{k}.png" for k in range(40)]
    y = torch.arange(60) % 4
    return TensorData(x[:40], y[:40], ids=ids), TensorData(x[40:], y[40:])


def test_a_run_says_which_near_copies_stay_and_the_report_has_their_number(tmp_path):
    data, test = near_world()
    model = build("mlp", num_classes=4, shape=(1, 32, 32))
    split = Split.by_class(data, test, 3, validation=0, copies="ignore")
    model = train(model, split, Retrain(epochs=3, lr=0.1, batch_size=8), Classification(4)).model
    session = Session(model, (data, test), Classification(4), SalUn(epochs=10, lr=0.1, batch_size=8))
    with pytest.warns(
        UserWarning,
        match="1 near copy of forget samples in the retain set, which stays there: id file-21.png",
    ):
        session.forget(ids=["file-3.png"], goal="unlearn")
    text = session.report(tmp_path / "report.html").read_text()
    assert "copies found" in text and "1 near copy in the retain set, which stays there" in text
    assert "file-21" not in text


def test_the_copies_of_requests_that_one_run_answers_are_counted_together():
    data, test = near_world()
    draw = {"validation": 0, "seed": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = [
            Split.by_ids(data, test, [f"file-{k}.png" for k in ids], **draw)
            for ids in ((3,), (4, 3), (23, 24))
        ]
    joined = union_of(splits, data, test, **draw).copies
    # 21 and 22 stay; 21 is a copy for two requests; 23 and 24 are both forgotten
    assert joined.near["retain"].copies.index.tolist() == [21, 22] and not joined.exact
    assert len(splits[0].copies.near["retain"]) == 1 and "retain" not in splits[2].copies.near
    # one request has only the copy of what the other one asks for
    parts = [Split.by_ids(data, test, [f"file-{k}.png"], **draw) for k in (23, 24)]
    assert [len(s.copies.near["retain"]) for s in parts] == [1, 1]
    assert union_of(parts, data, test, **draw).copies.near == {}
    assert "copies_found" not in union_of(parts, data, test, **draw).to_dict()


@pytest.mark.parametrize(
    ("handling", "end"),
    [
        ("include", "now in the forget set"),
        ("report", "which stay there"),
        ("include, report", "of which some may stay"),
    ],
)
def test_the_report_says_what_became_of_exact_copies(handling, end):
    found = {
        "exact": {"retain": {"count": 2, "ids": ["p7"]}, "p8": {"count": 1}},
        "near": {"test": {"count": "p9"}},
    }
    assert (
        copies_text({"copies": handling, "copies_found": found}) == f"2 exact copies in the retain set, {end}"
    )
    assert copies_text({"copies": handling}) == copies_text({"copies_found": ["p7"]}) == ""
