"""Data that changes after a request: classes and samples that go, and contents that come back under other ids."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import Project, Split, TensorData
from expunge.data.past_requests import PastRequest
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects.fingerprints import Fingerprints
from expunge.projects.folder import sha256
from expunge.projects.prepared import prepare
from expunge.projects.returned import ReturnedCopies, find_returned
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.records.record import Record
from expunge.sources import load
from expunge.sources.source import Source

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
        part: datasets.Dataset.from_list([{"text": f"{part} {k}", "label": n, "id": part + i} for i, n, k in rows(kept)])
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

    def changed(gone=(), copies=None, label=0, pixel=0, without_test=()):
        train, copies = source.train, copies or {}
        kept = [k for k in range(len(train)) if f"p{k}" not in gone]
        at = torch.tensor([*kept, *copies.values()])
        ids = [*(f"p{k}" for k in kept), *copies]
        x, y = train.x[at].clone(), train.labels[at].clone()
        x[len(kept) :] += pixel
        y[len(kept) :] = (y[len(kept) :] + label) % 10
        test = source.test
        if without_test:
            rest = ~torch.isin(test.labels, torch.tensor(without_test))
            test = TensorData(test.x[rest], test.labels[rest])
        new = TensorData(x, y, ids=ids, groups={"user": train.groups["user"][at.numpy()]})
        monkeypatch.setattr(office_data, "data", lambda: replace(source, train=new, test=test))
        return new

    return changed


@pytest.fixture
def forgotten(answered):
    """A project that has forgotten p1, p2 and class 3, and what it says."""
    answered.notes = []
    answered.say = answered.notes.append
    return answered


TWINS = {"zz1": 1, "zz2": 2}


@pytest.mark.parametrize("gone", [(), ("p1", "p2")], ids=["copied", "renamed"])
@pytest.mark.parametrize("label", [0, 1], ids=["same label", "other label"])
def test_forgotten_contents_under_another_id_stay_out(forgotten, change, gone, label):
    change(gone, TWINS, label)
    words = r"2 training samples are copies of samples that request 1 removed \(ids zz1, zz2\): they leave the retain set"
    plan = forgotten.plan([wanted(ids=["p9"])])
    assert re.search(words, plan.copies[0]) and re.search(words, forgotten.notes[0])
    found = forgotten.forget(ids=["p9"])
    split = found.outcome.run.split
    assert not set(TWINS) & {*split.retain.ids, *split.validation.ids, *split.forget.ids}
    assert re.search(words, (forgotten.path / "report.html").read_text())
    kept = Record.load(forgotten.path / "models/0003.json").details["returned_copies"]
    assert kept == {"count": 2, "left_out": True, "requests": [1], "ids": ["zz1", "zz2"]}
    # without a request of their own they stay out for ever, and with one they are forgotten
    assert not set(TWINS) & set(forgotten.plan([wanted(ids=["p11"])]) and prepared_split(forgotten).retain.ids)
    assert "zz1" in prepared_split(forgotten, ["zz1"]).forget.ids


def prepared_split(project, ids=("p11",)):
    return prepare(project.folder, print).setting.draw(wanted(ids=ids))


@pytest.mark.parametrize("copies", ["report", "ignore"])
def test_copies_that_a_project_only_reports_stay(forgotten, change, copies):
    """The control: the policy of the project counts for later copies too, and is named."""
    change(("p1", "p2"), TWINS)
    path = forgotten.path / "expunge.toml"
    path.write_text(path.read_text().replace("# copies = ...", f'copies = "{copies}"'))
    assert set(TWINS) <= set(prepared_split(forgotten).retain.ids)
    (text,) = [t for t in forgotten.plan([wanted(ids=["p9"])]).copies if "zz1" in t]
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


def test_a_project_of_an_earlier_version_learns_the_contents_of_what_it_still_has(forgotten, change):
    path = forgotten.path / "samples.npz"
    with np.load(path) as file:
        old = {k: v[:, :3] if k in ("train", "test") else v for k, v in file.items()}
    np.savez(path, **old)
    state = json.loads((forgotten.path / "state.json").read_text())
    state["drawn"]["samples"] = sha256(path)
    (forgotten.path / "state.json").write_text(json.dumps(state))
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
    assert returned_of(first, load(f"folder:{tmp_path}/pictures?size=4"), "train/b/u1.png") == ["train/c/again.bmp"]


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
