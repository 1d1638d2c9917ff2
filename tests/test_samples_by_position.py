"""Data without ids: another order, or tensors that changed in place, are found by the contents of the forgotten samples."""

import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from expunge import Classification, Session, Split, TensorData, find, unlearn
from expunge.data.convert import as_data
from expunge.data.copy_hashes import hashes_of
from expunge.data.past_requests import PastRequest, requests_of
from expunge.data.sample_contents import changed_problems, contents_of
from expunge.errors import CheckpointError, SplitError
from expunge.records.request_file import read_requests, write_requests

Y = torch.arange(60) % 3
CHANGED = "of the 4 samples of an earlier request .ids., which names them by position, have other contents"


def images():
    return torch.randn(60, 5, generator=torch.Generator().manual_seed(0))


class Items(Dataset):
    """Items with the labels as `targets`, which is how a data set names them without being read."""

    def __init__(self, x, noise=False):
        self.x, self.noise, self.targets, self.read = x, noise, Y.tolist(), []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        self.read.append(k)
        return self.x[k] + (random.random() if self.noise else 0), int(Y[k])


def reordered(x):
    """The same samples in another order. The labels stay in their order."""
    order = torch.arange(60)
    for k in range(3):
        order[k == Y] = order[k == Y].roll(1)
    assert (Y[order] == Y).all()
    return x[order]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def session(model, train):
    method = find("finetune")(epochs=3, lr=0.5, batch_size=16)
    return Session(model, (train, (images(), Y)), Classification(3), method)


def forgets(session, *ids):
    with warnings.catch_warnings(action="ignore"):
        return session.forget(ids=list(ids))


def test_a_data_set_in_another_order_is_refused(model):
    """Labels, length and ids are the same. All forgotten contents were in the retain set of the next run."""
    first = session(model, Items(images()))
    forgets(first, 0, 1, 2, 3)
    assert len(requests_of(first.model)[0].contents) == 4
    forgets(session(first.model, Items(images())), 9)
    with pytest.raises(SplitError, match=f"4 {CHANGED}.*give every sample an id"):
        forgets(session(first.model, Items(reordered(images()))), 9)


def test_one_changed_sample_is_found_and_others_are_not_compared(model):
    first = session(model, Items(images()))
    forgets(first, 0, 1, 2, 3)
    one, other = images(), images()
    one[2] += 1
    other[7] += 1
    forgets(session(first.model, Items(other)), 9)
    with pytest.raises(SplitError, match=f"1 {CHANGED}"):
        forgets(session(first.model, Items(one)), 9)


def test_a_data_set_that_changes_in_place_is_read_again_at_each_request(model):
    items = Items(images())
    first = session(model, items)
    forgets(first, 0, 1, 2, 3)
    forgets(first, 10)
    items.x.copy_(reordered(items.x))
    with pytest.raises(SplitError, match="have other contents"):
        forgets(first, 9)


@pytest.mark.parametrize("by", ["torch", "numpy"])
def test_tensors_that_change_in_place(model, by):
    x = images()
    first = session(model, (x, Y))
    before = first.setting.train.fingerprint(), hashes_of(first.setting.train).exact
    forgets(first, 0, 1, 2, 3)
    if by == "torch":
        x.copy_(reordered(x))
    else:
        # NumPy changes the memory of a tensor unseen
        x.numpy()[:] = reordered(x).numpy()
    with pytest.raises(SplitError, match="changed since"):
        forgets(first, 9)
    assert first.setting.train.fingerprint() != before[0]
    assert not np.array_equal(hashes_of(first.setting.train).exact, before[1])


def test_unlearn_finds_them_too(model):
    data, test, task = as_data(Items(images())), (images(), Y), Classification(3)
    method = find("finetune")(epochs=3, lr=0.5, batch_size=16)
    options = {"validation": 0, "copies": "ignore"}
    once = unlearn(model, Split.by_ids(data, test, [0, 1, 2, 3], **options), method, task)
    other = Split.by_ids(as_data(Items(reordered(images()))), test, [9], **options)
    with pytest.raises(SplitError, match=f"4 {CHANGED}"):
        unlearn(once, other, method, task)
    data.dataset.x.copy_(reordered(images()))
    with pytest.raises(SplitError, match=f"4 {CHANGED}"):
        unlearn(once, Split.by_ids(data, test, [9], **options), method, task)


def test_labels_that_change_in_place_change_what_a_class_request_has(model):
    y = Y.clone()
    first = session(model, TensorData(images(), y, ids=[f"p{k}" for k in range(60)]))
    with warnings.catch_warnings(action="ignore"):
        first.forget(classes=0)
    y[1] = 0
    assert "p1" not in forgets(first, "p4").outcome.run.split.retain.ids


# ---- data with ids


IDS = [f"p{k}" for k in range(60)]


def test_ids_and_groups_of_an_array_are_copied(model):
    """Before, an id that NumPy swapped after the first request named another sample, which was left out in its place."""
    ids = np.array(IDS, dtype=np.dtypes.StringDType())
    users = np.arange(60)
    data = TensorData(images(), Y, ids=ids, groups={"user": users})
    first = session(model, data)
    forgets(first, "p4")
    ids[4], ids[5], users[4] = "p5", "p4", 99
    assert data.ids.tolist() == IDS and data.groups["user"][4] == 4
    assert "p4" not in forgets(first, "p9").outcome.run.split.retain.ids
    with pytest.raises(ValueError, match="read-only"):
        data.ids[0] = "x"
    # texts of fixed width, lists, and an array that nobody can write to
    for given in (np.array(IDS), IDS):
        assert not TensorData(images(), Y, ids=given).ids.flags.writeable
    assert TensorData(images(), Y, ids=data.ids).ids is data.ids
    assert np.array(IDS).flags.writeable


@pytest.mark.parametrize("kind", ["tensors", "numpy", "data set"])
def test_contents_that_change_under_their_ids_are_told(model, kind):
    """The wrong samples are left out then, and an id alone does not show it. Equal contents, and other samples, are no reason."""
    x = images()
    if kind == "data set":
        data = as_data(Items(x), ids=IDS)
    else:
        data = TensorData(x.numpy() if kind == "numpy" else x, Y, ids=IDS)
    first = session(model, data)
    forgets(first, "p4", "p5")
    assert len(first.requests[0].contents) == 2

    def told():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            first.forget(ids=["p9"])
        texts = [str(w.message) for w in caught if "under their ids" in str(w.message)]
        first.answers.pop()
        return texts

    memory = x.numpy()
    memory[20] += 1
    assert told() == []
    memory[[4, 30]] = memory[[30, 4]]
    (text,) = told()
    assert text.startswith(
        "1 of the 2 samples of an earlier request (ids) have other contents under their ids"
    )


def test_labels_that_numpy_changes_change_what_a_class_request_has(model):
    y = Y.numpy().copy()
    first = session(model, TensorData(images(), y, ids=IDS))
    with warnings.catch_warnings(action="ignore"):
        first.forget(classes=0)
    assert first.requests[0].contents == ()
    y[1] = 0
    assert "p1" not in forgets(first, "p4").outcome.run.split.retain.ids


def test_a_given_fingerprint_stays_while_nothing_changes():
    """Reading it notes a checksum; the data is hashed again only after a change."""
    x = images()
    data = TensorData(x, Y, fingerprint="ab" * 32)
    data.look_again()
    assert data.fingerprint() == "ab" * 32 and data.version == (0, *data.version[1:])
    data.look_again()
    assert data.fingerprint() == "ab" * 32
    x.numpy()[3] += 1
    assert data.fingerprint() == "ab" * 32, "the negative control: nobody has looked"
    data.look_again()
    assert data.fingerprint() == TensorData(x, Y).fingerprint()


def test_only_the_samples_of_the_request_are_read():
    items = Items(images())
    data = as_data(items)
    items.read.clear()
    assert contents_of(data, torch.tensor([7, 3])) == contents_of(
        TensorData(images(), Y), torch.tensor([7, 3])
    )
    assert set(items.read) == {3, 7}


def test_random_transforms_cannot_be_compared(model):
    torch.manual_seed(0)
    noisy = Items(images(), noise=True)
    assert contents_of(as_data(noisy), torch.tensor([3, 7, 8])) == ()
    first = session(model, noisy)
    forgets(first, 0, 1, 2, 3)
    assert requests_of(first.model)[0].contents == () and forgets(first, 9)


def test_a_request_file_keeps_the_hashes_and_old_files_have_none(tmp_path):
    past = PastRequest("r", "ids", "untrain", ("0", "1"), "data", contents=("aa", "bb"))
    path = write_requests(tmp_path / "m.requests.json", [past])
    assert read_requests(path) == [past] and "contents" not in past.public()
    text = path.read_text()
    path.write_text(text.replace('"contents"', '"unknown"'))
    assert read_requests(path)[0].contents == ()
    path.write_text(text.replace('"bb"', "7"))
    with pytest.raises(CheckpointError, match="wrong or missing contents"):
        read_requests(path)


def test_a_position_after_the_end_of_the_data_has_changed():
    data = TensorData(images(), Y)
    contents = contents_of(data, torch.tensor([0, 59]))
    for ids, count in ((("0", "59"), 0), (("0", "60"), 2)):
        past = PastRequest("r", "ids", "untrain", ids, data=data.fingerprint(), contents=contents)
        found = changed_problems([past], data)
        assert len(found) == bool(count)
        assert not found or found[0].startswith("2 of the 2 samples of an earlier request")
