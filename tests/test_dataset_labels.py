"""Labels and class names of a user's `Dataset`: in the order of their numbers, and those that the items carry."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from expunge import ExpungeError, Split, StreamData, TensorData
from expunge.data.label_shortcut import (
    MOST_COMPARED,
    changes_labels,
    labels_without_items,
    made_by_library,
    one_per_label,
)
from expunge.data.label_values import class_list
from expunge.sources import load
from expunge.sources.source import Source

NAMES = ["owl", "cat", "dog"]


class Named(Dataset):
    """Items with names for labels."""

    def __init__(self, classes, labels=NAMES):
        self.classes, self.labels_of_items = classes, labels

    def __len__(self):
        return 12

    def __getitem__(self, k):
        return torch.full((2,), float(k)), self.labels_of_items[k % len(self.labels_of_items)]


@pytest.mark.parametrize(
    "classes",
    [
        NAMES,
        tuple(NAMES),
        np.array(NAMES),
        {"cat": 1, "dog": 2, "owl": 0},
        {1: "cat", 0: "owl", 2: "dog"},
        dict.fromkeys(NAMES).keys(),
    ],
    ids=["list", "tuple", "array", "class_to_idx", "id2label", "keys"],
)
def test_names_in_every_ordered_form_number_the_labels(classes):
    for data in (StreamData(Named(classes)), TensorData(torch.zeros(12, 2), NAMES * 4, classes=classes)):
        assert data.classes == NAMES and data.labels.tolist() == [0, 1, 2] * 4
    numbers = StreamData(Named(classes, [1, 0, 2]))
    assert numbers.classes == NAMES and numbers.labels.tolist() == [1, 0, 2] * 4
    assert Source(numbers, numbers, classes, (2,), "x").classes == NAMES


@pytest.mark.parametrize(
    "classes, words",
    [
        ({*NAMES}, "is a set, which has no order"),
        (frozenset(NAMES), "is a set, which has no order"),
        ("owl", r"is a str \('owl'\)"),
        ({"cat": 1, "dog": 2, "owl": 3}, "does not number its names from 0 to 2"),
        ({"cat": "a", "dog": "b", "owl": "c"}, "does not number its names"),
        ({"cat": True, "dog": False}, "does not number its names"),
    ],
)
def test_names_without_numbers_are_refused(classes, words):
    for make in (
        lambda: StreamData(Named(classes)),
        lambda: StreamData(Named(None), classes=classes),
        lambda: TensorData(torch.zeros(3, 2), [0, 1, 2], classes=classes),
        lambda: Source(None, None, classes, (2,), "x"),
    ):
        with pytest.raises(ExpungeError, match=words):
            make()


def test_a_number_of_classes_names_none():
    assert StreamData(Named(3, [0, 1, 2])).classes is None
    assert StreamData(Named(3)).classes == sorted(NAMES)
    assert StreamData(Named(lambda: NAMES, [0, 1])).classes is None
    with pytest.raises(ExpungeError, match="`classes` is a int"):
        TensorData(torch.zeros(2, 2), [0, 1], classes=2)
    assert class_list(None) is class_list([]) is class_list({}) is None


def test_a_name_of_two_classes_is_refused_only_where_a_label_has_it():
    # ImageNet has two classes called crane
    assert TensorData(torch.zeros(3, 2), [0, 1, 2], classes=["crane", "owl", "crane"]).num_classes == 3
    with pytest.raises(ExpungeError, match=r"the classes \['crane'\] occur more than once"):
        TensorData(torch.zeros(2, 2), ["crane", "owl"], classes=["crane", "owl", "crane"])


def test_a_function_of_the_user_may_give_its_names_as_a_dict(tmp_path, monkeypatch):
    (tmp_path / "dict_source.py").write_text(
        "import torch\nfrom expunge import TensorData\n"
        "def data():\n"
        "    make = lambda: TensorData(torch.zeros(4, 2), ['b', 'a'] * 2, classes={'b': 0, 'a': 1})\n"
        "    return make(), make()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = load("dict_source:data")
    assert source.classes == ["b", "a"] and source.train.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([str(k) for k in range(12)], [str(k) for k in range(12)]),
        (["10", "9", "-1", "2.5"] * 3, ["-1", "2.5", "9", "10"]),
        # one name among them: alphabetical
        (["10", "9", "x"] * 4, ["10", "9", "x"]),
    ],
)
def test_names_that_are_numbers_have_one_order_everywhere(tmp_path, labels, classes):
    numbers = [classes.index(label) for label in labels]
    x = torch.zeros(12, 2)
    for data in (TensorData(x, labels), TensorData(x, np.array(labels)), StreamData(Named(None, labels))):
        assert data.classes == classes and data.labels.tolist() == numbers
    np.savez(tmp_path / "a.npz", x_train=x.numpy(), y_train=labels, x_test=x.numpy(), y_test=labels)
    source = load(f"npz:{tmp_path / 'a.npz'}")
    assert source.classes == classes and source.train.labels.tolist() == numbers


# ---- labels from an attribute


class Changed(Dataset):
    """Sixty items of six classes, of which `change` swaps some after `targets` was made."""

    def __init__(self, change, target_transform=None):
        self.targets, self.change, self.target_transform = (
            [k // 10 for k in range(60)],
            change,
            target_transform,
        )
        self.read = []

    def __len__(self):
        return 60

    def __getitem__(self, k):
        self.read.append(k)
        y = self.targets[k]
        return torch.zeros(2), self.change.get(
            y, y
        ) if self.target_transform is None else self.target_transform(y)


def test_labels_that_differ_in_one_class_alone_come_from_the_items():
    data = Changed({1: 2, 2: 1})
    assert StreamData(data).labels.tolist() == [{1: 2, 2: 1}.get(k // 10, k // 10) for k in range(60)]
    # the control: labels of a library that agree are not read
    same = OfLibrary({})
    assert StreamData(same).labels.tolist() == same.targets
    assert sorted(set(same.read)) == [0, 10, 20, 30, 40, 50, 59]


class OfLibrary(Changed):
    """The same class, as torchvision may have it."""

    __module__ = "torchvision.datasets.stand_in"
    __getitem__ = Changed.__getitem__


class Poisoned(OfLibrary):
    """A user's subclass that gives the items 33 and 34 the label 0, and leaves the first of each class as it is."""

    def __getitem__(self, k):
        x, y = super().__getitem__(k)
        return x, 0 if k in (33, 34) else y


class PoisonedBatches(OfLibrary):
    def __getitems__(self, positions):
        return [(torch.zeros(2), 0 if k in (33, 34) else k // 10) for k in positions]


@pytest.mark.parametrize("kind", [Poisoned, PoisonedBatches])
def test_labels_that_a_class_of_the_user_changes_come_from_its_items(kind):
    expected = [0 if k in (33, 34) else k // 10 for k in range(60)]
    assert not made_by_library(kind({})) and StreamData(kind({})).labels.tolist() == expected
    split = Split.by_class(StreamData(kind({})), StreamData(OfLibrary({})), 0, copies="ignore", validation=0)
    assert split.forget.index.tolist() == [*range(10), 33, 34]
    # the control: the class that it extends shows its labels
    assert made_by_library(OfLibrary({})) and not made_by_library(Changed({}))


def test_labels_of_image_folders_come_from_their_samples():
    """`targets` is a copy, which the items do not read."""
    data = OfLibrary({})
    data.samples = [(f"{k}.png", k // 10) for k in range(60)]
    data.targets = [0 if k in (33, 34) else k // 10 for k in range(60)]
    assert next(labels_without_items(data, "labels")) == [k // 10 for k in range(60)]
    # samples of other data sets hold more than a path and a label
    data.samples = [(f"{k}.png", k // 10, "more") for k in range(60)]
    assert next(labels_without_items(data, "labels")) == data.targets


def test_a_transform_of_hugging_face_gives_the_labels_and_checks_the_names():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra `datasets`)")
    features = datasets.Features({"x": datasets.Value("float32"), "label": datasets.ClassLabel(names=NAMES)})
    table = datasets.Dataset.from_dict({"x": [0.0] * 12, "label": [0, 1, 2] * 4}, features=features)
    plain = StreamData(table)
    assert plain.labels.tolist() == [0, 1, 2] * 4 and plain.classes == NAMES
    assert StreamData(table.with_format("torch")).labels.tolist() == [0, 1, 2] * 4

    def renamed(batch):
        # needs the column of inputs too, also where labels alone are asked for
        return {"pixel_values": [torch.tensor([v]) for v in batch["x"]], "labels": batch["label"]}

    data = StreamData(table.with_transform(renamed))
    assert data.labels.tolist() == [0, 1, 2] * 4 and data.classes == NAMES
    assert set(next(data.samples().batches(4)).x) == {"pixel_values"}
    # a transform that gives other numbers: the names of the column do not belong to them
    turned = StreamData(table.with_transform(lambda b: {"x": b["x"], "label": [2 - y for y in b["label"]]}))
    assert turned.labels.tolist() == [2, 1, 0] * 4 and turned.classes is None
    with pytest.raises(ExpungeError, match="ZeroDivisionError"):
        StreamData(table.with_transform(lambda b: 1 / 0))


@pytest.mark.parametrize(
    "wrap", [lambda d: d, lambda d: Wrapped(Subset(d, range(60))), lambda d: Wrapped(ConcatDataset([d]))]
)
def test_a_transform_of_labels_has_all_items_read(wrap):
    data = Changed({}, target_transform=lambda y: 5 - y)
    assert changes_labels(wrap(data)) and not changes_labels(wrap(Changed({})))
    assert StreamData(wrap(data)).labels.tolist() == [5 - k // 10 for k in range(60)]


class Wrapped(Dataset):
    """A data set around another one that shows the targets inside."""

    def __init__(self, dataset):
        self.dataset = dataset

    @property
    def targets(self):
        inner = self.dataset.datasets[0] if isinstance(self.dataset, ConcatDataset) else self.dataset.dataset
        return inner.targets

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, k):
        return self.dataset[k]


def test_positions_that_are_compared():
    assert one_per_label(["a", "b", "a", "b", "c", "a"], 6) == [0, 1, 3, 4, 5]
    assert one_per_label(torch.tensor([1, 1, 0]), 3) == [0, 1, 2]
    assert (
        one_per_label([1, 2], 3)
        == one_per_label(3, 3)
        == one_per_label(None, 3)
        == one_per_label([[1], [2]], 2)
        == []
    )
    assert len(one_per_label(range(2 * MOST_COMPARED), 2 * MOST_COMPARED)) == MOST_COMPARED + 2
