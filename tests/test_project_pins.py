"""The first run fixes what the model sees: preprocessing, contents and labels of all samples, the division of the data."""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import Project, StreamData, TensorData
from expunge.cli import main
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects.fingerprints import Fingerprints
from expunge.projects.fixed_settings import differences, moved_files, setting_values
from expunge.projects.prepared import prepare
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.sources import load
from expunge.sources.source import Source
from project_office import VALUES, content
from project_office import edit as edit_state


def make(folder, data, model="mlp", run=False, **values):
    """A project with an untrained model and one waiting request. A run for another one fixes everything."""
    source = load(data)
    torch.manual_seed(0)
    fresh = build(model, num_classes=len(source.classes), shape=source.shape)
    torch.save(fresh.state_dict(), folder / "mine.pt")
    quick = {"method": "retrain", "settings": {"epochs": 1, "batch_size": 64}, "trials": 0}
    entries = {"data": data, "model": model, "validation": 0.0, **quick, **values}
    project = Project.create(folder / "project", checked(entries), folder / "mine.pt")
    if run:
        project.forget(ids=[str(source.train.ids[1])])
    project.register([wanted(ids=[str(source.train.ids[0])])])
    return project


def edit(project, old, new):
    path = project.path / "expunge.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def refused(project, words):
    before = content(project.path)
    for call in (
        lambda: project.register([wanted(ids=["x"])]),
        lambda: project.plan(pending=True),
        lambda: project.answer(pending=True),
        lambda: project.model,
    ):
        with pytest.raises(ExpungeError, match=words):
            call()
    assert content(project.path) == before


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of 10 pictures, without a test folder."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.RandomState(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for k in range(10):
            pixels = generator.randint(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k:02d}.png")
    return folder


@pytest.fixture(scope="module")
def posts(tmp_path_factory):
    path = tmp_path_factory.mktemp("posts") / "posts.csv"
    rows = [f"{'good' if k % 2 else 'bad'} words {k},{k % 2},u{k},v{k},other {k}" for k in range(20)]
    path.write_text("\n".join(["text,label,id,second,summary", *rows]))
    return path


# ---- preprocessing


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("?size=8", "?size=4", "size is '4', and the requests of this project were drawn with '8'; give the option size=8 in `data`"),
        ("?size=8", "?size=8&channels=1", "channels is '1', .* drawn with not given; remove the option channels from `data`"),
        ("?size=8", "?size=8&crop=4", "crop is '4', .* drawn with not given"),
        ("?size=8", "?size=8&mean=0.5,0.5,0.5&std=0.2,0.2,0.2", "mean is '0.5,0.5,0.5', .* drawn with not given"),
        ('model = "mlp"', 'model = "cnn"', 'model is \'cnn\', .* drawn with \'mlp\'; write model = "mlp"'),
        ("# ema = ...", 'ema = "averaged"', "ema is 'averaged', .* drawn with not given; remove ema"),
    ],
)  # fmt: skip
def test_the_preprocessing_of_pictures_is_fixed(pictures, tmp_path, old, new, words):
    project = make(tmp_path, f"folder:{pictures}?size=8", run=True)
    edit(project, old, new)
    refused(project, words)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("length=8", "length is '8', .* drawn with '128'"),
        ("text=summary", "text is 'summary', .* drawn with 'text'"),
        ("id=second", "id is 'second', .* drawn with 'id'"),
    ],
)
def test_the_preprocessing_of_texts_is_fixed(posts, tmp_path, option, words):
    project = make(tmp_path, f"text:{posts}", "text_transformer", run=True)
    edit(project, "posts.csv", f"posts.csv?{option}")
    refused(project, words)


def test_before_the_first_run_preprocessing_is_free_and_the_column_of_ids_is_not(posts, tmp_path):
    """An id of another column may name another sample."""
    project = make(tmp_path, f"text:{posts}", "text_transformer")
    edit(project, "posts.csv", "posts.csv?text=summary")
    assert project.plan(pending=True).forget == 1
    edit(project, "?text=summary", "?id=second")
    refused(project, "id is 'second', .* drawn with 'id'")


@pytest.mark.parametrize(
    ("old", "new"), [("split_seed = 0", "split_seed = 1"), ("validation = 0.0", "validation = 0.1")]
)
def test_before_the_first_run_an_id_keeps_its_sample_under_other_settings(
    office, tmp_path, monkeypatch, old, new
):
    """Request 1 waits for p5. With the ids of p5 and p6 swapped, a run would forget the wrong sample."""
    import office_data

    shutil.copytree(office / "project", tmp_path / "project")
    project, source = Project(tmp_path / "project"), office_data.data()
    project.register([wanted(ids=["p5"])])
    edit(project, old, new)
    assert project.plan(pending=True).forget == 1
    ids = source.train.ids.copy()
    ids[[5, 6]] = ids[[6, 5]]
    swapped = TensorData(source.train.x, source.train.labels, ids=ids, groups=source.train.groups)
    monkeypatch.setattr(office_data, "data", lambda: replace(source, train=swapped))
    refused(project, r"2 of 400 training samples have other contents .*: 'p5' \(request 1\), 'p6'\.")


@pytest.mark.parametrize(
    ("option", "row", "words"),
    [
        ("length=8", "good words 4,1,u3,v3,x", r"1 of 16 training samples have other contents .*: 'u3'"),
        ("length=8", "GOOD words  3,0,u3,v3,x", r"1 of 16 training samples have another label .*: 'u3'"),
        ("text=summary", "good words 3,0,u3,v3,other 3", r"1 of 16 training samples have another label .*: 'u3'"),
    ],
)  # fmt: skip
def test_before_the_first_run_another_preprocessing_keeps_texts_and_labels(
    posts, tmp_path, option, row, words
):
    """Inputs of another length are other inputs, and those of the same text. u3 has the text "good words 3" and the label 1."""
    rows = posts.read_text().splitlines()
    own, tests = tmp_path / "own.csv", [k for k in range(20) if k % 5 == 0]
    test = tmp_path / "test.csv"
    test.write_text("\n".join([rows[0], *(rows[k + 1] for k in tests)]))
    kept = [rows[0], *(rows[k + 1] for k in range(20) if k not in tests)]
    own.write_text("\n".join(kept))
    project = make(tmp_path, f"text:{own}?test={test}", "text_transformer")
    edit(project, f"?test={test}", f"?test={test}&{option}")
    # the control: these texts and labels pass, and a model of 128 tokens does not fit to inputs of 8
    with nullcontext() if option == "text=summary" else pytest.raises(ExpungeError, match="another shape"):
        prepare(project.folder, print)
    own.write_text("\n".join(row if ",u3," in line else line for line in kept))
    refused(project, words)


def test_options_that_change_no_input_stay_free(pictures, tmp_path, capsys):
    """The control: defaults that are written out, augmentation, and how files are read."""
    project = make(tmp_path, f"folder:{pictures}?size=8", run=True)
    edit(project, "?size=8", "?size=8&channels=3&augment=1&hold=1&check=0")
    assert project.plan(pending=True).forget == 1
    edit(project, "&channels=3&augment=1&hold=1", "&workers=0")
    assert project.plan(pending=True).forget == 1
    # the control
    edit(project, "size=8&", "size=4&")
    assert main(["forget", "--project", str(project.path), "--pending", "--dry-run"]) == 2
    assert "size is '4'" in capsys.readouterr().err


def test_a_tokenizer_may_move_and_explains_other_samples():
    old, new = {"tokenizer": "a", "length": "8"}, {"tokenizer": "b", "length": "8"}
    assert differences(old, new) == [] and moved_files(old, old) == []
    assert moved_files(old, new) == [
        "the tokenizer was 'a' at the first request, and is 'b' now; give the old one."
    ]


def test_the_config_of_a_transformers_model_is_fixed(tmp_path):
    settings = replace_settings(model=f"hf-config:{tmp_path}")
    (tmp_path / "config.json").write_text('{"hidden_act": "gelu"}')
    old = setting_values(settings)
    (tmp_path / "config.json").write_text('{"hidden_act": "relu"}')
    (problem,) = differences(old, setting_values(settings))
    assert "config.json of the model is" in problem and "restore the file" in problem
    (tmp_path / "config.json").unlink()
    with pytest.raises(ExpungeError, match=r"config\.json cannot be read"):
        setting_values(settings)


def replace_settings(**values):
    return checked(VALUES).model_copy(update=values)


# ---- contents and labels


@pytest.fixture
def office_project(office, tmp_path, monkeypatch):
    """A project that has removed p1 and p2, whose request 2 for p9 waits; and a function that changes its data."""
    import office_data

    shutil.copytree(office / "project", tmp_path / "project")
    project, source = Project(tmp_path / "project"), office_data.data()
    project.forget(ids=["p1", "p2"])
    project.register([wanted(ids=["p9"])])

    def change(train=None, test=None, of=source):
        """Each is a function of inputs, labels and ids that changes them in place or returns new ones."""
        parts = {"train": of.train, "test": of.test}
        for name, function in (("train", train), ("test", test)):
            data = parts[name]
            x, y = data.x.clone(), data.labels.clone()
            ids = None if data.ids is None else data.ids.copy()
            x, y, ids = (function and function(x, y, ids)) or (x, y, ids)
            groups = {"user": [f"u{k}" for k in range(len(y))]} if ids is not None else None
            parts[name] = TensorData(x, y, ids=ids, groups=groups)
        changed = replace(of, **parts)
        monkeypatch.setattr(office_data, "data", lambda: changed)
        return changed

    return project, change


def pixel(*positions):
    def function(x, y, ids):
        for k in positions:
            x[k].reshape(-1)[3] += 1

    return function


def label(*positions):
    def function(x, y, ids):
        for k in positions:
            y[k] = (y[k] + 1) % 10

    return function


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (pixel(1), None, r"1 of 400 training samples have other contents .* under the same ids: 'p1' \(request 1\)\. Restore them"),
        (pixel(9, 50), None, r"2 of 400 .* other contents .*: 'p9' \(request 2\), 'p50'\."),
        (label(2), None, r"1 of 400 training samples have another label .*: 'p2' \(request 1\)"),
        (None, pixel(7), "1 of 200 test samples have other contents .* under the same positions, .* no ids: '7'"),
        (None, label(7), "1 of 200 test samples have another label"),
        (pixel(*range(400)), None, r"400 of 400 .* 'p1' \(request 1\), 'p2' \(request 1\), 'p9' .* and 395 more. Most samples differ"),
    ],
)  # fmt: skip
def test_a_changed_sample_under_an_old_id_is_named(office_project, train, test, words):
    project, change = office_project
    change(train, test)
    refused(project, words)


def test_samples_may_go_and_come_and_change_places(office_project):
    """The control. A new id becomes an old one with the request after it."""
    project, change = office_project

    def other(x, y, ids):
        at = torch.tensor([k for k in range(399, -1, -1) if k not in (1, 30)])
        names = np.array([str(ids[k]) for k in at])
        return torch.cat([x[at], x[:2] + 1]), torch.cat([y[at], y[:2]]), np.append(names, ["new1", "new2"])

    changed = change(other)
    project.register([wanted(ids=["p20"])])
    # one that was gone comes back as it was
    assert change().train.ids[1] == "p1" and project.plan(pending=True).forget == 2
    change(pixel(398), of=changed)
    refused(project, "1 of 400 training samples have other contents .*: 'new1'")
    change(lambda x, y, ids: (x, y, np.where(ids == "p7", "p1", ids)))
    refused(project, r"'p1' \(request 1\)")


def test_a_project_of_an_earlier_version_gets_fingerprints_with_its_next_change(office_project):
    project, change = office_project
    edit_state(project, lambda s: [s["drawn"].pop(k) for k in ("inputs", "samples")], sealed=True)
    (project.path / "samples.npz").unlink()
    project.register([wanted(ids=["p20"])])
    assert project.folder.state()["drawn"]["samples"] and project.status().problems == ()
    change(pixel(1))
    refused(project, r"'p1' \(request 1\)")


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_the_file_of_fingerprints_is_checked(office_project, damage):
    project, _ = office_project
    path = project.path / "samples.npz"
    assert path.stat().st_mode & 0o777 == 0o600 and b"p399" not in path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x")
    refused(project, f"samples.npz with the fingerprints of all samples (is|was) {damage}")


def test_a_table_that_is_no_table_is_an_error(tmp_path):
    (tmp_path / "samples.npz").write_bytes(b"PK nothing")
    with pytest.raises(ExpungeError, match=r"(?i)restore .* from a backup"):
        Fingerprints.load(tmp_path / "samples.npz")


def test_an_id_and_contents_cannot_pass_for_another_id():
    """Repeated ids keep one entry each: a third sample under their id is a change."""

    def source(x, ids):
        data = TensorData(torch.tensor(x), torch.zeros(len(x), dtype=torch.int64), ids=ids)
        return Source(data, data, ["a"], (1,), "s")

    first = Fingerprints.of(source([[1], [2], [3]], ["a", "a", "b"]))
    same = Fingerprints.of(source([[2], [3]], ["a", "b"]), first)
    assert np.isin(same.train, first.train).all()
    third = Fingerprints.of(source([[4], [3]], ["a", "b"]), first)
    assert np.isin(third.train[:, 2], first.train[:, 2]).tolist() == [False, True]
    assert len(np.unique(first.train)) == 2 + 3 + 3 + 3
    other_key = Fingerprints.of(source([[1]], ["a"]))
    assert not np.isin(other_key.train, first.train).any()


class Noisy(torch.utils.data.Dataset):
    """Items with a random transform in them."""

    def __len__(self):
        return 20

    def __getitem__(self, k):
        return torch.full((4,), float(k)) + torch.rand(4), k % 2


def test_inputs_that_differ_at_each_reading_are_known_by_id_and_label():
    def source(shift):
        labels = (torch.arange(20) + shift) % 2
        train = StreamData(Noisy(), labels=labels, ids=[f"n{k}" for k in range(20)])
        return Source(train, train, ["a", "b"], (4,), "noisy")

    first = Fingerprints.of(source(0))
    assert first.without_contents == {"train", "test"}
    same, flipped = Fingerprints.of(source(0), first), Fingerprints.of(source(1), first)
    assert (same.train == first.train).all()
    assert not np.isin(flipped.train[:, 2], first.train[:, 2]).any()


# ---- the division in training and test samples


@pytest.mark.parametrize("hold", [0, 1])
def test_a_drawn_test_set_keeps_its_samples_when_others_go(pictures, tmp_path, hold):
    """The source draws a fifth of each class anew: without the fingerprints, trained samples become test samples."""
    copied = tmp_path / "copied"
    shutil.copytree(pictures, copied)
    data = f"folder:{copied}?size=8&hold={hold}"
    source = load(data)
    train, test = set(source.train.ids), set(source.test.ids)
    inputs = dict(zip(source.train.ids, torch.cat(list(source.train.raw_inputs())), strict=True))
    project = make(tmp_path, data)
    gone = str(source.train.ids[0])
    (copied / gone).unlink()
    assert set(load(data).train.ids) & test, "the control: another test set is drawn"
    setting = prepare(project.folder, print).setting
    assert set(setting.train.ids) == train - {gone} and set(setting.test.ids) == test
    read = torch.cat(list(setting.train.raw_inputs()))
    for name, x, y in zip(setting.train.ids, read, setting.train.labels, strict=True):
        assert torch.equal(x, inputs[name]) and source.classes[y] == name.partition("/")[0]
    assert list(setting.train.groups["folder"]) == [n.partition("/")[0] for n in setting.train.ids]
