"""A user's own `Dataset`: every form of item is read or named by its position, and its randomness repeats."""

import random
from collections import namedtuple
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, Subset

from expunge import Classification, ExpungeError, Split, SplitError, StreamData, TensorData, audit, unlearn
from expunge.data.convert import as_data
from expunge.methods.salun import SalUn
from expunge.torch_utils.random_state import drawing_from, held_generators
from generators import same_in_any_order

X = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
Pair = namedtuple("Pair", "x y")
Turned = namedtuple("Turned", "label image")


@dataclass
class Item:
    x: object
    label: object


class Own(Dataset):
    """Items by a function of the position."""

    def __init__(self, item, count=12):
        self.item, self.count = item, count

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        return self.item(k)


def pixels(k):
    return np.full((4, 5, 3), 20 * k, np.uint8)


def inputs_of(data):
    return torch.cat([batch.x for batch in data.samples().batches(5)])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "item",
    [
        lambda k: (X[k], k % 2),
        lambda k: [X[k], torch.tensor(k % 2), {"more": "entries"}],
        lambda k: (X[k].numpy(), np.int64(k % 2)),
        lambda k: (X[k].numpy().astype(">f4"), np.array([k % 2])),
        lambda k: (X[k].flip(0).numpy()[::-1], k % 2),
        lambda k: (X[k].tolist(), k % 2),
        lambda k: {"x": X[k], "label": k % 2},
        lambda k: {"image": X[k], "target": k % 2, "name": "a text", "meta": None},
        lambda k: Item(X[k], k % 2),
        lambda k: Pair(X[k], k % 2),
        lambda k: Turned(k % 2, X[k]),
    ],
)
def test_every_form_of_item_gives_the_same_samples(item, workers):
    data = StreamData(Own(item), workers=workers)
    assert data.labels.tolist() == [0, 1] * 6
    torch.testing.assert_close(inputs_of(data), X)


def test_named_inputs_keep_their_names():
    data = StreamData(Own(lambda k: {"pixel_values": X[k], "labels": k % 2}))
    assert set(next(data.samples().batches(3)).x) == {"pixel_values"}
    data = StreamData(Own(lambda k: {"x": X[k], "mask": X[k] > 0.5, "tokens": [1, k], "labels": k % 2}))
    batch = next(data.samples().batches(3))
    assert set(batch.x) == {"x", "mask", "tokens"} and batch.x["tokens"].tolist() == [[1, 0], [1, 1], [1, 2]]
    data = StreamData(Own(lambda k: {"data": X[k], "label": 9, "kind": k % 2}), label="kind")
    assert data.labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGB", 3), ("L", 1), ("1", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3), ("I;16", 1)]
)
def test_pil_images_become_tensors(mode, channels):
    def item(k):
        if mode == "I;16":
            return Image.fromarray(np.full((4, 5), 257 * k, np.uint16)), k % 2
        return Image.fromarray(pixels(k)).convert(mode), k % 2

    x = inputs_of(StreamData(Own(item)))
    assert x.shape == (12, channels, 4, 5) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    if mode in ("RGB", "L"):
        torch.testing.assert_close(x[:, 0, 0, 0], torch.arange(12) * 20 / 255)


@pytest.mark.parametrize(
    "collate", [None, lambda items: (torch.stack([x for x, _ in items]), [y for _, y in items])]
)
def test_labels_that_are_names(collate):
    source = Own(lambda k: (X[k], ["cat", "ant", "bee"][k % 3]))
    data = StreamData(source, collate=collate)
    assert data.classes == ["ant", "bee", "cat"] and data.labels.tolist() == [2, 0, 1] * 4
    source.classes = ["bee", "cat", "ant"]
    assert StreamData(source, collate=collate).labels.tolist() == [1, 2, 0] * 4
    source.targets = [["cat", "ant", "bee"][k % 3] for k in range(12)]
    assert StreamData(source, collate=collate).labels.tolist() == [1, 2, 0] * 4
    held = as_data((X, source.targets))
    assert held.classes == ["ant", "bee", "cat"] and held.labels.tolist() == data.labels.tolist()
    split = Split.by_class(held, (X[:3], ["bee", "ant", "cat"]), "cat")
    assert split.forget_classes == (2,) and len(split.test) == 2
    with pytest.raises(SplitError, match="give both the same names in the same order"):
        Split.by_class(held, (X[:2], ["bee", "cat"]), "cat")


def test_several_inputs_have_names():
    """A tuple of inputs is refused before a run; the same inputs in a dict reach the model by name."""
    unnamed = Own(lambda k: ((X[k], 2 * X[k]), k % 2))
    with pytest.raises(ExpungeError, match="item 0 of the data set has a tuple of 2 inputs without names"):
        as_data(unnamed)

    def padded(items):
        return (torch.stack([x for (x, _), _ in items]), torch.tensor([1] * len(items))), [
            y for _, y in items
        ]

    for labels in (None, [0, 1] * 6):
        with pytest.raises(ExpungeError, match="the collate function returned a tuple of 2 inputs without"):
            next(iter(StreamData(unnamed, collate=padded, labels=labels).raw_inputs(1)))
    named = StreamData(Own(lambda k: {"first": X[k], "second": 2 * X[k], "label": k % 2}))
    batch = next(named.samples().batches(3))
    assert torch.equal(batch.x["second"], 2 * X[:3]) and set(batch.x) == {"first", "second"}


def test_lists_of_lists_of_numbers_are_one_input():
    data = StreamData(Own(lambda k: ([[k, 1], [2, 3]], k % 2)))
    assert inputs_of(data)[5].tolist() == [[5, 1], [2, 3]]


def unless(k, wrong, right=None):
    """An item that is right but at position 7."""
    return wrong if k == 7 else (X[k], k % 2) if right is None else right


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: None, "item 7 of the data set is None"),
        (lambda: (X[7],), "item 7 of the data set is a tuple of 1; give a pair"),
        (lambda: X[7], "item 7 of the data set is a Tensor"),
        (lambda: "text", "item 7 of the data set is a str"),
        (lambda: {"x": X[7]}, "item 7 of the data set has the entries ['x'] and no 'labels'"),
        (lambda: {"label": 1, "name": "a"}, "has the entries ['name'] and none is a tensor"),
        (lambda: ("words", 1), "item 7 of the data set has an input of type str"),
        (
            lambda: ((X[7], X[7]), 1),
            "item 7 of the data set has a tuple of 2 inputs without names; give a dict with a name for each",
        ),
        (
            lambda: ([X[7].numpy(), 3], 1),
            "item 7 of the data set has a list of 2 inputs without names; give a dict",
        ),
        (
            lambda: {"views": [Image.new("L", (2, 2))], "label": 1},
            "item 7 of the data set has in 'views' a list of 1 inputs without names; give a dict",
        ),
        (lambda: ([[1, 2], [3]], 1), "item 7 of the data set has a list of 2 as input that makes no tensor"),
        (lambda: (np.array(["a"]), 1), "item 7 of the data set has an input of <U1"),
        (
            lambda: (Image.new("F", (2, 2)), 1),
            "item 7 of the data set is an image that cannot be used: its pixels are floats",
        ),
        (lambda: (X[7], None), "the label of item 7 is None"),
        (lambda: (X[7], "cat"), "the label of item 0 is 0 and that of item 7 is 'cat'"),
        (
            lambda: (X[7], torch.tensor([1, 2])),
            "the label of item 7 is 'tensor([1, 2])' and that of item 0 is '0'",
        ),
        (
            lambda: 1 / 0,
            "item 7 of the data set cannot be read: ZeroDivisionError: division by zero (test_own_datasets.py",
        ),
    ],
)
def test_an_item_that_cannot_be_used_is_named(wrong, words, workers):
    source = Own(lambda k: unless(k, None if k != 7 else wrong()))
    with pytest.raises(ExpungeError) as caught:
        StreamData(source, workers=workers)
    assert words in str(caught.value) and "worker process" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_of_another_shape_is_named(workers):
    data = StreamData(Own(lambda k: (torch.rand(4 if k == 7 else 3), k % 2)), workers=workers)
    with pytest.raises(
        ExpungeError, match=r"item 7 of the data set has an input of shape \(4,\), item 5 of shape \(3,\)"
    ):
        inputs_of(data)


def test_several_wrong_items_are_listed():
    with pytest.raises(ExpungeError) as caught:
        StreamData(Own(lambda k: None if k in (2, 5) else (X[k], 1)))
    assert len(caught.value.problems) == 2


def drop_none(items):
    kept = [item for item in items if item is not None]
    return torch.stack([x for x, _ in kept]), torch.tensor([y for _, y in kept])


def test_a_collate_function_that_leaves_items_out_is_refused():
    """Otherwise every later label of the batch would belong to another input."""
    source = Own(lambda k: unless(k, None))
    with pytest.raises(ExpungeError, match=r"returned 11 samples for 12 items"):
        as_data(DataLoader(source, 4, collate_fn=drop_none))
    with pytest.raises(
        ExpungeError, match=r"the collate function failed \(items \[7\] are None\): TypeError"
    ):
        StreamData(source, collate=lambda items: (torch.stack([x for x, _ in items]), [y for _, y in items]))
    with pytest.raises(ExpungeError, match="returned a int; return"):
        StreamData(source, collate=len)
    assert (
        len(as_data(DataLoader(Subset(source, [k for k in range(12) if k != 7]), collate_fn=drop_none))) == 11
    )


@pytest.mark.parametrize(
    "sampler",
    [
        SequentialSampler(range(5)),
        RandomSampler(range(5)),
        RandomSampler(range(12), num_samples=5),
        RandomSampler(range(12), replacement=True, num_samples=11),
    ],
)
def test_a_loader_that_draws_a_part_of_its_data_is_refused(sampler):
    """All samples of the data set counted as trained on."""
    source = Own(lambda k: (X[k], k % 2))
    with pytest.raises(ExpungeError, match=r"Sampler of the DataLoader draws \d+ of 12 samples"):
        as_data(DataLoader(source, 4, sampler=sampler))
    with pytest.raises(ExpungeError, match=r"draws \d+ of 12 samples"):
        as_data(DataLoader(source, batch_sampler=BatchSampler(sampler, 4, False)))
    for whole in (SequentialSampler(source), RandomSampler(range(12), replacement=True, num_samples=24)):
        assert len(as_data(DataLoader(source, 4, sampler=whole))) == 12


def test_labels_of_the_other_byte_order_are_the_same_labels():
    for kind in (">i8", ">i2", "<i4"):
        assert TensorData(X, (np.arange(12) % 3).astype(kind)).labels.tolist() == [0, 1, 2] * 4


def test_inputs_in_memory_that_are_no_numbers_are_refused():
    for x in (["a"] * 12, np.array(["a"] * 12), [Image.new("L", (2, 2))] * 12):
        with pytest.raises(ExpungeError, match="give a tensor or an array of numbers"):
            as_data((x, [0, 1] * 6))
    assert torch.equal(as_data((X.numpy().astype(">f8"), [0, 1] * 6)).x, X.double())


# randomness


class Noisy(Dataset):
    """Draws from every generator that people use in a Dataset."""

    def __init__(self, x=X, draws=("torch", "numpy", "random", "held")):
        self.x, self.draws = x, draws
        self.rng, self.legacy = np.random.default_rng(3), np.random.RandomState(3)
        self.python, self.torch = random.Random(3), torch.Generator().manual_seed(3)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        noise = {
            "torch": lambda: torch.rand(1).item(),
            "numpy": lambda: np.random.rand(),
            "random": random.random,
            "held": lambda: (
                self.rng.random()
                + self.legacy.rand()
                + self.python.random()
                + torch.rand(1, generator=self.torch).item()
            ),
        }
        return self.x[k] + sum(noise[name]() for name in self.draws), k % 2


@pytest.mark.parametrize("draws", ["torch", "numpy", "random", "held"])
def test_a_pass_in_the_same_order_gives_the_same_inputs(draws):
    """With any number of workers, and whatever was drawn before. Each shuffled pass draws anew."""
    one, other = (StreamData(Noisy(draws=(draws,)), workers=w) for w in (0, 1))
    first = inputs_of(one)
    assert not torch.equal(first, X) and len((first - X)[:, 0].unique()) == 12, (
        "each item has noise of its own"
    )
    np.random.rand(), random.random(), torch.rand(1)
    assert torch.equal(inputs_of(one), first) and torch.equal(inputs_of(other), first)

    def shuffled(data, seed):
        batches = list(data.samples().batches(5, shuffle=torch.Generator().manual_seed(seed)))
        order = torch.cat([b.index for b in batches])
        return (torch.cat([b.x for b in batches]) - X[order])[order.argsort()]

    assert torch.equal(shuffled(one, 1), shuffled(other, 1))
    assert not torch.equal(shuffled(one, 1), shuffled(one, 2)) and not torch.equal(
        shuffled(one, 1), first - X
    )


def test_without_seeds_the_same_pass_gives_other_inputs(monkeypatch):
    """Negative control of the test above."""
    monkeypatch.setattr("expunge.data.item_reader.drawing_from", lambda *_: nullcontext())
    data = StreamData(Noisy(draws=("numpy",)))
    assert not torch.equal(inputs_of(data), inputs_of(data))


def test_reading_leaves_the_users_generators_as_they_were():
    source = Noisy()
    states = lambda: (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist(),  # noqa: E731
                      source.rng.bit_generator.state, source.legacy.get_state()[1].tolist(), source.python.getstate(),
                      source.torch.get_state().tolist())  # fmt: skip
    before = states()
    inputs_of(StreamData(source))
    assert states() == before


RNG = np.random.default_rng(0)
same_numbers = same_in_any_order(RNG)


class DrawsFromModule(Dataset):
    """Draws from a generator of its module."""

    def __getitem__(self, k):
        return RNG.random(), 0


def test_generators_are_found_where_people_keep_them():
    rng, python = np.random.default_rng(0), random.Random(0)

    def closure(x):
        return x + rng.random()

    def found(holder):
        return {id(g) for g in held_generators(holder)} - {id(RNG)}

    noisy = Noisy()
    assert found(Subset(noisy, [0])) == set(map(id, (noisy.rng, noisy.legacy, noisy.python, noisy.torch)))
    source = Own(None)
    for holder in (closure, partial(closure, 1), [closure], {"a": (closure,)}, lambda x: closure(x)):
        source.transform = holder
        assert id(rng) in found(Subset(source, [0]))
    source.transform = python
    assert id(python) in found(source) and id(RNG) in {id(g) for g in held_generators(DrawsFromModule())}
    source.transform = random.SystemRandom()
    assert not found(source)
    source.transform = source  # a circle
    assert not found(source)


def test_seeding_covers_all_generators_and_ends_with_the_block():
    def draw():
        return np.random.rand(), random.random(), torch.rand(1).item()

    outside = np.random.get_state()[1].tolist()
    with drawing_from(2**63 - 1):
        first = draw()
    with drawing_from(2**63 - 1):
        assert draw() == first
    with drawing_from(1):
        assert draw() != first
    assert np.random.get_state()[1].tolist() == outside
    with pytest.raises(KeyError), drawing_from(1):
        raise KeyError
    assert np.random.get_state()[1].tolist() == outside


def test_runs_and_audits_of_noisy_data_repeat_exactly():
    """The reported fault: two audits of one model gave MIA 70 and 80, and SalUn twice with one seed differed."""
    x = torch.rand(120, 3, generator=torch.Generator().manual_seed(1))
    train, test = StreamData(Noisy(x)), StreamData(Noisy(x[:40] + 0.1))
    split = Split.by_ids(train, test, range(20), validation=0, copies="ignore")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    scores, weights = [], []
    for _ in range(2):
        np.random.rand(), random.random(), torch.rand(1), train.dataset.rng.random()
        unlearned = unlearn(model, split, SalUn(epochs=1), Classification(2), seed=3)
        weights.append(torch.nn.utils.parameters_to_vector(unlearned.parameters()))
        scores.append(str(audit(unlearned, split, Classification(2)).scores))
    assert torch.equal(*weights) and scores[0] == scores[1]


def test_columns_of_hugging_face_data_give_labels_and_names():
    """Duck typing: `column_names`, `features` and columns by name. Few items are decoded for their labels."""

    class Features:
        names = ("ant", "bee")

    class Columns(Own):
        # a class of the library: one of the user is read
        __module__ = "datasets.stand_in"
        column_names, features, read = ["image", "label"], {"image": None, "label": Features}, []

        def with_format(self, kind):
            return self

        def __getitem__(self, k):
            if isinstance(k, str):
                return [n % 2 for n in range(12)]
            self.read.append(k)
            return {"image": Image.fromarray(pixels(k)), "label": k % 2}

    data = StreamData(Columns(None))
    assert (
        data.classes == ["ant", "bee"]
        and data.labels.tolist() == [0, 1] * 6
        and Columns.read == [0, 1, 6, 11]
    )
    assert inputs_of(data).shape == (12, 3, 4, 5)


def test_held_data_of_other_types_is_unchanged():
    data = TensorData(X, torch.arange(12) % 2)
    assert data.x is X and data.classes is None


def test_names_from_the_disk_that_are_no_utf8():
    """`os.listdir` gives bytes that are no UTF-8 as surrogates, which no file and no hash takes."""
    names = [f"caf\udce9{k}" for k in range(12)]
    data = TensorData(X, torch.arange(12) % 2, ids=names, groups={"user": names}, classes=["\udce9", "b"])
    assert data.ids[3] == "caf\\xe93" and data.classes == ["\\xe9", "b"] and data.fingerprint()
    test = TensorData(X[:2], torch.arange(2), classes=["\udce9", "b"])
    by_id, by_group = (
        Split.by_ids(data, test, names[:2], copies="ignore"),
        Split.by_group(data, test, "user", names[0], copies="ignore"),
    )
    assert (
        by_id.forget.ids == ["caf\\xe90", "caf\\xe91"]
        and len(by_group.forget) == 1
        and str(by_group.to_dict())
    )
    assert Split.by_class(data, test, "\udce9", copies="ignore").forget_classes == (0,)
