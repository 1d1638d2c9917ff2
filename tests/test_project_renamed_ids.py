"""Renamed ids: the samples of requests and the validation set would be new samples, and return to training."""

import json
from dataclasses import replace

import pytest
import torch

from expunge import Project, TensorData
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects.division import divided_as
from expunge.projects.fingerprints import Fingerprints
from expunge.projects.prepared import prepare
from expunge.projects.recognised import check_validation
from expunge.projects.sample_changes import sample_problems
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.sources import load
from project_office import content, refused_by_all


@pytest.fixture
def rename(office, monkeypatch):
    """Let the data have other ids: `new` gets each id and returns the one to use. None removes the sample."""
    import office_data

    source = office_data.data()

    def change(new, shift=0.0):
        names = [new(str(name)) for name in source.train.ids]
        at = [k for k, name in enumerate(names) if name is not None]
        users = source.train.groups["user"][at]
        train = TensorData(
            source.train.x[at] + shift if shift else source.train.x[at],
            source.train.labels[at],
            ids=[names[k] for k in at],
            groups={"user": users},
        )
        monkeypatch.setattr(office_data, "data", lambda: replace(source, train=train))
        return train

    return change


def number(name):
    return int(name[1:])


@pytest.mark.parametrize("shift", [0.0, 0.001], ids=["same contents", "other encoding"])
def test_new_ids_for_all_samples_are_refused(answered, rename, shift):
    """With another encoding, all that was forgotten was in the retain set of the next run, which ended with 0."""
    rename(lambda name: f"img/{name}.png", shift)
    refused_by_all(
        answered,
        r"expunge\.toml: data: none of the 400 training samples has an id that the project knows "
        r"\(ids such as 'img/p0\.png' now, '.*' in its requests\).*give the data with its old ids",
    )


def test_a_project_with_one_request_for_a_class_refuses_them_too(project, rename):
    project.forget(classes=3)
    rename(lambda name: f"x{name}", 0.001)
    with pytest.raises(
        ExpungeError, match="none of the 400 training samples has an id that the project knows"
    ):
        project.forget(ids=["xp1"])


def test_some_new_ids_are_named_with_their_numbers(answered, rename):
    said = []
    project = Project(answered.path, say=said.append)
    rename(lambda name: f"x{name}" if number(name) >= 390 or name == "p1" else name)
    project.plan([wanted(ids=["p9"])])
    (note,) = [text for text in said if "have new ids" in text]
    # one of the last ten samples is of class 3, which a request named
    assert note.startswith(
        "the data lacks 9 of the 400 training samples that the project knows and that no request named, and 11"
    )
    answered_samples = 2 + sum(r.samples for r in answered.status().requests if r.kind == "class")
    # p1 has a new id, and its old contents
    assert (
        f"Of the {answered_samples:,} samples of requests, the data has {answered_samples:,}, by id or contents"
        in note
    )


@pytest.mark.parametrize(
    "new",
    [
        lambda name: None if name in ("p1", "p2") else name,
        lambda name: None if number(name) > 380 else name,
        lambda name: name,
    ],
    ids=["forgotten samples deleted", "others deleted", "as it was"],
)
def test_deleted_samples_without_new_ones_are_no_reason_for_a_note(answered, rename, new):
    said = []
    rename(new)
    Project(answered.path, say=said.append).plan([wanted(ids=["p9"])])
    assert not [text for text in said if "new ids" in text]


@pytest.fixture
def with_validation(project):
    path = project.path / "expunge.toml"
    path.write_text(path.read_text().replace("validation = 0.0", "validation = 0.1"))
    project.forget(ids=["p1", "p2"])
    return project, set(json.loads((project.path / "held_out.json").read_text()))


def test_a_validation_set_that_is_gone_is_refused_and_a_part_is_counted(with_validation, rename):
    """A note said that it stays the same, and it was empty."""
    project, held = with_validation
    said = []
    project.say = said.append
    kept = sorted(held)[:3]
    rename(lambda name: None if name in held and name not in kept else name)
    project.plan([wanted(ids=["p9"])])
    assert f"the validation set stays the same by its ids, and has 3 of its {len(held)} samples." in said[0]
    rename(lambda name: f"x{name}" if name in held else name)
    before = content(project.path)
    with pytest.raises(
        ExpungeError, match=f"the training data has none of the {len(held)} samples of the validation set"
    ):
        project.forget(ids=["p9"])
    assert content(project.path) == before
    with pytest.raises(ExpungeError, match=r"has none of the .* samples of the validation set"):
        Project.create(
            project.path.parent / "new", project.settings, project.path / "models/0001.safetensors"
        )


def test_a_validation_set_that_requests_named_may_be_deleted(rename):
    data = rename(lambda name: name if number(name) > 5 else None)
    assert check_validation(["p1", "p2"], {"p1", "p2", "p9"}, data, "training") == 0
    assert check_validation(["p1", "p2", "p6"], {"p1"}, data, "training") == 1
    with pytest.raises(ExpungeError, match=r"none of the 2 samples of the validation set \(such as 'p2'\)"):
        check_validation(["p1", "p2"], {"p1"}, data, "training")


# ---- test ids with and without `test/`


def posts(folder, train, test):
    """A text source. Each text is `words of ID`, and the label is whether the number in the id is odd."""
    for name, ids in (("train", train), ("test", test)):
        rows = [f"words of {i},{number(i) % 2},{i}" for i in ids]
        (folder / f"{name}.csv").write_text("\n".join(["text,label,id", *rows]))
    return f"text:{folder / 'train.csv'}?test={folder / 'test.csv'}"


def test_test_ids_keep_their_form_when_a_training_row_goes_or_comes(tmp_path):
    """u9 is a training and a test id with other contents, so the source gives all test ids another form."""
    train, test = [f"u{k}" for k in range(10)], ["u9", "v1", "v2"]
    with_prefix = ["test/u9", "test/v1", "test/v2"]
    spec = posts(tmp_path, train, test)
    # the text of the training row u9 is another one
    (tmp_path / "train.csv").write_text((tmp_path / "train.csv").read_text().replace("words of u9", "other"))
    both = load(spec)
    posts(tmp_path, train[:9], test)
    apart = load(spec)
    assert (both.test.ids.tolist(), apart.test.ids.tolist()) == (with_prefix, test)
    gone, current = divided_as(Fingerprints.of(both), apart)
    assert gone.test.ids.tolist() == with_prefix and apart.test.ids.tolist() == test
    assert sample_problems(Fingerprints.of(both, current), current, gone, {}) == []
    # u9 cannot have the id that the test sample had: it names a training sample now
    come, current = divided_as(Fingerprints.of(apart), both)
    assert come.test.ids.tolist() == ["test/u9", "v1", "v2"]
    # the control: other test samples, which have new ids
    posts(tmp_path, train[:9], ["v3", "v4"])
    assert divided_as(Fingerprints.of(both), load(spec))[0].test.ids.tolist() == ["v3", "v4"]
    # the control: the ids of known samples with other contents are other samples
    text = (tmp_path / "test.csv").read_text().replace("v3", "v1").replace("v4", "v2")
    (tmp_path / "test.csv").write_text(text.replace("words", "new words"))
    assert divided_as(Fingerprints.of(both), load(spec))[0].test.ids.tolist() == ["v1", "v2"]


def test_a_text_project_goes_on_after_its_forgotten_row_is_deleted(tmp_path):
    """Its validation set is drawn from the test set, of which it knew no id any more."""
    train, test = [f"u{k}" for k in range(20)], ["u19", *(f"v{k}" for k in range(19))]
    spec = posts(tmp_path, train, test)
    file = tmp_path / "train.csv"
    file.write_text(file.read_text().replace("words of u19", "other"))
    source = load(spec)
    torch.save(build("text_transformer", num_classes=2, shape=source.shape).state_dict(), tmp_path / "m.pt")
    entries = {
        "data": spec,
        "model": "text_transformer",
        "validation": 0.4,
        "validation_from": "test",
        "trials": 0,
    }
    project = Project.create(tmp_path / "project", checked(entries), tmp_path / "m.pt")
    project.register([wanted(ids=["u1"])])
    held_out = set(json.loads((project.path / "held_out.json").read_text()))
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    assert "u19" in load(spec).test.ids and "u19" not in load(spec).train.ids
    setting = prepare(project.folder, print).setting
    assert len(held_out) == 8 and held_out <= set(setting.test.ids) == {f"test/{name}" for name in test}
