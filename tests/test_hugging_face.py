"""Data sets of Hugging Face from local folders: images, texts, class names, any column as a group."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import ExpungeError, Split, StreamData, TensorData
from expunge.cli import main
from expunge.sources import load

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra `datasets`)")

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
NAMES = ["dog", "ant"]  # not in alphabetical order


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def columns(numbers, **more):
    return {
        "image": [Image.fromarray(PIXELS[k]) for k in numbers],
        "label": [k % 2 for k in numbers],
        "person": [f"p{k % 4}" for k in numbers],
        "age": [k % 3 for k in numbers],
        "boxes": [[1, 2] for _ in numbers],
        **more,
    }


FEATURES = {
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=NAMES),
    "person": datasets.Value("string"),
    "age": datasets.Value("int64"),
    "boxes": datasets.List(datasets.Value("int64")),
}


def images(numbers, features=FEATURES, **more):
    return datasets.Dataset.from_dict(columns(numbers, **more), features=datasets.Features(features))


def saved(path, **splits):
    datasets.DatasetDict(splits).save_to_disk(str(path))
    return path


def read(spec):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load(spec)
    return source, " ".join(
        str(w.message) for w in caught if "expunge" in str(w.filename) or "test_" in str(w.filename)
    )


def refused(spec):
    with pytest.raises(ExpungeError) as caught:
        load(spec)
    return str(caught.value)


def same_images(data, numbers, names=NAMES):
    wanted = torch.from_numpy(PIXELS[numbers]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(torch.cat([b.x for b in data.samples().batches(7)]), wanted)
    assert [data.classes[y] for y in data.labels] == [names[k % 2] for k in numbers]


@pytest.mark.parametrize(
    "query", ["", "&hold=0", "&workers=1", "&split=train&test_split=test&image=image&label=label"]
)
def test_a_saved_data_set_of_images(tmp_path, query):
    path = saved(tmp_path / "pets", train=images(range(16)), test=images(range(16, 20)))
    source, told = read(f"hf:{path}?size=8{query}")
    assert source.classes == NAMES and source.shape == (3, 8, 8) and source.name == "pets" and not told
    same_images(source.train, list(range(16)))
    same_images(source.test, list(range(16, 20)))
    assert isinstance(source.train, TensorData if query in ("",) or "split" in query else StreamData)
    assert source.train.ids.tolist() == [str(k) for k in range(16)] and source.test.ids is None
    assert set(source.train.groups) == {"person", "age"}
    split = Split.by_group(source.train, source.test, "age", 1, validation=0)
    assert split.forget.ids == [str(k) for k in range(16) if k % 3 == 1]
    assert Split.by_class(source.train, source.test, "ant").forget_classes == (1,)


def test_one_split_holds_out_a_fifth_and_may_be_shuffled(tmp_path):
    order = np.random.default_rng(1).permutation(20).tolist()
    images(range(20)).select(order).save_to_disk(str(tmp_path / "one"))
    source, _ = read(f"hf:{tmp_path / 'one'}?size=8")
    assert (len(source.train), len(source.test)) == (16, 4)
    for data in (source.train, source.test):
        same_images(data, [order[int(i)] for i in data.ids])
    shuffled = saved(tmp_path / "two", train=images(range(20)).select(order))
    source, _ = read(f"hf:{shuffled}?size=8")
    same_images(source.train, [order[int(i)] for i in source.train.ids])


def test_an_image_folder_with_metadata(tmp_path):
    for part, numbers in (("train", range(12)), ("test", range(12, 20))):
        (tmp_path / "pets" / part).mkdir(parents=True)
        rows = [{"file_name": f"{k}.png", "kind": NAMES[k % 2], "owner": f"o{k % 3}"} for k in numbers]
        (tmp_path / "pets" / part / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        for k in numbers:
            Image.fromarray(PIXELS[k]).save(tmp_path / "pets" / part / f"{k}.png")
    source, _ = read(f"hf:{tmp_path / 'pets'}?label=kind&size=8")
    assert source.classes == ["ant", "dog"] and set(source.train.groups) == {"owner"}
    assert len(source.train) == 12 and len(source.test) == 8


def test_the_orientation_is_that_of_the_library(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "t.png").parent.mkdir(exist_ok=True)
    Image.fromarray(PIXELS[0]).save(tmp_path / "t.png", exif=exif)
    made = columns(range(20))
    made["image"][0] = str(tmp_path / "t.png")
    data = datasets.Dataset.from_dict(made, features=datasets.Features(FEATURES))
    path = saved(tmp_path / "pets", train=data)
    for query, held in (("", np.asarray(data[0]["image"])), ("&exif=0", PIXELS[0])):
        source, _ = read(f"hf:{path}?size=8{query}")
        part = next(d for d in (source.train, source.test) if "0" in d.ids.tolist())
        assert torch.equal(part.x[part.ids.tolist().index("0")].permute(1, 2, 0), torch.tensor(held))


TEXTS = {
    "text": [f"{'good' if k % 2 else 'poor'} {k}" for k in range(20)],
    "label": [k % 2 for k in range(20)],
    "user": [f"u{k % 4}" for k in range(20)],
    "id": [f"r{k}" for k in range(20)],
}


@pytest.mark.parametrize("label", ["class", "whole", "float", "name"])
def test_texts(tmp_path, label):
    kinds = {"class": datasets.ClassLabel(names=NAMES), "whole": datasets.Value("int64"), "float": datasets.Value("float32"),
             "name": datasets.Value("string")}  # fmt: skip
    features = {k: datasets.Value("string") for k in ("text", "user", "id")} | {"label": kinds[label]}
    made = {**TEXTS, "label": [NAMES[v] for v in TEXTS["label"]] if label == "name" else TEXTS["label"]}
    path = saved(
        tmp_path / "reviews", train=datasets.Dataset.from_dict(made, features=datasets.Features(features))
    )
    source, _ = read(f"hf:{path}?length=4")
    assert source.classes == {"class": NAMES, "name": sorted(NAMES)}.get(label, ["0", "1"])
    assert (
        source.shape == (4,) and set(source.train.groups) == {"user"} and source.train.ids[0].startswith("r")
    )
    numbers = [int(i[1:]) % 2 for i in source.train.ids]
    wanted = [sorted(NAMES).index(NAMES[n]) for n in numbers] if label == "name" else numbers
    assert source.train.labels.tolist() == wanted
    split = Split.by_group(source.train, source.test, "user", "u1", validation=0)
    assert all(int(i[1:]) % 4 == 1 for i in split.forget.ids)


def test_a_table_that_the_library_reads(tmp_path):
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "train.csv").write_text(
        "text,label,user\n" + "".join(f"t{k},{k % 2},u\n" for k in range(10))
    )
    source, _ = read(f"hf:{tmp_path / 'reviews'}?length=4")
    assert len(source.train) == 8 and source.classes == ["0", "1"]


def test_faults_are_named(tmp_path):
    def faulty(name, features=FEATURES, **more):
        return saved(tmp_path / name, train=images(range(20), features, **more))

    assert "cannot be read" in refused(f"hf:{tmp_path / 'nowhere'}?size=8")
    assert "cannot be read" in refused("hf:nobody/nothing?size=8")
    path = saved(tmp_path / "a", train=images(range(16)), test=images(range(16, 20)))
    assert "has the splits ['test', 'train'], not 'nope'" in refused(f"hf:{path}?split=nope")
    assert "split and test_split are both 'train'" in refused(f"hf:{path}?test_split=train")
    assert "has no column 'nope'; columns: image (Image), label (ClassLabel)" in refused(
        f"hf:{path}?label=nope"
    )
    assert "no option of hf" in refused(f"hf:{path}?colour=3")
    labels = [k % 2 for k in range(20)]
    text = refused(f"hf:{faulty('b', label=[None, -1, *labels[2:]])}?size=8")
    assert "[train]: row 1 has no label" in text and "[train]: row 2 has no label" in text
    other = {**FEATURES, "label": datasets.ClassLabel(names=NAMES[::-1])}
    path = saved(tmp_path / "c", train=images(range(16)), test=images(range(16, 20), other))
    assert "[test] has the classes ['ant', 'dog'] and not ['dog', 'ant']" in refused(f"hf:{path}?size=8")
    (tmp_path / "bad.png").write_bytes(b"junk")
    made = columns(range(20))
    made["image"][3], made["image"][4] = None, str(tmp_path / "bad.png")
    data = datasets.Dataset.from_dict(made, features=datasets.Features(FEATURES))
    for query in ("", "&hold=0"):
        text = refused(f"hf:{saved(tmp_path / f'd{query}', train=data)}?size=8{query}")
        assert (
            "[train]: row 4 cannot be read as an image: ValueError: there is no image" in text
            and "row 5 cannot be read" in text
        )
    plain = {"label": datasets.Value("int64"), "vector": datasets.List(datasets.Value("float32"))}
    data = datasets.Dataset.from_dict(
        {"label": labels, "vector": [[0.5]] * 20}, features=datasets.Features(plain)
    )
    assert "the column of the text is not known; name it: text=COLUMN" in refused(
        f"hf:{saved(tmp_path / 'e', train=data)}"
    )


def test_the_advice_names_the_columns_that_fit(tmp_path):
    """Plain parquet: no type says which column holds images or classes, so that the cells must."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def written(name, cells):
        (tmp_path / name).mkdir()
        parquet.write_table(pa.Table.from_pylist(cells), tmp_path / name / "train.parquet")
        return f"hf:{tmp_path / name}"

    files = []
    for pixels in PIXELS:
        Image.fromarray(pixels).save(tmp_path / "one.png")
        files.append((tmp_path / "one.png").read_bytes())
    who = [f"u{k}" for k in range(20)]
    cells = [{"img": {"bytes": f, "path": None}, "cls": k % 2, "who": who[k]} for k, f in enumerate(files)]
    spec = written("struct", cells)
    text = refused(f"{spec}?size=8")
    assert "the column of the image is not known; name it: image=img&label=cls." in text
    assert "the column of the label is not known; name it: image=img&label=cls." in text
    # what the message says works, and an option that was given stays in it
    assert "name it: image=img&label=cls." in refused(f"{spec}?image=img&size=8")
    assert read(f"{spec}?image=img&label=cls&size=8")[0].train.ids is not None
    raw = [{"pic": f, "y": k % 2, "age": k % 5} for k, f in enumerate(files)]
    assert "image=pic&label=y (label may also be age)" in refused(f"{written('bytes', raw)}?size=8")
    texts = [
        {"body": f"good text number {k}", "who": who[k], "stars": k % 3, "price": k + 0.5} for k in range(20)
    ]
    assert "text=body&label=stars (text may also be who)" in refused(written("texts", texts))
    # the control: a known text column needs no image, and a wrong name is said with the right one
    assert (
        "has no column 'nope'" in (text := refused(f"{spec}?image=nope&size=8"))
        and "image=img&label=cls" in text
    )


def test_without_the_library(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "expunge[datasets]" in refused("hf:some/name")


def test_items_of_the_library_in_python(tmp_path):
    """A `datasets.Dataset` is a map-style data set: dicts with PIL images, `ClassLabel`, `__getitems__`."""
    train, test = images(range(16)).remove_columns("boxes"), images(range(16, 20)).remove_columns("boxes")
    data = StreamData(train.select_columns(["image", "label"]), groups={"person": train["person"]})
    assert data.classes == NAMES and data.labels.tolist() == [k % 2 for k in range(16)]
    same_images(data, list(range(16)))
    split = Split.by_group(data, test.select_columns(["image", "label"]), "person", "p1", validation=0)
    assert split.sizes["forget"] == 4
    numbers = train.with_format("torch").select_columns(["age", "label"])
    assert next(StreamData(numbers).samples().batches(4)).x["age"].tolist() == [0, 1, 2, 0]


def test_a_class_is_forgotten_on_the_command_line(tmp_path, capsys):
    path = saved(tmp_path / "pets", train=images(range(16)), test=images(range(16, 20)))
    flags = ["--data", f"hf:{path}?size=8", "--model", "mlp", "--validation", "0"]
    original = tmp_path / "o.safetensors"
    assert main(["train", *flags, "--epochs", "1", "--lr", "0.01", "--out", str(original)]) == 0, (
        capsys.readouterr().err
    )
    code = main(["unlearn", "salun", *flags, "--checkpoint", str(original), "--forget-group", "person=p1", "--epochs", "1",
                 "--trials", "0", "--out", str(tmp_path / "u.safetensors")])  # fmt: skip
    assert "forgets 4 of 16" in capsys.readouterr().err and code in (0, 1)
