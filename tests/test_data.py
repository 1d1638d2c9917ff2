"""Data: batches, augmentation against a slow loop, and equal batches of resident and streamed data."""

import hashlib
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Subset, SubsetRandomSampler

from expunge import (
    Classification,
    CropFlip,
    ExpungeError,
    ModelError,
    Normalize,
    Split,
    SplitError,
    StreamData,
    TensorData,
)
from expunge.data.batch import Batch
from expunge.data.convert import as_data
from expunge.data.stream import _pass_seed


def test_normalisation_constants_outlive_an_inference_block():
    normalize, x = Normalize([0.25], [0.125]), torch.rand(2, 1, 3, 3)
    assert normalize == Normalize((0.25,), (0.125,)) and hash(normalize)
    with torch.inference_mode():
        normalize(x.clone())
    free = x.clone().requires_grad_(True)
    normalize.undo(free).sum().backward()
    assert torch.equal(free.grad, torch.full_like(x, 0.125))
    with pytest.raises(ExpungeError, match=r"inputs are torch.int32 of shape \(1, 3, 3\)"):
        normalize(x.int())
    with pytest.raises(ExpungeError, match=r"of shape \(2, 3, 3\)"):
        normalize(torch.rand(1, 2, 3, 3))


def test_preparation_text_is_equal_in_every_process():
    def mine(x, generator):
        return x

    x, y = torch.rand(4, 3, 2, 2), torch.arange(4) % 2
    variants = [
        TensorData(x, y, augment=a, normalize=n)
        for a in (None, CropFlip(2), mine)
        for n in (None, Normalize((0.5,) * 3, (1.0,) * 3))
        for _ in range(2)
    ]
    for data in variants[1::2]:
        data.read_as = "size=8"
    texts = {data.preparation for data in variants}
    assert len(texts) == 12 and not any(" at 0x" in text for text in texts)
    parts = [partial(mine, generator=n) for n in (1, 2)]
    texts = [TensorData(x, y, augment=p).preparation for p in (*parts, partial(mine, mine))]
    assert [t.partition("mine(")[2].partition(",")[0] for t in texts[:2]] == ["generator=1)", "generator=2)"]
    assert not any(" at 0x" in text for text in texts)


class Pairs(Dataset):
    def __init__(self, n=23):
        self.x = torch.arange(n).float()[:, None] * torch.ones(2)
        self.y = torch.arange(n) % 4

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


class Dicts(Pairs):
    def __getitem__(self, i):
        return {"input_ids": self.x[i], "mask": self.x[i] > 3, "labels": int(self.y[i])}


def test_streamed_and_resident_data_give_the_same_batches():
    source = Pairs()
    same_data = [TensorData(source.x, source.y), as_data(source), as_data(DataLoader(source, batch_size=5))]
    for a, b, c in zip(
        *(d.samples().batches(6, shuffle=torch.Generator().manual_seed(3)) for d in same_data), strict=True
    ):
        assert (
            torch.equal(a.x, b.x)
            and torch.equal(a.y, b.y)
            and torch.equal(a.index, b.index)
            and torch.equal(a.x, c.x)
        )


def test_data_that_does_not_fit_a_device_gives_the_same_batches(monkeypatch):
    x = torch.randint(0, 256, (23, 3, 6, 6), dtype=torch.uint8)
    data = TensorData(x, torch.arange(23) % 4, augment=CropFlip(1))
    passes = []
    for fits in (True, False):
        if not fits:
            monkeypatch.setattr(data, "_resident", lambda device: None)
        generator = torch.Generator().manual_seed(3)
        passes.append(list(data.samples().batches(6, shuffle=generator, augment=generator)))
    for a, b in zip(*passes, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.index, b.index)


def test_streaming_draws_nothing_from_the_global_state():
    """Evaluating a model must not change the dropout and noise of its next training steps."""
    data = StreamData(Pairs(), workers=1)
    state = torch.get_rng_state()
    assert len(list(data.samples().batches(6))) == 4
    assert torch.equal(torch.get_rng_state(), state)
    orders = [torch.randperm(23, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    seeds = [_pass_seed(order) for order in orders]
    assert seeds[0] == seeds[1] != seeds[2], "each shuffled pass seeds its workers anew"


@pytest.mark.parametrize("data_class", [TensorData, StreamData])
def test_batch_take_by_slice_positions_or_bools(data_class):
    data = as_data(Dicts()) if data_class is StreamData else TensorData(Pairs().x, Pairs().y)
    batch = next(data.samples().batches(9))
    for which in (slice(2, 5), torch.tensor([2, 3, 4]), (torch.arange(9) >= 2) & (torch.arange(9) < 5)):
        taken = batch.take(which)
        assert taken.index.tolist() == [2, 3, 4] and torch.equal(taken.y, batch.y[2:5])
        x, whole = (b.x["input_ids"] if data_class is StreamData else b.x for b in (taken, batch))
        assert torch.equal(x, whole[2:5])


def test_a_fingerprint_covers_every_id_in_order():
    y, ids = torch.zeros(70_000, dtype=torch.int64), np.arange(70_000).astype(str)
    whole = hashlib.sha256(y.numpy().tobytes() + "\0".join(ids).encode()).hexdigest()
    assert TensorData(y, y, ids=ids)._hash_labels().hexdigest() == whole


def test_dict_samples_keep_their_entries():
    data = as_data(Dicts())
    batch = next(data.samples(torch.tensor([4, 9])).batches(2))
    assert set(batch.x) == {"input_ids", "mask"} and batch.y.tolist() == [0, 1]
    half = batch.take(torch.tensor([False, True]))
    assert half.x["input_ids"].tolist() == [[9.0, 9.0]] and half.index.tolist() == [9]
    again = Batch.join(batch, half)
    assert len(again) == 3 and again.x["mask"].shape == (3, 2)


def test_labels_of_an_attribute_are_checked_on_one_item_of_each_class():
    class Targets(Pairs):
        # a class of a library: one of the user is read
        __module__ = "torchvision.datasets.stand_in"

        def __init__(self):
            super().__init__()
            self.read, self.targets = [], self.y.tolist()

        def __getitem__(self, i):
            self.read.append(i)
            torch.rand(1)
            return super().__getitem__(i)

    state = torch.get_rng_state()
    source = Targets()
    assert StreamData(source).labels.tolist() == StreamData(Pairs()).labels.tolist()
    assert source.read == [0, 1, 2, 3, 11, 22], "only the checked items are read"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("targets", [[k % 4 + 3 for k in range(23)], ["ant"] * 23, [0, 1, 2, 3]])
def test_targets_that_differ_from_the_items_are_not_used(targets):
    """A `target_transform` makes them differ. The model sees the labels of the items."""
    data = Pairs()
    data.targets = targets
    assert as_data(data).labels.tolist() == [k % 4 for k in range(23)]


def test_images_become_floats_between_0_and_1():
    data = TensorData(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), torch.tensor([0]))
    assert next(data.samples().batches(1)).x.tolist() == [[[[0.0, 1.0]]]]
    table = TensorData(torch.tensor([[3, 200]], dtype=torch.uint8), torch.tensor([0]))
    assert next(table.samples().batches(1)).x.tolist() == [[3, 200]], "a table of bytes is not an image"


@pytest.mark.parametrize(("pad", "flip"), [(2, True), (1, False), (0, True)])
def test_crop_and_flip_against_a_loop(pad, flip):
    x = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8)
    augmented = CropFlip(pad, flip)(x, torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(0)
    shifts = torch.randint(0, 2 * pad + 1, (2, 40), generator=g)
    coins = torch.randint(0, 2, (40,), generator=g, dtype=torch.bool)
    for i in range(40):
        image = np.pad(x[i].numpy(), ((0, 0), (pad, pad), (pad, pad)))[
            :, shifts[0, i] : shifts[0, i] + 6, shifts[1, i] : shifts[1, i] + 5
        ]
        if flip and coins[i]:
            image = image[:, :, ::-1]
        assert np.array_equal(augmented[i].numpy(), image)


def test_only_batches_with_a_generator_are_augmented():
    data = TensorData(
        torch.randint(0, 256, (8, 1, 4, 4), dtype=torch.uint8),
        torch.zeros(8, dtype=torch.long),
        augment=CropFlip(2),
    )
    plain = next(data.samples().batches(8)).x
    assert torch.equal(plain, next(data.samples().batches(8)).x)
    assert not torch.equal(plain, next(data.samples().batches(8, augment=torch.Generator().manual_seed(0))).x)


def test_wrong_data_is_refused():
    with pytest.raises(ExpungeError, match="one label per input"):
        TensorData(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ExpungeError, match="`ids` has 2 entries"):
        TensorData(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), ids=["a", "b"])
    with pytest.raises(ExpungeError, match="give"):
        as_data(5)
    with pytest.raises(ExpungeError, match="map-style"):
        StreamData(iter([1]))
    with pytest.raises(ExpungeError, match="name the entry with the label"):
        StreamData(Dicts(), label="target", labels=torch.zeros(23).long()).samples().batches(2).__next__()
    with pytest.raises(ExpungeError, match="one label per sample"):
        TensorData(torch.zeros(2, 1), torch.tensor(1))
    for labels in (torch.tensor([0.9, torch.nan]), torch.zeros(2, 1).long()):
        data = TensorData(torch.zeros(2, 1), labels)  # other tasks take them
        assert not data.has_classes and data.num_classes == 0
        with pytest.raises(ModelError, match="one whole number per sample"):
            Classification(2).check(torch.nn.Linear(1, 2), data.samples())
        with pytest.raises(SplitError, match="no class numbers"):
            Split.by_class(data, TensorData(torch.zeros(2, 1), labels), forget=0)


def test_loaders_that_leave_samples_out_are_refused():
    """Otherwise samples that the model never saw would count as trained on."""
    sampler = SubsetRandomSampler(range(9))
    for more in (
        {"sampler": sampler},
        {"batch_sampler": [[0, 1], [4]]},
        {"batch_sampler": BatchSampler(sampler, 2, False)},
    ):
        with pytest.raises(
            ExpungeError, match=r"may leave samples out.*give the data set itself, or .*Subset"
        ):
            as_data(DataLoader(Pairs(), **more))
    assert len(as_data(DataLoader(Subset(Pairs(), range(9)), shuffle=True))) == 9


def test_numpy_arrays_as_inputs_and_class_names():
    x, y = {"a": np.zeros((6, 2), np.float32), "b": np.ones(6, np.uint8)}, np.arange(6) % 2
    data = as_data((x, y), classes=np.array(["ant", "bee"]))
    batch = next(data.samples().batches(6))
    assert batch.x["a"].shape == (6, 2) and data.classes == ["ant", "bee"]
    assert StreamData(Pairs(), classes=np.array(["ant", "bee"])).classes == data.classes
    assert batch.x["b"].dtype == torch.uint8, "a byte mask is not an image"


def test_named_inputs_are_neither_augmented_nor_normalised():
    x, y, half = {"pixels": torch.rand(6, 3, 4, 4)}, torch.arange(6) % 2, (0.5,) * 3
    for more in ({"augment": CropFlip(1)}, {"normalize": Normalize(half, half)}):
        with pytest.raises(ExpungeError, match=r"several named inputs \(pixels\)"):
            TensorData(x, y, **more)
        with pytest.raises(ExpungeError, match=r"several named inputs \(input_ids, mask\)"):
            next(StreamData(Dicts(), **more).samples().batches(2))
