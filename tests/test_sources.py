"""Data by name: what each source reads, and every broken or hostile file is refused. Real sets need EXPUNGE_DATA."""

import gzip
import os
import pickle
import re
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from expunge import CropFlip, ExpungeError, Normalize, Split, SplitError, StreamData, TensorData
from expunge.data.resize import Resize
from expunge.sources import FASHION_CLASSES, formats, load, preview

DATA = os.environ.get("EXPUNGE_DATA")
real = pytest.mark.skipif(not DATA, reason="EXPUNGE_DATA is not set: no real Fashion-MNIST and CIFAR-10")


def refused(spec):
    with pytest.raises(ExpungeError) as caught:
        load(spec)
    return caught.value


def test_digits():
    source = load("digits")
    assert len(source.train) + len(source.test) == 1797 and source.shape == (1, 8, 8)
    assert source.train.x.dtype == torch.uint8 and int(source.train.x.max()) == 255
    share = torch.bincount(source.test.labels).numpy() / np.bincount(load_digits().target)
    assert (abs(share - 0.2) < 0.004).all()
    assert source.train.fingerprint() == load("digits").train.fingerprint()
    rows = {r.numpy().tobytes() for r in source.train.x} & {r.numpy().tobytes() for r in source.test.x}
    assert not rows, "no image is in both sets"


def test_limit_is_exact_stratified_and_fixed_by_its_seed():
    whole = load("digits").train
    for n in (10, 137, 1000, len(whole)):
        part = load(f"digits?limit={n}").train
        fair = torch.bincount(whole.labels).double() * n / len(whole)
        assert len(part) == n and ((torch.bincount(part.labels) - fair).abs() < 1).all()
    draws = [load(f"digits?limit=137&seed={s}").train.fingerprint() for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("digitz", "there is no data 'digitz'"),
        ("digitz:400", "there is no data 'digitz:400'; known: digits"),
        ("npz", "names no file; write npz:FILE"),
        ("digits?limit=x", "give a whole number of 1 or more"),
        ("digits?limit=0", "give a whole number of 1 or more"),
        ("digits?limit=99999", "more than the 1"),
        ("digits?size=3", "no option of digits"),
        ("digits?augment=yes", "augment=yes is not allowed; give 0, 1 or crop"),
        ("folder:/nowhere?hold=1&workers=2", "workers have nothing to do"),
        ("folder:/nowhere?channels=2", "channels=2 is not allowed; give 1 or 3"),
        ("folder:/nowhere", "0 class folders"),
        ("cifar10:/nowhere", "has no file of CIFAR-10; give a folder with train.parquet"),
        ("npz:/nowhere.npz", "cannot be read"),
        ("not_a_module:f", "cannot be imported"),
        ("csv:some.csv", "write text:some.csv"),
        ("some.jsonl?limit=3", "write text:some.jsonl"),
    ],
)
def test_wrong_specs_are_refused(spec, words):
    assert words in str(refused(spec))


def test_one_error_lists_all_wrong_options():
    assert len(refused("digits?limit=x&seed=-1&colour=3").problems) == 3


# IDX


def idx(array, value_type=8):
    return struct.pack(f">HBB{array.ndim}I", 0, value_type, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path):
    for part, n, pack in (("train", 20, gzip.compress), ("t10k", 10, bytes)):
        x, y = np.arange(n * 28 * 28, dtype=np.uint8).reshape(n, 28, 28), np.arange(n, dtype=np.uint8) % 10
        end = ".gz" if pack is gzip.compress else ""
        (tmp_path / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(x)))
        (tmp_path / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(y)))
    return tmp_path


def test_fashion_plain_and_gzipped(fashion):
    source = load(f"fashion-mnist:{fashion}")
    assert (len(source.train), len(source.test), source.shape) == (20, 10, (1, 28, 28))
    assert source.classes == list(FASHION_CLASSES) and source.train.x[0, 0, 0, 5] == 5


def test_one_error_lists_all_broken_idx_files(fashion):
    (fashion / "train-images-idx3-ubyte.gz").unlink()
    whole = fashion / "t10k-images-idx3-ubyte"
    whole.write_bytes(whole.read_bytes()[:-1])
    labels = fashion / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros((10, 2), np.uint8)))
    problems = refused(f"fashion-mnist:{fashion}").problems
    assert len(problems) == 4
    for words in ("has no train-images", "7,839 bytes follow", "cut off", "has 2 axes instead of 1"):
        assert any(words in p for p in problems), words


@pytest.mark.parametrize(
    "head", [b"", b"\0\0", b"\0\0\x0d\x01\0\0\0\0", b"\x1f\x8b" * 9, b"\0\0\x08\xff" + b"\xff" * 99]
)
def test_files_that_are_no_idx(tmp_path, head):
    for name in ("a", "b.gz"):
        (tmp_path / name).write_bytes(head)
        with pytest.raises(ExpungeError):
            formats.read_idx(tmp_path, name.removesuffix(".gz"), 1)


def test_images_and_labels_that_differ_in_number(fashion):
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(9, 11, np.uint8)))
    assert len(refused(f"fashion-mnist:{fashion}").problems) == 2


# CIFAR-10


def test_the_binary_and_the_python_version_hold_the_same(tmp_path):
    rng = np.random.default_rng(0)
    for number in [*range(1, 6), 0]:
        x, y = rng.integers(0, 256, (4, 3072), np.uint8), rng.integers(0, 10, 4)
        name = f"data_batch_{number}" if number else "test_batch"
        for folder in ("bin", "py"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "bin" / f"{name}.bin").write_bytes(np.column_stack([y.astype(np.uint8), x]).tobytes())
        (tmp_path / "py" / name).write_bytes(pickle.dumps({b"data": x, b"labels": y.tolist()}, 2))
    binary, python = load(f"cifar10:{tmp_path / 'bin'}"), load(f"cifar10:{tmp_path / 'py'}")
    assert binary.train.fingerprint() == python.train.fingerprint() and len(binary.train) == 20
    assert binary.test.fingerprint() == python.test.fingerprint()
    assert binary.train.augment == CropFlip(4) and binary.test.augment is None


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def test_pickle_code_is_never_run(tmp_path):
    mark = tmp_path / "owned"
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Bomb(mark), b"labels": [1]}))
    assert "system, which no data file needs" in str(refused(f"cifar10:{tmp_path}"))
    assert not mark.exists()
    np.savez(tmp_path / "b.npz", x_train=np.array([Bomb(mark)], dtype=object))
    assert "which may hold pickled objects" in str(refused(f"npz:{tmp_path / 'b.npz'}")) and not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, pickle.dumps([1]), pickle.dumps({b"data": 3, b"labels": [1]})]
)
def test_files_that_are_no_cifar(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (formats.read_cifar_binary, formats.read_cifar_pickle, formats.read_image_parquet):
        with pytest.raises(ExpungeError):
            read(path)


def png(size=(6, 5), colour=(255, 0, 0)):
    import io

    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "png")
    return out.getvalue()


def test_parquet_names_every_broken_image(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    def table(images):
        rows = [{"bytes": i, "path": None} for i in images]
        parquet.write_table(
            pa.table({"img": rows, "label": list(range(len(images)))}), tmp_path / "t.parquet"
        )
        return tmp_path / "t.parquet"

    x, y = formats.read_image_parquet(table([png(), png(colour=(0, 255, 0))]))
    assert (
        x.shape == (2, 3, 5, 6) and x[0, 0].eq(255).all() and x[1, 1].eq(255).all() and y.tolist() == [0, 1]
    )
    with pytest.raises(ExpungeError) as caught:
        formats.read_image_parquet(table([png(), b"junk", None, png()[:40]]))
    assert len(caught.value.problems) == 3
    with pytest.raises(ExpungeError, match="2 sizes"):
        formats.read_image_parquet(table([png(), png((4, 4))]))


# folders of images


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(("ant", "bee")):
        (tmp_path / name / "deep").mkdir(parents=True)
        for n in range(10):
            Image.new("RGB", (10, 12), (k * 255, n, 0)).save(
                tmp_path / name / ("deep" if n < 5 else "") / f"{n}.png"
            )
    return tmp_path


def test_limits_of_both_sets_and_no_augmentation(tmp_path):
    source = load("digits?limit=200&test_limit=50&augment=0")
    assert (len(source.train), len(source.test)) == (200, 50) and source.train.augment is None
    assert torch.bincount(source.test.labels).tolist() == [5] * 10
    assert source.name == "digits, 200 training samples, 50 test samples"
    record = np.zeros((20, 3073), np.uint8)
    record[:, 0] = np.arange(20) % 10
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        record.tofile(tmp_path / f"{name}.bin")
    assert load(f"cifar10:{tmp_path}").train.augment is not None
    plain = load(f"cifar10:{tmp_path}?augment=0")
    assert plain.train.augment is None and plain.name == "CIFAR-10, not augmented"


def test_a_folder_takes_no_python_object_for_each_image(folder):
    """Names are one NumPy array and labels one tensor, which forked workers share."""
    source = load(f"folder:{folder}?size=8&limit=10&hold=0")
    images = source.train.dataset.dataset
    assert isinstance(images.names.dtype, np.dtypes.StringDType) and isinstance(images.targets, torch.Tensor)
    assert isinstance(source.train.dataset.indices, np.ndarray)
    assert isinstance(source.train.ids.dtype, np.dtypes.StringDType)
    names = [source.train.ids[3], source.train.ids[0]]
    split = Split.by_ids(source.train, source.test, names, validation=0)
    assert sorted(split.forget.ids) == sorted(names)
    with pytest.raises(SplitError, match="unknown"):
        Split.by_ids(source.train, source.test, ["no"])


def test_class_folders(folder):
    source = load(f"folder:{folder}?size=8")
    assert (len(source.train), len(source.test), source.shape) == (16, 4, (3, 8, 8))
    assert source.classes == ["ant", "bee"] and torch.bincount(source.test.labels).tolist() == [2, 2]
    assert not set(source.train.ids) & set(source.test.ids)
    batch = next(source.train.samples().batches(16))
    assert batch.x.shape == (16, 3, 8, 8) and torch.equal((batch.x[:, 0].mean((1, 2)) > 0.5).long(), batch.y)
    split = Split.by_group(source.train, source.test, "folder", ["deep"])
    assert all("deep/" in i for i in split.forget.ids)
    limited = load(f"folder:{folder}?size=8&limit=6").train
    assert len(limited) == 6 and torch.equal(next(limited.samples().batches(6)).y, limited.labels)


@pytest.mark.parametrize(
    ("option", "filter"),
    [("", Image.Resampling.BICUBIC), ("&interpolation=bilinear", Image.Resampling.BILINEAR)],
)
def test_crops_of_images_of_any_shape(tmp_path, option, filter):
    """The cut of torchvision's Resize(8) and CenterCrop(6): the long side is truncated, offsets round half to even."""
    draw = np.random.default_rng(0)
    sizes = [(9, 25), (25, 9), (8, 8), (31, 17), (6, 7), (3, 2)]
    for n, size in enumerate(sizes * 2):
        (tmp_path / "ab"[n % 2]).mkdir(exist_ok=True)
        pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "ab"[n % 2] / f"{n:02}.png")
    source = load(f"folder:{tmp_path}?size=8&crop=6{option}")
    assert source.shape == (3, 6, 6) and source.train.read_as == f"size=8&crop=6{option}"
    for data in (source.train, source.test):
        x = next(data.samples().batches(99)).x
        for name, cut in zip(data.ids, x, strict=True):
            with Image.open(tmp_path / str(name)) as image:
                w, h = image.size
                wide, high = (8, int(8 * h / w)) if w <= h else (int(8 * w / h), 8)
                left, top = round((wide - 6) / 2.0), round((high - 6) / 2.0)
                resized = np.asarray(image.resize((wide, high), filter))
            wanted = torch.from_numpy(resized[top : top + 6, left : left + 6].copy()).permute(2, 0, 1) / 255
            assert torch.equal(cut, wanted)
    assert load(f"folder:{tmp_path}?crop=4").shape == (3, 4, 4)
    grey = load(f"folder:{tmp_path}?size=5&channels=1&limit=4")
    assert grey.shape == (1, 5, 5) and grey.train.read_as == "size=5&channels=1"
    assert next(grey.train.samples().batches(4)).x.shape == (4, 1, 5, 5)
    assert load(f"folder:{tmp_path}").train.read_as == "size=64"
    assert "give bicubic or bilinear" in str(refused(f"folder:{tmp_path}?interpolation=nearest"))
    assert "crop=9 is more than size=8" in str(refused(f"folder:{tmp_path}?size=8&crop=9"))


def test_the_layout_of_imagenet(folder, tmp_path_factory):
    """train/ and val/ are parts, not classes. test/ comes first. train/ alone is refused."""
    for name in ("val", "valid", "validation"):
        root = tmp_path_factory.mktemp("parts")
        os.symlink(folder, root / "train")
        assert "has train/ but none of test, val" in str(refused(f"folder:{root}?size=8"))
        os.symlink(folder, root / name)
        source = load(f"folder:{root}?size=8")
        assert source.classes == ["ant", "bee"] and len(source.train) == len(source.test) == 20
        assert all(i.startswith(f"{name}/") for i in source.test.ids)
    os.symlink(folder, root / "test")
    assert load(f"folder:{root}?size=8").test.ids[0].startswith("test/")


def test_hidden_folders_are_ignored_and_empty_classes_are_refused(folder):
    shutil.copytree(folder / "ant", folder / ".ipynb_checkpoints")
    shutil.copytree(folder / "bee", folder / "ant" / ".ipynb_checkpoints")
    (folder / "bee" / "._1.png").write_bytes(b"")
    source = load(f"folder:{folder}?size=8")
    assert source.classes == ["ant", "bee"] and len(source.train) + len(source.test) == 20
    for name in ("cat", "dog"):
        (folder / name).mkdir()
    problems = refused(f"folder:{folder}?size=8").problems
    assert [p.partition(" has no images")[0][-3:] for p in problems] == ["cat", "dog"]


def test_grey_images_of_16_bits_are_scaled(tmp_path):
    """Pillow's own conversion clips them at 255."""
    deep = np.array([[0, 257, 300], [32_768, 65_278, 65_535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    head = b"P5 3 2 65535\n"
    (tmp_path / "c.pgm").write_bytes(head + deep.astype(">u2").tobytes())
    for name in ("a.png", "c.pgm"):
        with Image.open(tmp_path / name) as image:
            assert image.mode.startswith("I")
            wanted = Image.fromarray((deep / 257).round().astype(np.uint8))
            for channels in (1, 3):
                assert torch.equal(Resize(6, channels=channels)(image), Resize(6, channels=channels)(wanted))


def test_the_augment_option(folder):
    plain, both, shifted = (load(f"folder:{folder}?size=16{m}") for m in ("", "&augment=1", "&augment=crop"))
    assert plain.train.augment is None and both.test.augment is None
    assert both.train.augment == CropFlip(2, flip=True) and both.name == f"{plain.name}, shifted and flipped"
    assert shifted.train.augment == CropFlip(2, flip=False) and shifted.name == f"{plain.name}, shifted"
    draw = torch.Generator().manual_seed(0)
    x = next(shifted.train.samples().batches(16, augment=draw)).x
    assert not torch.equal(x, next(shifted.train.samples().batches(16)).x)
    assert load("digits?augment=crop").train.augment == CropFlip(1, flip=False)


def test_cifar10_is_augmented_by_default(tmp_path):
    record = np.zeros((20, 3073), np.uint8)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        record.tofile(tmp_path / f"{name}.bin")
    assert load(f"cifar10:{tmp_path}?augment=1").name == load(f"cifar10:{tmp_path}").name == "CIFAR-10"


def test_train_and_test_folders_and_every_broken_image(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for part in ("train", "test"):
        os.symlink(folder, root / part)
    assert len(load(f"folder:{root}").test) == 20
    (folder / "ant" / "7.png").write_bytes(b"junk")
    (folder / "bee" / "8.png").write_bytes(b"")
    assert len(refused(f"folder:{folder}").problems) == 2
    (root / "test").unlink()
    for name in ("ant", "bee", "wasp"):
        (root / "test" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / "test" / name / "1.png")
    problems = refused(f"folder:{root}").problems
    assert len(problems) == 1 and "wasp is a class that" in problems[0]
    shutil.rmtree(root / "test" / "wasp")
    assert len(refused(f"folder:{root}").problems) == 2, "images are opened once the folders are right"


def test_workers_decode_the_same_images(folder):
    sources = [
        load(f"folder:{folder}?size=8&limit=11{more}") for more in ("&hold=0", "&workers=1", "", "&hold=1")
    ]
    plain, with_worker, held, asked = (s.train for s in sources)
    assert (
        (plain.workers, with_worker.workers) == (0, 1)
        and isinstance(held, TensorData)
        and isinstance(asked, TensorData)
    )
    assert plain.dataset[0][0].dtype == held.x.dtype == torch.uint8
    passes = [list(d.samples().batches(4)) for d in (plain, with_worker, held)]
    for a, b, c in zip(*passes, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and a.x.dtype == torch.float32
        assert torch.equal(a.x, c.x) and torch.equal(a.y, c.y)
    # The ways of reading do not change the identity of the data.
    assert (
        len({d.fingerprint() for d in (plain, with_worker, held)})
        == 1
        == len({d.preparation for d in (plain, held)})
    )
    assert plain.ids.tolist() == held.ids.tolist() and plain.groups.keys() == held.groups.keys()


def test_folders_above_the_memory_limit_are_streamed(folder, monkeypatch):
    monkeypatch.setattr("expunge.sources.loading.MEMORY_LIMIT", 20 * 3 * 8 * 8 - 1)  # 20 images
    assert isinstance(load(f"folder:{folder}?size=8").train, StreamData)
    assert isinstance(load(f"folder:{folder}?size=8&test_limit=3").train, TensorData)


def test_an_unchecked_broken_image_raises_when_it_is_read(folder):
    (folder / "ant" / "7.png").write_bytes(b"junk")
    (folder / "ant" / "8.png").write_bytes(b"")
    assert (
        len(refused(f"folder:{folder}?size=8&check=0").problems) == 2
    )  # held in memory, so all are read now
    source = load(f"folder:{folder}?size=8&check=0&hold=0")
    with pytest.raises(ExpungeError, match=r"[78]\.png cannot be read as an image"):
        for data in (source.train, source.test):
            list(data.samples().batches(9))


# NumPy archives and factories


def arrays(**more):
    sets = {"x_train": np.zeros((6, 1, 4, 4), np.uint8), "y_train": np.arange(6) % 3}
    return {**sets, "x_test": np.zeros((3, 1, 4, 4), np.uint8), "y_test": np.arange(3), **more}


def test_npz_with_ids_groups_names_and_several_inputs(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(
        path, **arrays(ids=np.array(list("abcdef")), user=np.array([1, 1, 2, 2, 3, 3]), classes=list("xyz"))
    )
    source = load(f"npz:{path}")
    assert source.classes == ["x", "y", "z"] and source.shape == (1, 4, 4) and source.name == "some"
    # all images of this archive are equal
    split = Split.by_group(source.train, source.test, "user", [2], validation=0, copies="ignore")
    assert split.forget.ids == ["c", "d"]
    text = arrays()
    for part, n in (("train", 6), ("test", 3)):
        del text[f"x_{part}"]
        text[f"x_{part}.input_ids"] = np.ones((n, 5), np.int64)
        text[f"x_{part}.attention_mask"] = np.ones((n, 5), np.int64)
    np.savez(path, **text)
    source = load(f"npz:{path}?limit=3")
    assert (
        set(source.train.x) == {"input_ids", "attention_mask"}
        and source.shape == (5,)
        and len(source.train) == 3
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"y_train": np.ones(6)}, "float64"),
        ({"y_train": np.zeros((6, 2), int)}, "shape (6, 2)"),
        ({"y_test": -np.ones(3, int)}, "whole number from 0"),
        ({"y_train": np.array(3)}, "y_train is int64 of shape ()"),
        ({"y_train": np.array([True] * 6)}, "y_train is bool"),
        (
            {"y_train": np.array(list("abcabc"))},
            "one of y_train and y_test has numbers and the other has names",
        ),
        ({"y_train": np.array([0, 1, 2, 0, 1, 10**9])}, "labels go to 1000000000, but only 4 values occur"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2**63], np.uint64)}, "labels go to 9223372036854775808"),
        ({"classes": np.array("x")}, "`classes` is <U1 of shape ()"),
        ({"classes": list("xxy")}, "`classes` has the names ['x'] more than once"),
        ({"ids": np.zeros((6, 2), str)}, "ids is <U1 of shape (6, 2)"),
        ({"ids": np.ones(6)}, "ids is float64"),
        ({"x_train": np.array(1.0)}, "x_train is float64 of shape ()"),
        ({"x_train": np.array([["a"]] * 6)}, "x_train is <U1 of shape (6, 1)"),
        ({"x_train": np.zeros((6, 2), "M8[s]")}, "x_train is datetime64[s]"),
        ({"x_train": np.zeros((6, 2), np.longdouble)}, "x_train is"),
        ({"x_test": np.zeros((3, 1, 5, 5), np.uint8)}, "an input of the test data is of shape (1, 5, 5)"),
        (
            {"x_test": np.zeros((3, 1, 4), np.float32)},
            "of shape (1, 4) (floats), of the training data of shape (1, 4, 4)",
        ),
        ({"x_train": np.full((6, 3), np.nan), "x_test": np.zeros((3, 3))}, "6 training samples hold NaN"),
        ({"y_train": np.arange(5)}, "[6] inputs and 5 labels"),
        ({"classes": ["one"]}, "labels go up to 2"),
        ({"user": np.arange(5)}, "user has the shape (5,) and there are 6 training samples"),
        ({"x_train": np.zeros((6, 8, 8, 3), np.uint8)}, "x_train.transpose(0, 3, 1, 2)"),
    ],
)
def test_npz_files_with_wrong_arrays(tmp_path, more, words):
    np.savez(tmp_path / "a.npz", **arrays(**more))
    assert words in str(refused(f"npz:{tmp_path / 'a.npz'}"))


def test_npz_files_of_another_machine_and_with_names(tmp_path):
    """Arrays of the other byte order, labels that are names, dates as groups."""
    big = {"x_train": np.arange(24, dtype=">f4").reshape(6, 4), "y_train": (np.arange(6) % 3).astype(">i8"),
           "x_test": np.zeros((3, 4), ">f8"), "user": np.arange(6).astype(">u2")}  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays(**big, day=np.array(["2020-01-02"] * 6, "M8[D]")))
    source = load(f"npz:{tmp_path / 'a.npz'}")
    assert source.train.x.tolist() == np.arange(24).reshape(6, 4).tolist()
    assert source.train.labels.tolist() == [0, 1, 2] * 2
    for column, value, count in (("user", "5", 1), ("day", "2020-01-02", 5)):
        chosen = (source.train.groups[column].astype(str) == value).sum()
        assert chosen == (1 if column == "user" else 6) >= count
    names = {"y_train": np.array(["10", "9", "b"] * 2), "y_test": np.array(["b", "9", "10"])}
    np.savez(tmp_path / "b.npz", **arrays(**names))
    source = load(f"npz:{tmp_path / 'b.npz'}")
    assert source.classes == ["10", "9", "b"] and source.test.labels.tolist() == [2, 1, 0]
    np.savez(tmp_path / "c.npz", **arrays(**names, classes=np.array(["b", "10", "9"])))
    source = load(f"npz:{tmp_path / 'c.npz'}")
    assert source.classes == ["b", "10", "9"] and source.test.labels.tolist() == [0, 2, 1]


def member(header, content=b"", version=(1, 0)):
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + content


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "x.npy",
            member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,), }"),
            "cannot be read",
        ),
        (
            "x.npy",
            member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
            "but holds 0 bytes",
        ),
        (
            "x.npy",
            member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", b"abcd"),
            "declares the shape (-1,)",
        ),
        (
            "x.npy",
            member(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"abcd"),
            "pickled objects",
        ),
        ("x.npy", member(b"[" * 9000), "cannot be read"),
        ("x.npy", member(b" " * 20_000, version=(2, 0)), "its header has 20,000 bytes"),
        ("x.npy", member(b"", version=(9, 9)), "cannot be read"),
        ("x.npy", b"", "cannot be read"),
        ("x.txt", b"hello", "it is no array"),
    ],
)
def test_npz_members_that_are_not_what_they_declare(tmp_path, name, content, words):
    import zipfile

    np.savez(tmp_path / "a.npz", **arrays())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr(name, content)
    assert words in str(refused(f"npz:{tmp_path / 'a.npz'}"))
    assert preview(f"npz:{tmp_path / 'a.npz'}") is None


def test_archives_are_not_inflated_without_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.sources.regular_files.INFLATED_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", **arrays(), big=np.zeros(1 << 20))
    assert "would grow from" in str(refused(f"npz:{tmp_path / 'a.npz'}"))
    np.savez(tmp_path / "a.npz", **arrays(user=np.arange(6)))
    assert len(load(f"npz:{tmp_path / 'a.npz'}").train) == 6
    bomb = gzip.compress(idx(np.zeros(4, np.uint8)) + bytes(1 << 24))
    (tmp_path / "b.gz").write_bytes(bomb)
    with pytest.raises(ExpungeError, match="5 bytes or more follow"):
        formats.read_idx(tmp_path, "b", 1)


def test_named_pipes_in_place_of_data_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    assert "is a named pipe (FIFO)" in str(refused(f"npz:{tmp_path / 'a.npz'}"))
    assert preview(f"npz:{tmp_path / 'a.npz'}") is None
    os.mkfifo(tmp_path / "train.parquet")
    for name in ("train.parquet", "data_batch_1", "data_batch_1.bin"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        with pytest.raises(ExpungeError):
            load(f"cifar10:{tmp_path}")
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    "labels", [[0, None], [0.0, float("nan")], [0, -1], [0, 10], ["a", "b"], [True, False]]
)
def test_labels_of_an_image_parquet_are_checked(tmp_path, labels):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"img": [{"bytes": png(), "path": None}] * 2, "label": labels})
    for part in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{part}.parquet")
    assert re.search(
        "labels that are no whole numbers from 0 to 9|cannot be read", str(refused(f"cifar10:{tmp_path}"))
    )


def test_npz_files_that_are_incomplete_or_broken(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    assert "['x_test', 'y_train', 'y_test']" in str(refused(f"npz:{tmp_path / 'a.npz'}"))
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", b"junk", whole[: len(whole) // 2]):
        (tmp_path / "a.npz").write_bytes(content)
        assert "cannot be read" in str(refused(f"npz:{tmp_path / 'a.npz'}"))


def test_factories(tmp_path, monkeypatch):
    (tmp_path / "my_sources.py").write_text(
        "import torch\n"
        "def pair(): return (torch.rand(6, 3), torch.arange(6) % 2), (torch.rand(4, 3), torch.arange(4) % 2)\n"
        "def bad(): return 3\n"
        "def empty(): return (torch.rand(0, 3), torch.arange(0)), (torch.rand(0, 3), torch.arange(0))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    source = load("my_sources:pair?limit=4")
    assert isinstance(source.train, TensorData) and len(source.train) == 4 and source.shape == (3,)
    assert source.classes == ["0", "1"]
    assert "returned int" in str(refused("my_sources:bad"))
    assert len(refused("my_sources:empty").problems) == 2
    sys.modules.pop("my_sources")


# the real sets


@real
def test_real_fashion_mnist():
    x, y = (
        formats.read_idx(Path(DATA) / "fashion-mnist", f"t10k-{n}", r)
        for n, r in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1))
    )
    assert x.shape == (10_000, 28, 28) and np.bincount(y).tolist() == [1000] * 10


@real
def test_real_cifar10():
    x, y = formats.read_image_parquet(Path(DATA) / "cifar10-jpeg" / "test.parquet")
    assert x.shape == (10_000, 3, 32, 32) and torch.bincount(y).tolist() == [1000] * 10
    assert (x.float().mean((0, 2, 3)) / 255 - torch.tensor([0.494, 0.485, 0.450])).abs().max() < 0.01


def test_normalised_images(folder, tmp_path):
    """Held and streamed data give the same numbers. The data itself and shown images do not change."""
    from expunge.audit.pictures import pictures

    plain, mean, std = load(f"folder:{folder}?size=4"), (0.5, 0.25, 0.125), (0.5, 2.0, 4.0)
    texts = ",".join(map(str, mean)), ",".join(map(str, std))
    source = load(f"folder:{folder}?size=4&mean={texts[0]}&std={texts[1]}")
    assert source.name == f"{plain.name}, mean {texts[0]}, std {texts[1]}" and plain.train.normalize is None
    for part in ("train", "test"):
        before, after = (next(getattr(s, part).samples().batches(100)).x for s in (plain, source))
        wanted = (before - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        assert torch.equal(after, wanted)
        assert pictures(getattr(source, part).samples()) == pictures(getattr(plain, part).samples())
    kept = torch.rand(6, 3, 4, 4)
    held = TensorData(kept.clone(), torch.arange(6) % 2, normalize=Normalize(mean, std))
    twice = [next(held.samples().batches(6)).x for _ in range(2)]
    assert torch.equal(twice[0], twice[1]) and torch.equal(
        held.x, kept
    )  # float inputs do not change in place
    torch.testing.assert_close(held.normalize.undo(twice[0]), kept)
    named = tmp_path / "named.npz"
    half = {
        f"{part}_{p}": v
        for p in ("train", "test")
        for part, v in (("x", np.zeros((8, 3, 2, 2))), ("y", np.arange(8) % 2))
    }
    np.savez(
        named, **{k.replace("x_train", "x_train.a").replace("x_test", "x_test.a"): v for k, v in half.items()}
    )
    assert "one of several named inputs" in str(refused(f"npz:{named}?mean={texts[0]}&std={texts[1]}"))
    assert "a sample has several named inputs (a)" in str(refused(f"npz:{named}?augment=1"))
    small = load(f"folder:{folder}?size=4&limit=4&mean={texts[0]}&std={texts[1]}")
    assert (
        small.train.normalize == Normalize(mean, std)
        and source.train.fingerprint() == plain.train.fingerprint()
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("digits?mean=0.5", "mean and std belong together"),
        ("digits?limit=600&limit=300", "gives an option twice"),
        ("digits?mean=0.5&std=0", "each std above 0"),
        ("digits?mean=0.5,x&std=nan", "mean=0.5,x is no list of numbers"),
        ("digits?mean=0.5,0.5,0.5&std=1,1,1", r"have 3 numbers and an input has the shape \(1, 8, 8\)"),
        ("digits?mean=0.5&std=1,1", "mean has 1 numbers and std has 2"),
    ],
)
def test_wrong_normalisation_is_refused(spec, words):
    assert re.search(words, str(refused(spec)))
