"""Images from tables of paths, WebDataset shards and torchvision: the same samples from each, and every fault is named."""

import io
import json
import os
import sys
import tarfile
import types
import unicodedata
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import ExpungeError, Split, StreamData, TensorData
from expunge.cli import main
from expunge.sources import load
from expunge.sources.shard_patterns import expanded

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
LABELS = ["cat", "dog"] * 10


def read(spec):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load(spec)
    return source, " ".join(str(w.message) for w in caught)


def refused(spec):
    with pytest.raises(ExpungeError) as caught:
        load(spec)
    return caught.value


def same_images(source, numbers):
    """Whether the samples are the images with these numbers, at size 8."""
    for data, of_part in zip((source.train, source.test), numbers, strict=True):
        wanted = torch.from_numpy(PIXELS[of_part]).permute(0, 3, 1, 2).float() / 255
        torch.testing.assert_close(torch.cat([b.x for b in data.samples().batches(7)]), wanted)
        assert [source.classes[y] for y in data.labels] == [LABELS[k] for k in of_part]


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    for k, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{k}.png")
    return tmp_path


def table(path, rows):
    names = list(rows[0])
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text("\n".join([",".join(names), *(",".join(str(r[n]) for n in names) for r in rows)]))
    return path


def rows(**more):
    return [
        {"path": f"pictures/{k}.png", "label": LABELS[k], "person": f"p{k % 4}", "age": k % 3, **more}
        for k in range(20)
    ]


# tables of image paths


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_of_image_paths(pictures, ending):
    path = table(pictures / f"list.{ending}", rows())
    source, told = read(f"images:{path}?size=8")
    numbers = [
        [int(i.removeprefix("pictures/").removesuffix(".png")) for i in d.ids]
        for d in (source.train, source.test)
    ]
    assert sorted(numbers[0] + numbers[1]) == list(range(20)) and len(numbers[1]) == 4 and not told
    same_images(source, numbers)
    streamed, _ = read(f"images:{path}?size=8&workers=1")
    assert isinstance(streamed.train, StreamData) and isinstance(source.train, TensorData)
    same_images(streamed, numbers)
    assert streamed.train.fingerprint() == source.train.fingerprint()
    split = Split.by_group(source.train, source.test, "person", "p1", validation=0)
    assert all(int(i.removeprefix("pictures/").removesuffix(".png")) % 4 == 1 for i in split.forget.ids)
    assert set(source.train.groups) == {"person", "age"} and set(source.train.groups["age"]) == {
        "0",
        "1",
        "2",
    }
    wanted = str(source.train.ids[0])
    for form in (wanted, f"./{wanted}", str(pictures / wanted), wanted.replace("/", "\\")):
        assert Split.by_ids(source.train, source.test, [form], validation=0).forget.ids == [wanted]


def test_columns_root_ids_and_a_test_table(pictures, tmp_path):
    (tmp_path / "lists").mkdir()
    made = [{"file": f"{k}.png", "kind": LABELS[k], "key": f"k{k}"} for k in range(20)]
    train, test = (
        table(tmp_path / "lists" / "a.csv", made[:12]),
        table(tmp_path / "lists" / "b.csv", made[12:]),
    )
    spec = f"images:{train}?test={test}&root={pictures / 'pictures'}&label=kind&id=key&size=8"
    source, _ = read(spec)
    same_images(source, [list(range(12)), list(range(12, 20))])
    assert source.train.ids.tolist() == [f"k{k}" for k in range(12)] and not source.train.groups
    absolute = table(
        tmp_path / "lists" / "c.csv",
        [{"image": pictures / "pictures" / f"{k}.png", "label": LABELS[k]} for k in range(20)],
    )
    assert len(load(f"images:{absolute}?size=8").train) == 16


def test_faults_of_a_table_of_image_paths_are_named_with_their_lines(pictures):
    def told(changed, query=""):
        return str(refused(f"images:{table(pictures / 'list.csv', changed)}?size=8{query}"))

    made = rows()
    made[3]["path"] = "pictures/none.png"
    os.mkfifo(pictures / "pipe.png")
    made[5]["path"] = "pipe.png"
    text = told(made)
    assert "line 5: there is no file" in text and "none.png" in text and "line 7: there is no file" in text
    made = rows()
    made[3]["path"] = made[2]["path"]
    assert "line 5 names pictures/2.png again" in told(made)
    made = rows()
    made[3]["label"] = ""
    assert "line 5 has no label" in told(made)
    assert "not 'kind'; name your columns: image=path&label=label" in told(rows(), "&label=kind")
    other = [{"pic": row["path"], "kind": row["label"], "n": k} for k, row in enumerate(rows())]
    text = told(other)
    assert "not 'image'; name your columns: image=pic&label=kind." in text and "not 'label'" in text
    assert len(load(f"images:{pictures / 'list.csv'}?size=8&image=pic&label=kind").train) == 16
    assert "has one class, 'cat'" in told([{**row, "label": "cat"} for row in rows()])
    (pictures / "pictures" / "3.png").write_bytes(b"junk")
    assert "3.png cannot be read as an image" in told(rows()) and "3.png cannot be read" in told(
        rows(), "&hold=0"
    )
    assert "or images:list.csv for a list of image files" in str(refused("list.csv?size=8"))
    assert "'tokenizer' is no option of images" in str(refused("images:list.csv?tokenizer=x"))


def test_paths_in_another_unicode_form(pictures):
    os.rename(pictures / "pictures" / "3.png", pictures / "pictures" / "cafe\u0301.png")
    made = rows()
    made[3]["path"] = "pictures/caf\u00e9.png"
    made[4]["path"] = "pictures\\4.png"
    source, _ = read(f"images:{table(pictures / 'list.csv', made)}?size=8")
    ids = [*source.train.ids.tolist(), *source.test.ids.tolist()]
    assert unicodedata.normalize("NFC", "pictures/caf\u00e9.png") in ids and "pictures\\4.png" in ids


def test_a_person_is_forgotten_on_the_command_line(pictures, capsys):
    table(pictures / "list.csv", rows())
    flags = ["--data", f"images:{pictures / 'list.csv'}?size=8", "--model", "mlp", "--validation", "0"]
    original, out = pictures / "o.safetensors", pictures / "u.safetensors"
    assert main(["train", *flags, "--epochs", "1", "--lr", "0.01", "--out", str(original)]) == 0, (
        capsys.readouterr().err
    )
    code = main(["unlearn", "salun", *flags, "--checkpoint", str(original), "--forget-group", "person=p1", "--epochs", "1",
                 "--trials", "0", "--out", str(out)])  # fmt: skip
    count = (load(f"images:{pictures / 'list.csv'}?size=8").train.groups["person"] == "p1").sum()
    assert f"forgets {count} of 16" in capsys.readouterr().err and code in (0, 1)


# WebDataset


def encoded(k, ending="png"):
    out = io.BytesIO()
    Image.fromarray(PIXELS[k]).save(out, "jpeg" if ending == "jpg" else ending)
    return out.getvalue()


def shard(path, numbers, label="cls", more=(), mode="w"):
    """One shard. `more` are (name, content) or `TarInfo`."""
    with tarfile.open(path, mode) as archive:
        for k in numbers:
            meta = {"person": f"p{k % 4}", "kind": LABELS[k], "tags": ["x"]}
            parts = [("png", encoded(k)), ("json", json.dumps(meta).encode())]
            for ending, content in [
                *parts,
                *([("cls", LABELS[k].encode() + b"\n")] if label == "cls" else []),
            ]:
                add(archive, f"{k:04}.{ending}", content)
        for item in more:
            archive.addfile(item) if isinstance(item, tarfile.TarInfo) else add(archive, *item)
    return path


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    "query", ["", "&label=kind", "&label=kind&hold=0", "&hold=0&workers=1", "&image=png"]
)
def test_webdataset_shards(tmp_path, query):
    for number in range(2):
        shard(
            tmp_path / f"train-{number:03}.tar",
            range(8 * number, 8 * number + 8),
            "" if "kind" in query else "cls",
        )
    shard(tmp_path / "val.tar", range(16, 20), "" if "kind" in query else "cls")
    for pattern in ("train-{000..001}.tar", "train-*.tar", "{train-000,train-001}.tar"):
        source, told = read(f"webdataset:{tmp_path / pattern}?test={tmp_path / 'val.tar'}&size=8{query}")
        same_images(source, [list(range(16)), list(range(16, 20))])
        assert source.train.ids.tolist() == [f"{k:04}" for k in range(16)] and not told
    assert isinstance(source.train, StreamData if "hold=0" in query else TensorData)
    assert set(source.train.groups) == ({"person"} if "kind" in query else {"person", "kind"})
    split = Split.by_group(source.train, source.test, "person", ["p3"], validation=0)
    assert split.forget.ids == ["0003", "0007", "0011", "0015"]


def test_a_folder_of_shards_with_equal_keys(tmp_path):
    for number in range(2):
        shard(tmp_path / f"{number}.tar", range(10))
    source, told = read(f"webdataset:{tmp_path}?size=8")
    ids = {*source.train.ids.tolist(), *source.test.ids.tolist()}
    assert len(ids) == 20 and {"0.tar/0003", "1.tar/0003"} <= ids and not told


def test_a_few_keys_that_shards_share_are_named(tmp_path):
    """A new shard with a reused key gives all samples other ids, so a project knows none of them."""
    shard(tmp_path / "0.tar", range(10))
    shard(tmp_path / "1.tar", [*range(10, 14), 7])
    source, told = read(f"webdataset:{tmp_path}?size=8")
    assert (
        "1 of 14 keys are in several shards (0007 in 0.tar and 1.tar), so all ids are SHARD/KEY. If the ids were"
        in told
    )
    assert "0.tar/0003" in {*source.train.ids.tolist(), *source.test.ids.tolist()}
    shard(tmp_path / "1.tar", [*range(10, 14), 1, 2, 3, 4])
    assert (
        "4 of 14 keys" in (told := read(f"webdataset:{tmp_path}?size=8")[1])
        and "0003 in 0.tar and 1.tar and 1 more" in told
    )


def test_ids_of_shard_samples_depend_on_no_path_and_no_order(tmp_path, monkeypatch):
    """Two folders with a `t.tar` each gave 15 ids for 30 samples, and another order of the folders other samples."""
    for number, folder in enumerate(("wa", "wb")):
        (tmp_path / "one" / folder).mkdir(parents=True)
        shard(
            tmp_path / "one" / folder / "t.tar",
            range(10 * number, 10 * number + 10),
            more=[("x.png", encoded(number)), ("x.cls", b"cat")],
        )
    contents = []

    def look(pattern):
        source, told = read(f"webdataset:{pattern}?size=8")
        pixels = torch.cat([b.x for d in (source.train, source.test) for b in d.samples().batches(7)])
        ids = [*source.train.ids.tolist(), *source.test.ids.tolist()]
        assert "x in wa/t.tar and wb/t.tar" in told and len(set(ids)) == 22
        contents.append(dict(zip(ids, pixels, strict=True)))
        return source.train.ids.tolist()

    first = look(tmp_path / "one" / "{wa,wb}" / "t.tar")
    assert "wa/t.tar/0003" in contents[0] and "wb/t.tar/0013" in contents[0]
    # listed in another order or twice, moved, by a relative path and through a link
    assert look(tmp_path / "one" / "{wb,wa}" / "t.tar") == first
    assert look(tmp_path / "one" / "{wa,wb,wa}" / "t.tar") == first
    monkeypatch.chdir(tmp_path / "one" / "wa")
    assert look("../{wa,wb}/t.tar") == first
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert look(tmp_path / "link" / "{wa,wb}" / "t.tar") == first
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").rename(tmp_path / "other")
    assert look(tmp_path / "other" / "{wa,wb}" / "t.tar") == first
    for content in contents[1:]:
        assert all(torch.equal(content[name], contents[0][name]) for name in contents[0])
    # the control: shards that share no key have the keys alone, whatever the shards are called
    shard(tmp_path / "other" / "wb" / "t.tar", range(10, 20))
    source, told = read(f"webdataset:{tmp_path / 'other'}/{{wb,wa}}/t.tar?size=8")
    assert {"0003", "0013"} <= {*source.train.ids.tolist(), *source.test.ids.tolist()} and not told


def test_an_image_with_two_endings_is_read_by_its_whole_ending(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for k in range(20):
            add(archive, f"{k:04}.img.png", encoded(k))
            add(archive, f"{k:04}.cls", LABELS[k].encode())
    spec = f"webdataset:{tmp_path / 'a.tar'}?size=8"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "but some in .img.png; give image=img.png." in str(refused(spec))
    # the list of unread files comes before the error
    assert "20 without an image, image=img.png reads these (first: 0000)" in str(caught[0].message)
    assert "no image that ends in .jpg, but some in .img.png" in str(refused(f"{spec}&image=jpg"))
    assert len(load(f"{spec}&image=img.png").train) == 16


def test_samples_with_several_images_are_refused_until_one_is_named(tmp_path):
    masks = [(f"{k:04}.jpg", encoded(19 - k)) for k in range(10)]
    file = shard(tmp_path / "a.tar", range(20), more=masks)
    assert (
        "a.tar: 10 samples hold several images, jpg, png (first: 0000); name the ending of the inputs: image=jpg."
        in str(refused(f"webdataset:{file}?size=8"))
    )
    source, _ = read(f"webdataset:{file}?size=8&image=png")
    assert len(source.train) + len(source.test) == 20
    # the control: a mask whose ending says so is no second input
    named = [(f"{k:04}.mask.png", encoded(19 - k)) for k in range(10)]
    source, _ = read(f"webdataset:{shard(tmp_path / 'b.tar', range(20), more=named)}?size=8")
    assert len(source.train) + len(source.test) == 20


def test_keys_that_begin_anew_in_the_test_shards_name_other_samples(tmp_path):
    train, test = shard(tmp_path / "train.tar", range(12)), tmp_path / "test.tar"
    with tarfile.open(test, "w") as archive:
        for k in range(8):
            add(archive, f"{k:04}.png", encoded(k + 12))
            add(archive, f"{k:04}.cls", LABELS[k + 12].encode())
    source, _ = read(f"webdataset:{train}?test={test}&size=8")
    assert source.test.ids.tolist() == [f"test/{k:04}" for k in range(8)]
    assert source.train.ids.tolist() == [f"{k:04}" for k in range(12)]
    assert Split.by_ids(source.train, source.test, ["0003"], validation=0).forget.ids == ["0003"]
    # the control: keys of their own stay
    other, _ = read(f"webdataset:{train}?test={shard(tmp_path / 'more.tar', range(12, 20))}&size=8")
    assert other.test.ids.tolist() == [f"{k:04}" for k in range(12, 20)]


def test_what_a_shard_holds_besides_samples_is_listed(tmp_path):
    link = tarfile.TarInfo("0099.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    odd = [("README", b"x"), ("0098.txt", b"no image"), ("0097.heic", b"x"), link]
    source, told = read(f"webdataset:{shard(tmp_path / 'a.tar', range(20), more=odd)}?size=8")
    assert len(source.train) == 16 and "2 without an image (first: 0098)" in told
    assert "1 without an ending (first: README)" in told and "1 links or devices (first: 0099.png)" in told


def test_faults_of_shards_are_named(tmp_path):
    def told(path, query=""):
        return str(refused(f"webdataset:{path}?size=8{query}"))

    whole = shard(tmp_path / "whole.tar", range(20))
    packed = shard(tmp_path / "packed.tar", range(4), mode="w:gz")
    assert "packed.tar cannot be read as a shard" in told(packed) and "without compression" in told(packed)
    for cut in (700, 5000, 12_345):
        (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:cut])
        assert "cut.tar" in told(tmp_path / "cut.tar")
    (tmp_path / "junk.tar").write_bytes(b"junk" * 500)
    text = told(tmp_path / "{junk,packed}.tar")
    assert "junk.tar cannot be read" in text and "packed.tar cannot be read" in text
    assert "none.tar cannot be read: No such file" in told(tmp_path / "none.tar")
    assert "has the columns ['kind', 'person', 'tags'], not 'cls'" in told(
        shard(tmp_path / "a.tar", range(4), label="")
    )
    assert "sample 0042 has no label" in told(
        shard(tmp_path / "a.tar", range(4), more=[("0042.png", encoded(0))])
    )
    for content, words in ((b"[1]", "its json is no object"), (b"{", "sample 0042 cannot be read"), (b"[" * 99_999, "0042"),
                           (b" " * (2 << 20), "2,097,152 bytes"), (b"\xff", "0042")):  # fmt: skip
        path = shard(tmp_path / "a.tar", range(4), more=[("0042.png", encoded(0)), ("0042.json", content)])
        assert words in told(path)
    path = shard(tmp_path / "a.tar", range(4), more=[("0001.png", encoded(0))])
    assert "0001.png occurs twice" in told(path)
    path = shard(tmp_path / "a.tar", range(4), more=[("0042.png", b"junk"), ("0042.cls", b"cat")])
    assert "a.tar, byte" in told(path) and "cannot be read as an image" in told(path, "&hold=0")
    os.mkfifo(tmp_path / "pipe.tar")
    assert "is a named pipe" in told(tmp_path / "pipe.tar")
    (tmp_path / "empty").mkdir()
    assert "has no .tar files" in told(tmp_path / "empty")


def test_patterns_of_shards(tmp_path):
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "b.tar"):
        (tmp_path / name).write_bytes(b"")
    names = lambda pattern: [p.name for p in expanded(str(tmp_path / pattern))]  # noqa: E731
    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("{a-08,a-09,b}.tar") == ["a-08.tar", "a-09.tar", "b.tar"]
    assert names("") == ["a-08.tar", "a-09.tar", "a-10.tar", "b.tar"]


# torchvision


class CIFAR:
    """As torchvision's CIFAR10: an argument `train`, PIL items, `targets` and `classes`."""

    classes = ("cat", "dog")

    def __init__(self, root, train=True, transform=None, target_transform=None, download=False):
        if root != "here":
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        assert transform is None and not download
        self.numbers = range(16) if train else range(16, 20)
        self.targets = [k % 2 for k in self.numbers]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, k):
        return Image.fromarray(PIXELS[self.numbers[k]]), self.targets[k]


class SVHN(CIFAR):
    """An argument `split` that takes "val", and labels without an attribute."""

    classes = None

    def __init__(self, root, split="train", transform=None, download=False):
        if split not in ("train", "val"):
            raise ValueError(f"Unknown value {split!r} for argument split")
        super().__init__(root, split == "train")
        self._labels = self.__dict__.pop("targets")

    def __getitem__(self, k):
        return Image.fromarray(PIXELS[self.numbers[k]]), self._labels[k]


class Caltech(CIFAR):
    """No argument for the part, and files with paths."""

    def __init__(self, root):
        super().__init__(root)
        self.numbers = range(20)
        self.targets = [k % 2 for k in range(20)]
        self.samples = [(f"here/{LABELS[k]}/{k}.png", k % 2) for k in range(20)]


class Attributes(CIFAR):
    """As CelebA: a row of labels for each image."""

    def __getitem__(self, k):
        return Image.fromarray(PIXELS[k]), torch.tensor([0, 1, 1])


@pytest.fixture
def torchvision(monkeypatch):
    datasets = types.ModuleType("torchvision.datasets")
    for name, made in {"CIFAR10": CIFAR, "SVHN": SVHN, "Caltech101": Caltech, "CelebA": Attributes}.items():
        setattr(datasets, name, made)
    package = types.ModuleType("torchvision")
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.parametrize("query", ["", "&hold=0", "&workers=1"])
def test_torchvision_by_name(torchvision, query):
    source, told = read(f"torchvision:CIFAR10?root=here&size=8{query}")
    same_images(source, [list(range(16)), list(range(16, 20))])
    assert source.train.ids.tolist() == [str(k) for k in range(16)] and source.test.ids is None and not told
    source, _ = read(f"torchvision:SVHN?root=here&size=8{query}")
    assert source.classes == ["0", "1"] and (len(source.train), len(source.test)) == (16, 4)
    source, _ = read(f"torchvision:Caltech101?root=here&size=8{query}")
    assert (len(source.train), len(source.test)) == (16, 4) and source.train.ids[0].endswith(".png")
    same_images(
        source, [[int(i.split("/")[1].split(".")[0]) for i in d.ids] for d in (source.train, source.test)]
    )


def test_faults_of_torchvision_are_named(torchvision, monkeypatch):
    assert "torchvision has no data set 'Nope'; known: CIFAR10" in str(refused("torchvision:Nope?root=here"))
    text = str(refused("torchvision:CIFAR10?root=elsewhere"))
    assert "torchvision.datasets.CIFAR10(root='elsewhere'" in text and "Dataset not found" in text
    assert "failed: TypeError" in str(refused("torchvision:CIFAR10"))
    assert "labels of shape (16, 3)" in str(refused("torchvision:CelebA?root=here"))
    assert "Unknown value 'nope'" in str(refused("torchvision:SVHN?root=here&test_split=nope"))
    assert "names no name; write torchvision:NAME" in str(refused("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "expunge[vision]" in str(refused("torchvision:CIFAR10?root=here"))


def test_torchvision_data_in_python(torchvision):
    split = Split.by_class(CIFAR("here"), CIFAR("here", train=False), "dog", validation=0)
    assert split.sizes["forget"] == 8 and next(split.forget.batches(2)).x.shape == (2, 3, 8, 8)
