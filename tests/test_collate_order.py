"""A collate function must keep the order of items: labels, ids and inputs are paired by it."""

import random

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from expunge import ExpungeError, Split, StreamData
from expunge.data.convert import as_data


class Sequences(Dataset):
    """Item k has `length(k)` entries, all k, and the label k modulo 3."""

    def __init__(self, count=100, length=lambda k: 1 + k * 7 % 11, label=lambda k: k % 3):
        self.count, self.length, self.label = count, length, label

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        return torch.full((self.length(k),), float(k)), self.label(k)


def padded(items):
    return pad_sequence([x for x, _ in items], batch_first=True, padding_value=-1.0), torch.tensor(
        [y for _, y in items]
    )


def padded_left(items):
    longest = max(len(x) for x, _ in items)
    rows = [torch.cat([torch.full((longest - len(x),), -1.0), x]) for x, _ in items]
    return torch.stack(rows), torch.tensor([y for _, y in items])


def longest_first(items):
    return padded(sorted(items, key=lambda item: -len(item[0])))


def by_name(items):
    x, y = padded(items)
    return {"x": x, "mask": x >= 0, "labels": y}


def taking_out(items):
    return padded([(item.pop("x"), item.pop("labels")) for item in items])


def with_noise(items):
    x, y = padded(items)
    return x + torch.rand(x.shape), y


def cut_to_shortest(items):
    shortest = min(len(x) for x, _ in items)
    return torch.stack([x[:shortest] for x, _ in items]), torch.tensor([y for _, y in items])


def squeezed(items):
    """Fails for one item: the batch has lost its axis of samples."""
    x = torch.stack([x[:1] for x, _ in items]).squeeze()
    return x, torch.tensor([items[k][1] for k in range(len(x))])


@pytest.mark.parametrize(
    "collate", [padded, padded_left, by_name, with_noise, cut_to_shortest, squeezed], ids=lambda f: f.__name__
)
def test_a_function_that_keeps_the_order_is_taken(collate):
    data = StreamData(Sequences(), collate=collate)
    assert data.labels.tolist() == [k % 3 for k in range(100)]
    shuffled = data.samples().batches(7, shuffle=torch.Generator().manual_seed(1))
    for batch in shuffled:
        x = batch.x["x"] if isinstance(batch.x, dict) else batch.x
        items = x.max(1).values if x.ndim == 2 else x
        assert items.long().tolist() == batch.index.tolist()
        assert batch.y.tolist() == [k % 3 for k in batch.index.tolist()]


def test_a_function_may_take_entries_out_of_items_in_memory():
    class Held(Sequences):
        def __init__(self):
            super().__init__()
            self.items = [{"x": torch.full((2,), float(k)), "labels": k % 3} for k in range(100)]

        def __getitem__(self, k):
            return self.items[k]

    held = Held()
    StreamData(held, labels=[k % 3 for k in range(100)], collate=taking_out)
    assert all(set(item) == {"x", "labels"} for item in held.items)


def shuffling(items):
    return padded(random.sample(items, len(items)))


def longest_first_with_names(items):
    ordered = sorted(items, key=lambda item: -len(item[0]))
    x, y = padded(ordered)
    return x, [["ant", "bee", "cat"][k] for k in y]


@pytest.mark.parametrize(
    ("collate", "options"),
    [
        (longest_first, {}),
        # falling and rising lengths: one of the two orders is that of the sorted items
        (longest_first, {"length": lambda k: 200 - k}),
        (longest_first, {"length": lambda k: 1 + k}),
        # equal labels do not hide that ids would name other inputs
        (longest_first, {"label": lambda k: 0}),
        (longest_first_with_names, {}),
        (shuffling, {}),
    ],
)
@pytest.mark.parametrize("labels", [None, [0] * 100])
def test_a_function_that_sorts_or_shuffles_is_refused(collate, options, labels):
    with pytest.raises(ExpungeError, match="the collate function changes the order of the items: item"):
        StreamData(Sequences(**options), collate=collate, labels=labels)


def test_a_loader_that_sorts_is_refused_before_the_run():
    loader = DataLoader(Sequences(3000), 32, shuffle=True, collate_fn=longest_first)
    with pytest.raises(ExpungeError, match="enforce_sorted=False"):
        Split.by_class(as_data(loader), as_data(loader), 1)
    # the control: the same batches in their order
    assert len(as_data(DataLoader(Sequences(3000), 32, shuffle=True, collate_fn=padded)).labels.unique()) == 3


def noisy_and_sorted(items):
    return with_noise(sorted(items, key=lambda item: -len(item[0])))


def mixed(items):
    """Of each two samples in turn, the mean (MixUp): rows of a batch are no items."""
    x, y = padded(items)
    return (x + x.roll(1, 0)) / 2, (torch.eye(3)[y] + torch.eye(3)[y.roll(1)]) / 2


@pytest.mark.parametrize("collate", [noisy_and_sorted, mixed])
def test_labels_show_another_order_where_inputs_cannot(collate):
    with pytest.raises(
        ExpungeError, match=r"the collate function gives item \d+ the label .* alone; it must keep the order"
    ):
        StreamData(Sequences(), collate=collate)


def test_an_order_that_changes_in_later_batches_alone_is_refused():
    """Items of one length for the check, which a sort leaves in their order, and others behind them."""
    checked = {*range(16), *torch.linspace(0, 999, 16).round().int().tolist()}
    source = Sequences(1000, length=lambda k: 5 if k in checked else 1 + k * 7 % 11)
    data = StreamData(source, collate=longest_first)
    with pytest.raises(ExpungeError, match="other labels than it gave these items before"):
        for _ in data.samples().batches(32, shuffle=torch.Generator().manual_seed(1)):
            pass


def test_a_single_item_has_one_order():
    assert StreamData(Sequences(1), collate=longest_first).labels.tolist() == [0]
