"""Data that changes after a request: classes and samples that go, and contents that come back under other ids."""

import copy
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import Project, Split, TensorData
from expunge.audit.confidence_change import ConfidenceChange
from expunge.audit.earlier_requests import audit_earlier
from expunge.audit.evaluation import evaluate
from expunge.cli import main
from expunge.data.past_requests import PastRequest, remember_requests, requests_of
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects import creation
from expunge.projects.fingerprints import Fingerprints
from expunge.projects.folder import sha256
from expunge.projects.left_waiting import left_waiting
from expunge.projects.prepared import prepare
from expunge.projects.returned import ReturnedCopies, find_returned
from expunge.projects.settings import checked
from expunge.projects.status import states_from_file
from expunge.projects.wanted import wanted
from expunge.receipts.ledger import Ledger
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_requests import answered_requests, public_requests
from expunge.records.record import Record
from expunge.records.statistics import request_state
from expunge.sources import load
from expunge.sources.source import Source
from project_office import VALUES, content, edit, reopen

# ---- a class that is no longer in the data keeps its number


def rows(classes, count=30):
    """(id, class, number) of samples in three classes, without those of other ones."""
    return [(f"u{k}", "abc"[k % 3], k) for k in range(count) if "abc"[k % 3] in classes]


def texts(folder, classes, of_test):
    lines = [f"word{k} words {k},{name},{i}" for i, name, k in rows(classes)]
    (folder / "posts.csv").write_text("\n".join(["text,label,id", *lines]))
    lines = [f"other{k} {k},{name},t{k}" for _, name, k in rows(of_test)]
    (folder / "test.csv").write_text("\n".join(["text,label,id", *lines]))
    return f"text:{folder}/posts.csv?length=4&test={folder}/test.csv", "text_transformer"


def one_table(folder, classes, of_test):
    spec, model = texts(folder, classes, of_test)
    return spec.partition("&")[0], model


def picture(path, k):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(k).randint(0, 255, (4, 4, 3), np.uint8)).save(path)


def pictures(folder, classes, of_test):
    for part, kept in (("train", classes), ("test", of_test)):
        for i, name, k in rows("abc"):
            path = folder / "pictures" / part / name / f"{i}.png"
            if name in kept:
                picture(path, 2 * k + (part == "test"))
            elif path.exists():
                path.unlink()
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()
    return f"folder:{folder}/pictures?size=4", "mlp"


def picture_table(folder, classes, of_test):
    for part, kept in (("train", classes), ("test", of_test)):
        lines = ["image,label"]
        for i, name, k in rows(kept):
            picture(folder / part / f"{i}.png", 2 * k + (part == "test"))
            lines.append(f"{part}/{i}.png,{name}")
        (folder / f"{part}.csv").write_text("\n".join(lines))
    return f"images:{folder}/train.csv?size=4&test={folder}/test.csv", "mlp"


def arrays(folder, classes, of_test, number=str):
    y = [np.array([number(name) for _, name, _ in rows(kept)]) for kept in (classes, of_test)]
    x = [
        np.array([[k, k * k, part] for _, _, k in rows(kept)], np.float32)
        for part, kept in enumerate((classes, of_test))
    ]
    ids = np.array([i for i, _, _ in rows(classes)])
    np.savez(folder / "own.npz", x_train=x[0], x_test=x[1], y_train=y[0], y_test=y[1], ids=ids)
    return f"npz:{folder}/own.npz", "mlp"


def numbers(folder, classes, of_test):
    return arrays(folder, classes, of_test, "abc".index)


def hugging_face(folder, classes, of_test):
    datasets = pytest.importorskip("datasets")
    parts = {
        part: datasets.Dataset.from_list(
            [{"text": f"{part} {k}", "label": n, "id": part + i} for i, n, k in rows(kept)]
        )
        for part, kept in (("train", classes), ("test", of_test))
    }
    datasets.DatasetDict(parts).save_to_disk(folder / "hub" / classes)
    return f"hf:{folder}/hub/{classes}?length=4", "text_transformer"


SOURCES = [texts, one_table, pictures, picture_table, arrays, numbers, hugging_face]


def project_of(folder, write):
    """A project with an untrained model whose request for class b waits."""
    data, model = write(folder, "abc", "abc")
    source = load(data)
    torch.manual_seed(0)
    network = build(model, num_classes=3, shape=source.shape)
    torch.save(network.state_dict(), folder / "mine.pt")
    entries = {"data": data, "model": model, "validation": 0.0}
    project = Project.create(folder / "project", checked(entries), folder / "mine.pt")
    project.register([wanted(classes="b")])
    return project


def without(write, folder, gone, with_test):
    """Let the data lose a class, with or without its test samples. Returns the data and its model."""
    kept = "abc".replace(gone, "")
    return write(folder, kept, kept if with_test else "abc")


@pytest.mark.parametrize("gone", ["b", "c"])
@pytest.mark.parametrize("write", SOURCES)
def test_a_class_without_samples_keeps_its_number(tmp_path, write, gone):
    before = load(write(tmp_path, "abc", "abc")[0])
    labels = dict(zip(before.train.ids, before.train.labels.tolist(), strict=True))
    for with_test in (False, True):
        after = load(without(write, tmp_path, gone, with_test)[0], before.classes)
        assert after.classes == before.classes and after.train.num_classes == 3
        assert gone not in {"abc"[k] for k in after.train.labels.tolist()}
        assert [labels[i] for i in after.train.ids] == after.train.labels.tolist()
        assert (len(after.test.labels.unique()) == 3) != (with_test or write is one_table)
        # the batches have these labels too
        batch = next(iter(after.train.samples().batches(100)))
        assert batch.y.tolist() == after.train.labels.tolist()
        assert Split.by_ids(after.train, after.test, [str(after.train.ids[0])]).num_classes == 3


@pytest.mark.parametrize(("write", "gone"), [(one_table, "b"), (pictures, "c")])
def test_a_project_goes_on_without_a_class(tmp_path, write, gone):
    project = project_of(tmp_path, write)
    without(write, tmp_path, gone, with_test=True)
    setting = prepare(project.folder, print).setting
    assert setting.names["classes"] == ["a", "b", "c"] and setting.task.num_classes == 3
    project.register([wanted(ids=[str(setting.train.ids[0])])])


@pytest.mark.parametrize("write", [texts, pictures, arrays])
def test_a_renamed_class_is_refused(tmp_path, write):
    """The control: another name is a new class, whose number the model does not know."""
    project = project_of(tmp_path, write)
    if write is texts:
        path = tmp_path / "posts.csv"
        path.write_text(path.read_text().replace(",b,", ",x,"))
        (tmp_path / "test.csv").write_text((tmp_path / "test.csv").read_text().replace(",b,", ",x,"))
    elif write is pictures:
        for part in ("train", "test"):
            (tmp_path / "pictures" / part / "b").rename(tmp_path / "pictures" / part / "x")
    else:
        arrays(tmp_path, "abc", "abc", number=lambda n: n.replace("b", "x"))
    with pytest.raises(ExpungeError, match=r"a class may lose all of its samples, but none may be new"):
        prepare(project.folder, print)


# ---- forgotten contents come back under another id


@pytest.fixture
def change(office, monkeypatch):
    """A function that lets the data of the office have other samples: without `gone`, and with copies {new id: position}."""
    import office_data

    source = office_data.data()

    def changed(gone=(), copies=None, label=0, pixel=0):
        train, copies = source.train, copies or {}
        kept = [k for k in range(len(train)) if f"p{k}" not in gone]
        at = torch.tensor([*kept, *copies.values()])
        ids = [*(f"p{k}" for k in kept), *copies]
        x, y = train.x[at].clone(), train.labels[at].clone()
        x[len(kept) :] += pixel
        y[len(kept) :] = (y[len(kept) :] + label) % 10
        new = TensorData(x, y, ids=ids, groups={"user": train.groups["user"][at.numpy()]})
        monkeypatch.setattr(office_data, "data", lambda: replace(source, train=new))
        return new

    return changed


@pytest.fixture
def forgotten(answered):
    """A project that has forgotten p1, p2 and class 3, and what it says."""
    answered.notes = []
    answered.say = answered.notes.append
    return answered


TWINS = {"zz1": 1, "zz2": 2}


WORDS = r"2 training samples are copies of samples that request 1 removed \(ids zz1, zz2\): they leave the retain set"


@pytest.mark.parametrize("gone", [(), ("p1", "p2")], ids=["copied", "renamed"])
@pytest.mark.parametrize("label", [0, 4], ids=["same label", "other label"])
def test_forgotten_contents_under_another_id_stay_out(forgotten, change, gone, label):
    change(gone, TWINS, label)
    split = prepared_split(forgotten)
    assert not set(TWINS) & {*split.retain.ids, *split.validation.ids, *split.forget.ids}
    # with a request of their own they are forgotten
    assert "zz1" in prepared_split(forgotten, ["zz1"]).forget.ids


def test_plan_record_and_report_name_returned_copies(forgotten, change):
    change(("p1",), TWINS, 4)
    assert re.search(WORDS, forgotten.plan([wanted(ids=["p9"])]).copies[0])
    found = forgotten.forget(ids=["p9"])
    assert not set(TWINS) & {*found.outcome.run.split.retain.ids}
    assert any(re.match(WORDS, text) for text in forgotten.notes)
    # record and report are kept: they name the number, and no ids
    without = WORDS.replace(r" \(ids zz1, zz2\)", "")
    assert without != WORDS and re.search(without, (forgotten.path / "report.html").read_text())
    kept = Record.load(forgotten.path / "models/0003.json")
    assert kept.details["returned_copies"] == {"count": 2, "left_out": True, "requests": [1]}
    assert "zz1" not in (forgotten.path / "models/0003.json").read_text()


def prepared_split(project, ids=("p11",)):
    prepared = prepare(project.folder, print)
    return prepared.setting.draw(wanted(ids=ids)).after(requests_of(prepared.model))


@pytest.fixture
def waits(project):
    """A project in which a request for p1 waits."""
    project.notes = []
    project.say = project.notes.append
    project.register([wanted(ids=["p1"], subject="case 1")])
    return project


def run_split(project, ids=("p9",)):
    """The split of a run for some ids, while other requests wait, and what the project says."""
    prepared, notes = prepare(project.folder, project.say), []
    states_from_file(project.folder, prepared.state, prepared.requests)
    setting = replace(prepared.setting, waiting=left_waiting(prepared, [], notes.append))
    return setting.for_run([setting.draw(wanted(ids=ids))], requests_of(prepared.model)), notes


WAITS = (
    "1 training sample is a copy of samples of request 1, which waits (id zz1): it leaves the retain set and the validation set "
    "until its run."
)


def test_contents_of_a_waiting_request_under_another_id_stay_out(waits, change):
    """A copy came into the data later: a run for another request must not train on it."""
    change((), {"zz1": 1})
    assert WAITS in waits.plan([wanted(ids=["p9"])]).copies
    found = waits.forget(ids=["p9"])
    split = found.outcome.run.split
    assert not {"p1", "zz1"} & {*split.retain.ids, *split.validation.ids} and split.forget.ids == ["p9"]
    assert split.waiting == {1: 2} and WAITS in waits.notes
    recorded = WAITS.replace(" (id zz1)", "")
    assert recorded in found.record.details["limits"] and recorded in (waits.path / "report.html").read_text()
    assert "zz1" not in (waits.path / "report.html").read_text()


def test_which_copies_of_waiting_samples_leave(waits, change):
    change(("p1",), {"zz1": 1}, label=4)
    split, notes = run_split(waits)
    assert "zz1" not in split.retain.ids and split.waiting == {1: 1} and notes == [WAITS]
    # the control: one pixel differs
    change((), {"zz1": 1}, pixel=1)
    split, notes = run_split(waits)
    assert "zz1" in split.retain.ids and notes == []
    # the control: the project only reports copies
    change((), {"zz1": 1})
    path = waits.path / "expunge.toml"
    path.write_text(path.read_text().replace("# copies = ...", 'copies = "report"'))
    split, (note,) = run_split(waits)
    assert "zz1" in split.retain.ids and "p1" not in split.retain.ids
    assert "it stays in its set, as copies is 'report' in expunge.toml, and the model learns from it;" in note
    Ledger(waits.path / "ledger.db").attach(1, status="withdrawn")
    split, notes = run_split(waits)
    assert {"p1", "zz1"} <= set(split.retain.ids) and notes == []


@pytest.mark.parametrize("copies", ["report", "ignore"])
def test_copies_that_a_project_only_reports_stay(forgotten, change, copies):
    """The control: the policy of the project counts for later copies too, and is named."""
    change(("p1", "p2"), TWINS)
    path = forgotten.path / "expunge.toml"
    path.write_text(path.read_text().replace("# copies = ...", f'copies = "{copies}"'))
    assert set(TWINS) <= set(prepared_split(forgotten).retain.ids)
    (text,) = prepare(forgotten.folder, print).setting.returned.sentences
    assert f"they stay in their sets, as copies is '{copies}' in expunge.toml, and the model learns" in text


def test_other_contents_under_a_new_id_are_retained(forgotten, change):
    """The control: one pixel differs."""
    change(("p1", "p2"), TWINS, pixel=1)
    assert set(TWINS) <= set(prepared_split(forgotten).retain.ids)
    assert not [t for t in forgotten.notes if "copies of samples" in t]


def test_a_copy_of_a_forgotten_class_stays_out_under_another_label(forgotten, change):
    three = int((change().labels == 3).nonzero()[0])
    change((f"p{three}",), {"zz3": three}, label=1)
    assert "zz3" not in prepared_split(forgotten).retain.ids
    # the control: with the label of the class, the class keeps it out
    change((f"p{three}",), {"zz3": three})
    prepared = prepare(forgotten.folder, forgotten.say)
    assert len(prepared.setting.returned.copies) == 0


def test_a_new_sample_of_a_removed_class_stays_out_and_is_said(forgotten, change):
    """Its contents are new. With another label, nothing shows that it belongs to the class, and it is retained."""
    three = int((change().labels == 3).nonzero()[0])
    change((), {"zz3": three}, pixel=1)
    words = "1 new training sample has the label 3, a class that a request removed: it leaves the retain set and the validation set."
    assert "zz3" not in run_split(forgotten)[0].retain.ids and forgotten.notes[-1] == words
    returned = prepare(forgotten.folder, forgotten.say).setting.returned
    assert returned.sentences == [words] and returned.to_dict()["new_of_classes"] == {"3": 1}
    change((), {"zz3": three}, pixel=1, label=1)
    assert "zz3" in run_split(forgotten)[0].retain.ids


def test_a_project_of_an_earlier_version_learns_the_contents_of_what_it_still_has(forgotten, change):
    path = forgotten.path / "samples.npz"
    with np.load(path) as file:
        old = {k: v[:, :3] if k in ("train", "test") else v for k, v in file.items()}
    np.savez(path, **old)
    edit(forgotten, lambda state: state["drawn"].update(samples=sha256(path)), sealed=True)
    change(("p1",))
    forgotten.register([wanted(ids=["p9"])])
    change(("p1", "p2"), TWINS)
    assert {"zz1"} == set(TWINS) & set(prepared_split(forgotten).retain.ids)


def returned_of(first, then, *ids):
    """Ids of the samples in `then` whose contents a request for `ids` of `first` removed."""
    known = Fingerprints.of(first)
    current = Fingerprints.of(then, known)
    past = PastRequest("r", "ids", "untrain", ids)
    return find_returned(known, current, then.train, [past], {"r": 1}, None).copies.ids


def of_texts(*texts):
    """{id: text} as data whose tokens are the first two words."""
    ids = [name for name, _ in texts]
    tokens = torch.tensor([[hash(w) % 8191 + 1 for w in t.split()[:2]] for _, t in texts])
    x = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    data = TensorData(x, torch.zeros(len(ids), dtype=torch.int64), ids=ids, texts=[t for _, t in texts])
    return Source(data, data, ["a"], (2,), "texts")


def test_a_forgotten_text_is_known_by_its_words_and_by_its_tokens():
    first = of_texts(("a", "Hello World again"), ("b", "other words here"))
    same = of_texts(("c", "hello  WORLD Again"), ("d", "other words here"), ("e", "third text now"))
    assert returned_of(first, same, "a") == ["c"] and returned_of(first, same, "b") == ["d"]
    # f shares its words with a, and g its tokens with f
    chain = of_texts(("f", "hello world again"), ("g", "hello world twice"), ("h", "World hello"))
    assert returned_of(first, chain, "a") == ["f", "g"]
    empty = [of_texts((name, " x x")) for name in "ab"]
    for source in empty:
        source.train.texts[:] = " "
    assert returned_of(*empty, "a") == [], "an empty text is no copy"


def test_a_forgotten_picture_is_known_by_its_pixels(tmp_path):
    first = load(pictures(tmp_path, "abc", "abc")[0])
    source = tmp_path / "pictures/train/b/u1.png"
    with Image.open(source) as image:
        image.save(tmp_path / "pictures/train/c/again.bmp")
    source.unlink()
    assert returned_of(first, load(f"folder:{tmp_path}/pictures?size=4"), "train/b/u1.png") == [
        "train/c/again.bmp"
    ]


def test_copies_leave_the_validation_set_too(classifier):
    data, test = classifier.by_class.forget.data, classifier.by_class.test.data
    split = Split.by_ids(data, test, ["1"], validation=0.1)
    some = torch.tensor([int(split.validation.index[0]), int(split.retain.index[0]), 1])
    left = ReturnedCopies(Samples(data, some), (1,), "include").leave(split)
    assert left.forget.ids == ["1"] and left.removed.tolist() == [int(some[1])]
    assert len(left.validation) == len(split.validation) - 1 and len(left.retain) == len(split.retain) - 1
    assert left.train_hash == split.train_hash and left.hash != split.hash
    every = ReturnedCopies(Samples(data, torch.arange(len(data))), (1,), "include")
    with pytest.raises(ExpungeError, match="all samples of the retain set are copies"):
        every.leave(split)


# ---- samples of answered requests that are gone


def test_a_request_whose_samples_are_gone_is_not_audited_any_more(forgotten, change, capsys):
    """The samples are deleted, as the law asks. The request stays done, with its last audit."""
    forgotten.forget(ids=["p20", "p21"])
    last = forgotten.status().requests[0].now
    change(("p1", "p2", "p20"))
    found = forgotten.forget(ids=["p9"])
    one, _, three = found.earlier
    assert (one["samples"], one["UA"], one["MIA"], one["came_back"]) == (0, None, None, False)
    assert (three["samples"], three["scored"]) == (1, "training")
    text = "not audited any more, as the data no longer has its 2 samples"
    assert f"request 1: {text}." in forgotten.notes
    requests = forgotten.status().requests
    assert [r.gone for r in requests] == [
        text, "", "the data no longer has 1 of its 2 samples, and audits score the others", "",
    ]  # fmt: skip
    assert (requests[0].state, requests[0].now, requests[0].audited) == ("done", last, 3)
    assert [r.audited for r in requests] == [3, 4, 4, 4]
    # it is said once, stays in the ledger and in the report, and is no failure
    forgotten.notes.clear()
    forgotten.plan([wanted(ids=["p11"])])
    assert not [t for t in forgotten.notes if "audited" in t]
    entry = Ledger(forgotten.path / "ledger.db").request(1)
    assert entry.status == "done" and str(entry.drift) == "not audited: its samples are gone"
    page = (forgotten.path / "report.html").read_text()
    assert "request 1 is not audited any more" in page and "not audited: its samples are gone" in page
    assert main(["status", "--project", str(forgotten.path)]) == 0
    assert f"request 1: {text}; its last audit followed run 3" in capsys.readouterr().out
    # the control: restored samples are audited again
    change()
    assert forgotten.forget(ids=["p11"]).earlier[0]["samples"] == 2
    assert [r.gone for r in forgotten.status().requests] == [""] * 5


def test_a_forgotten_class_without_training_samples_is_scored_by_its_test_samples(forgotten, change):
    data = change()
    three = [f"p{k}" for k in (data.labels == 3).nonzero()[:, 0].tolist()]
    change(three)
    found = forgotten.forget(ids=["p9"])
    entry = found.earlier[1]
    count = len(prepare(forgotten.folder, print).setting.test.labels.eq(3).nonzero())
    assert (entry["samples"], entry["scored"], entry["MIA"], entry["came_back"]) == (
        count,
        "test",
        None,
        False,
    )
    evaluated = found.outcome.evaluation
    assert entry["UA"] == pytest.approx(100 - evaluated.earlier_test.accuracy)
    shown = forgotten.status().requests[1]
    assert shown.now == {"UA": entry["UA"]} and f"audits score the {count} test samples" in shown.gone
    assert any("request 2 is audited on test samples only" in t for t in found.record.details["limits"])


def test_a_class_that_comes_back_is_found_by_its_test_samples(classifier):
    """The model that never forgot the class stands for one that learned it again."""
    data, test = classifier.by_class.forget.data, classifier.by_class.test.data
    rest = TensorData(
        data.x[data.labels != 3],
        data.labels[data.labels != 3],
        ids=[f"n{k}" for k in range(int((data.labels != 3).sum()))],
    )
    past = PastRequest("r", "class", "unlearn", ("gone",), classes=(3,), scores={"UA": 100.0, "MIA": 100.0})
    model = remember_requests(copy.deepcopy(classifier.model), [past])
    split = Split.by_ids(rest, test, ["n1"], validation=0)
    (entry,) = audit_earlier(evaluate(model, split, classifier.task))
    assert (
        entry.came_back
        and entry.scored == "test"
        and "test samples of the classes of request 1" in entry.reason
    )


# ---- requests that are repeated when their samples are gone


@pytest.mark.parametrize("what", [{"ids": ["p1", "p2"]}, {"group": "user=Doe, u0"}, {"classes": 3}])
def test_a_request_that_came_back_and_is_gone_is_no_success(project, change, what, capsys):
    first = project.forget(**what)
    reopen(project)
    data = change(first.splits[0].forget.ids)
    words = ["forget", "--project", str(project.path), "--pending"]
    before = content(project.path)
    assert main(words) == 1
    shown = capsys.readouterr()
    count = len(first.splits[0].forget)
    assert (
        f"the data no longer has {count} of its {count} samples, so no run can answer it again" in shown.err
    )
    assert (
        f"expunge ledger attach {project.path / 'ledger.db'} 1 --status refused" in shown.err
        and "nothing to answer" not in shown.out
    )
    assert content(project.path) == before
    if "ids" in what:
        # another request is answered, and the exit code still says that one is open
        project.register([wanted(ids=[str(data.ids[0])])])
        assert main(words) == 1
        assert [r.state for r in project.status().requests] == ["came back", "done"]


def test_a_group_is_repeated_for_its_own_samples(project, change):
    """Rows that were added for the same person need a request of their own. The control: all are there."""
    ids = project.forget(group="user=Doe, u0").splits[0].forget.ids
    reopen(project)
    change((), {"later": 3}, pixel=1)
    found = project.answer(pending=True)
    assert found.splits[0].forget.ids == ids
    assert Ledger(project.path / "ledger.db").request(1).proved


def test_a_class_is_repeated_with_its_new_samples(project, change):
    three = project.forget(classes=3).splits[0].forget
    reopen(project)
    change((), {"later": int(three.index[0])}, pixel=1)
    found = project.answer(pending=True)
    assert found.splits[0].forget.ids == [*three.ids, "later"]
    assert Ledger(project.path / "ledger.db").request(1).proved


@pytest.mark.parametrize(
    ("what", "gone", "words"),
    [
        (
            {"ids": ["p1", "p5"]}, ["p1", "p2"],
            r"is unknown.*\n.*request 1 removed 'p1' in run 1, and the data no longer has.*ask for the other samples only",
        ),
        (
            {"ids": ["p1", "p2"]}, ["p1", "p2"],
            r"removed 2 of these samples .*Its receipt \(/.*/models/0001.receipt.json\).*answer this request; no run is needed",
        ),
        (
            {"classes": 3}, None,
            r"class 3 has no training samples.*\n.*request 2 removed the class 3 in run 2.*models/0002.*answer this request",
        ),
    ],
)  # fmt: skip
def test_a_new_request_for_what_is_gone_names_the_earlier_one(forgotten, change, what, gone, words):
    three = [f"p{k}" for k in (change().labels == 3).nonzero()[:, 0].tolist()]
    change(gone or three)
    for call in (lambda: forgotten.forget(**what), lambda: forgotten.plan([wanted(**what)])):
        with pytest.raises(ExpungeError, match=words):
            call()
    # the control: an id that nobody knew
    with pytest.raises(ExpungeError) as error:
        forgotten.forget(ids=["p999"])
    assert "removed" not in str(error.value)


def test_a_repeated_request_speaks_of_its_own_samples(forgotten, change, capsys):
    """The class has fewer samples when it is requested again."""
    three = [f"p{k}" for k in (change().labels == 3).nonzero()[:, 0].tolist()]
    change(three[:4])
    answer = forgotten.forget(classes=3)
    again = forgotten.status().requests
    assert not answer.outcomes and (again[1].samples, again[-1].samples) == (len(three), len(three) - 4)
    assert again[-1].gone == ""
    change(three[:5])
    forgotten.forget(ids=["p9"])
    one, two = (forgotten.status().requests[k].gone for k in (1, 2))
    assert f"5 of its {len(three)} samples" in one and f"1 of its {len(three) - 4} samples" in two


# ---- a new project with the model of an old one


def next_project(old, path, notes, checkpoint=None, **values):
    latest = checkpoint or old.path / old.status().model
    made = Project.create(path, checked({**VALUES, **values}), latest, say=notes.append)
    made.say = notes.append
    return made


def test_a_new_project_begins_with_the_latest_model_after_samples_are_gone(forgotten, change, tmp_path):
    three = [f"p{k}" for k in (change().labels == 3).nonzero()[:, 0].tolist()]
    data = change([*three, "p1"], {"zz1": 1, "zz3": int(three[0][1:])}, label=1)
    notes = []
    project = next_project(forgotten, tmp_path / "next", notes)
    assert (
        "the model has answered 2 earlier requests, whose samples stay out of training: 1 (ids, 2 samples): 1 in the data;"
        in notes[0]
    )
    assert f"2 (class, {len(three)} samples): none in the data, so there is nothing to leave out" in notes[0]
    found = project.forget(ids=["p9"])
    split = found.outcome.run.split
    # renamed contents of the old requests are still known
    assert not {"p2", "zz1", "zz3"} & set(split.retain.ids) and len(split.retain) == len(data) - 4
    assert "copies of samples that earlier requests removed" in notes[1]
    assert [e["samples"] > 0 for e in found.earlier] == [True, True]
    assert project.status().exit_code == 0


def test_a_new_project_keeps_the_validation_set_and_the_classes(project, change, tmp_path):
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("validation = 0.0", "validation = 0.1"))
    held = set(project.forget(classes=9).splits[0].unseen.ids)
    nine = [f"p{k}" for k in (change().labels == 9).nonzero()[:, 0].tolist()]
    data = change(nine)
    with pytest.raises(
        ExpungeError, match=r"validation is 0.0, and the model was made with 0.1; give --validation 0.1"
    ):
        next_project(project, tmp_path / "next", [])
    made = next_project(project, tmp_path / "next", [], validation=0.1)
    split = prepared_split(made, [str(data.ids[0])])
    assert set(split.unseen.ids) == held - set(nine) and split.num_classes == 10


@pytest.mark.parametrize("version", ["this", "earlier"])
def test_a_new_project_knows_which_requests_were_not_shown_to_be_forgotten(
    project, tmp_path, version, monkeypatch
):
    """The old project says "not shown" of request 1; request 2 is the control."""
    warned = []
    monkeypatch.setattr(
        ConfidenceChange, "warning", property(lambda change: "not shown" if not warned else "")
    )
    project.forget(ids=["p1", "p2"])
    warned.append(1)
    project.forget(ids=["p9", "p10"])
    assert [r.not_shown for r in project.status().requests] == [True, False]
    if version == "earlier":
        monkeypatch.setattr(
            creation,
            "answered_requests",
            lambda *a: [replace(p, not_shown=None) for p in answered_requests(*a)],
        )
    made = next_project(project, tmp_path / "next", [])
    entries = made.forget(ids=["p20", "p21"]).record.details["earlier_requests"]
    assert [request_state(e) for e in entries] == ["not shown", "not back"]
    (public,) = {tuple(e) for e in public_requests(read_checkpoint(made.path / made.status().model))}
    assert "not_shown" not in public


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"group": "user=Doe, u0"}, "removed user=Doe, u0, and the data no longer has"),
        ({"ids": ["p1"]}, r"is unknown.*\n.*removed 'p1', and .* answer this request; no run is needed"),
        ({"ids": ["p1", "p999"]}, "removed 'p1', .* answer for that part; ask for the other samples only"),
    ],
)
def test_a_new_project_names_the_request_of_the_old_one_for_what_is_gone(
    project, change, tmp_path, what, words
):
    removed = project.forget(group="user=Doe, u0")
    receipt = removed.requests[0].receipt or requests_of(project.model)[0].receipt
    change(removed.splits[0].forget.ids)
    made = next_project(project, tmp_path / "next", [])
    for call in (lambda: made.forget(**what), lambda: made.plan([wanted(**what)])):
        with pytest.raises(ExpungeError, match=words) as error:
            call()
        assert receipt and f"Its receipt has the id {receipt}" in str(error.value)
    # the control: an id that nobody knew
    with pytest.raises(ExpungeError) as error:
        made.forget(ids=["p999"])
    assert "removed" not in str(error.value)


def test_a_model_outside_of_its_project(forgotten, change, tmp_path):
    for name in ("0002.safetensors", "0002.requests.json"):
        shutil.copy(forgotten.path / "models" / name, tmp_path / name)
    checkpoint, notes = tmp_path / "0002.safetensors", []
    next_project(forgotten, tmp_path / "same", notes, checkpoint)
    assert len(notes) == 1 and "1 (ids, 2 samples): 2 in the data" in notes[0], "the control: unchanged data"
    change(("p1", "p2"))
    with pytest.raises(
        ExpungeError,
        match="its validation set cannot be drawn again; give --validation-from test, or give the checkpoint in",
    ):
        next_project(forgotten, tmp_path / "next", notes, checkpoint, validation=0.1)
    made = next_project(forgotten, tmp_path / "next", notes, checkpoint)
    assert "copies of earlier requests' samples under other ids cannot be recognised" in notes[-1]
    made.register([wanted(ids=["p9"])])


def test_data_with_other_ids_is_refused(forgotten, change, tmp_path, monkeypatch):
    import office_data

    data, source = change(), office_data.data()
    other = TensorData(data.x, data.labels, ids=[f"x{k}" for k in range(400)])
    monkeypatch.setattr(office_data, "data", lambda: replace(source, train=other))
    with pytest.raises(
        ExpungeError,
        match=r"none of the 400 training samples has an id that the project knows \(ids such as 'x0' now, 'p0'",
    ):
        next_project(forgotten, tmp_path / "next", [])
    assert not (tmp_path / "next").exists()


def test_damaged_files_of_the_old_project_are_named(forgotten, tmp_path):
    (forgotten.path / "samples.npz").write_bytes(b"x")
    with pytest.raises(
        ExpungeError, match=r"samples.npz of the project that made .* is missing or was changed"
    ):
        next_project(forgotten, tmp_path / "next", [], forgotten.path / "models/0002.safetensors")


# ---- the model of an old project


def test_a_request_file_of_the_old_project_that_was_changed_is_refused(answered, tmp_path):
    path = answered.path / "models/0002.requests.json"
    values = json.loads(path.read_text())
    values["requests"][0]["ids"][-1] = "p99"
    path.write_text(json.dumps(values))
    with pytest.raises(ExpungeError, match=r"0002\.requests\.json of the project that made .* was changed"):
        Project.create(tmp_path / "new", answered.settings, answered.path / "models/0002.safetensors")
    assert not (tmp_path / "new").exists()


def test_an_older_model_of_a_project_is_refused(answered, tmp_path):
    with pytest.raises(
        ExpungeError, match=r"later ones answered request 2; give the latest, .*0002\.safetensors"
    ):
        Project.create(tmp_path / "new", answered.settings, answered.path / "models/0001.safetensors")


def test_requests_of_the_old_project_that_wait_are_named(answered, tmp_path):
    notes = []
    answered.register([wanted(ids=["p60"])])
    Project.create(
        tmp_path / "a", answered.settings, answered.path / "models/0002.safetensors", say=notes.append
    )
    assert any("has requests that wait (3)" in text for text in notes)
