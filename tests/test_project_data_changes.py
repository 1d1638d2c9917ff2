"""Data that changes after a request: classes and samples that go, and contents that come back under other ids."""

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import Project, Split
from expunge.errors import ExpungeError
from expunge.models import build
from expunge.projects.prepared import prepare
from expunge.projects.settings import checked
from expunge.projects.wanted import wanted
from expunge.sources import load

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
