"""Image folders as people have them: every file is read or listed, broken ones are found before the run, ids have many forms."""

import os
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from expunge import ExpungeError, Split, SplitError, StreamData, TensorData
from expunge.data.resize import Resize
from expunge.sources import load

E_COMPOSED, E_DECOMPOSED = "caf\u00e9", "cafe\u0301"


def picture(seed, size=(20, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path):
    """Two classes with six files each."""
    for k, name in enumerate("ab"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for n in range(6):
            picture(10 * k + n).save(tmp_path / "pictures" / name / f"{n}.png")
    return tmp_path / "pictures"


def read(root, query="?size=4"):
    """All ids, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load(f"folder:{root}{query}")
    return {*source.train.ids.tolist(), *source.test.ids.tolist()}, " ".join(str(w.message) for w in caught)


def problems(root, query):
    with pytest.raises(ExpungeError) as caught:
        load(f"folder:{root}{query}")
    return caught.value.problems


# every file is read or listed


@pytest.mark.parametrize(
    "suffix", [".tif", ".TIFF", ".jfif", ".jpe", ".pbm", ".tga", ".dib", ".avif", ".jp2"]
)
def test_every_kind_of_image_is_read(root, suffix):
    try:
        picture(0).save(root / "a" / f"x{suffix}")
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    ids, told = read(root)
    assert f"a/x{suffix}" in ids and len(ids) == 13 and not told


def test_files_that_are_not_read_are_listed(root):
    (root / "a" / "1.heic").write_bytes(b"x")
    (root / "a" / "2.HEIC").write_bytes(b"x")
    (root / "b" / "0123abcd").write_bytes((root / "b" / "0.png").read_bytes())
    picture(3).save(root / "loose.png")
    (root / "notes.txt").write_text("not in a class folder, and no image")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / ".hidden.png").write_bytes(b"x")
    ids, told = read(root)
    assert len(ids) == 12 and "5 of 17 files are not read" in told
    for words in (
        "2 *.heic (first: a/1.heic)" if "first: a/1" in told else "2 *.heic (first: a/2.HEIC)",
        "1 without an ending (first: b/0123abcd)",
        "1 in no class folder (first: loose.png)",
        "1 named pipes, sockets or devices (first: a/pipe.png)",
    ):
        assert words in told


def test_folders_beside_train_and_test_are_listed(root, tmp_path):
    for part in ("train", "val", "test"):
        os.symlink(root, tmp_path / part)
    assert "the folders ['pictures', 'val'] beside ['train', 'test'] are not read" in read(tmp_path)[1]


def test_links_to_folders_are_followed_and_circles_are_not(root, tmp_path):
    """torchvision's ImageFolder follows links, so a checkpoint of it has seen these images."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    picture(1).save(tmp_path / "elsewhere" / "deep" / "x.png")
    os.symlink(tmp_path / "elsewhere", root / "a" / "linked")
    os.symlink(root / "a", root / "a" / "circle")
    ids, told = read(root)
    assert "a/linked/deep/x.png" in ids and len(ids) == 13
    assert "links to a folder above (first: a/circle)" in told


def test_a_broken_link_and_a_folder_with_the_name_of_an_image(root):
    (root / "a" / "d.png").mkdir()
    picture(1).save(root / "a" / "d.png" / "inner.png")
    assert "a/d.png/inner.png" in read(root)[0]
    os.symlink("/nowhere.png", root / "a" / "gone.png")
    (problem,) = problems(root, "?size=4")
    assert "gone.png cannot be read as an image: FileNotFoundError" in problem


def test_class_folders_that_are_alike_are_reported(root):
    (root / "A ").mkdir()
    picture(1).save(root / "A " / "0.png")
    assert "the class folders ['A ', 'a'] differ only in spaces, case" in read(root)[1]


# broken images are found before the run


@pytest.mark.parametrize("query", ["?size=4", "?size=4&hold=0", "?size=4&workers=1"])
def test_all_truncated_images_are_found_before_the_run(root, query):
    names = [f"cut{suffix}" for suffix in (".jpg", ".bmp", ".gif", ".png", ".webp", ".tif")]
    for name in names:
        path = root / "a" / name
        picture(5, (60, 60)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    listed = problems(root, query)
    assert [name for name in names if any(name in p for p in listed)] == names and len(listed) == 6
    assert any("truncated" in p for p in listed)


def test_images_that_are_left_out_are_not_checked(root):
    for n in range(5):
        (root / "a" / f"{n}.png").write_bytes(b"junk")
    assert len(problems(root, "?size=4&hold=0")) == 5
    assert len(problems(root, "?size=4&hold=0&limit=2&test_limit=1")) < 5


def test_floats_without_a_range_are_refused(root):
    """Pillow would clip them at 255 and cut them to whole numbers: numbers in [0, 1] become black."""
    Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)).save(root / "a" / "f.tif")
    for query in ("?size=4", "?size=4&hold=0"):
        assert "its pixels are floats without a range" in problems(root, query)[0]


def test_the_exif_orientation_is_read_on_request(root):
    """Without the option, images are as torchvision's ImageFolder gives them."""
    upright, exif = picture(7, (8, 8)), Image.Exif()
    exif[0x0112] = 6
    upright.save(root / "a" / "0.png", exif=exif)
    plain, turned = (load(f"folder:{root}?size=8{more}") for more in ("", "&exif=1"))
    assert (plain.train.read_as, turned.train.read_as) == ("size=8", "size=8&exif=1")
    pixels = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    for source, wanted in ((plain, pixels), (turned, pixels.rot90(-1, (1, 2)))):
        data = next(d for d in (source.train, source.test) if "a/0.png" in d.ids.tolist())
        assert isinstance(data, TensorData)
        assert torch.equal(data.x[data.ids.tolist().index("a/0.png")], wanted)
    assert torch.equal(Resize(8, exif=True)(picture(7, (8, 8))), Resize(8)(picture(7, (8, 8))))


# ids


def by_ids(root, *ids):
    source = load(f"folder:{root}?size=4&hold=0")
    return sorted(
        Split.by_ids(source.train, source.test, list(ids), validation=0, copies="ignore").forget.ids
    )


@pytest.mark.parametrize("here", [False, True])
def test_ids_are_found_however_they_are_written(root, here, monkeypatch):
    inside = [i for i in load(f"folder:{root}?size=4").train.ids.tolist() if i.startswith("a/")][:2]
    if here:
        monkeypatch.chdir(root.parent)
    folder = Path("pictures") if here else root
    for form in ("./{}", "a//../{}", str(root) + "/{}", *(["pictures/{}"] if here else [])):
        assert by_ids(folder, *(form.format(i) for i in inside)) == sorted(inside), form
    assert by_ids(folder, *(i.replace("/", "\\") for i in inside)) == sorted(inside)
    with pytest.raises(SplitError, match="is given twice"):
        by_ids(folder, inside[0], f"./{inside[0]}")


@pytest.mark.parametrize("on_disk", [E_COMPOSED, E_DECOMPOSED])
def test_two_unicode_forms_are_one_name(root, on_disk):
    for n in range(6):
        (root / "a" / f"{n}.png").rename(root / "a" / f"{on_disk}{n}.png")
    (root / "a").rename(root / on_disk)
    for written in (E_COMPOSED, E_DECOMPOSED):
        source = load(f"folder:{root}?size=4")
        known = {unicodedata.normalize("NFC", i): i for i in source.train.ids.tolist()}
        wanted = next(i for i in known if i.startswith(E_COMPOSED))
        assert by_ids(root, unicodedata.normalize("NFD" if written == E_DECOMPOSED else "NFC", wanted)) == [
            known[wanted]
        ]
        split = Split.by_class(source.train, source.test, written)
        assert split.forget_classes == (source.classes.index(on_disk),)
        assert len(Split.by_group(source.train, source.test, "folder", written, copies="ignore").forget)


@pytest.mark.parametrize(
    ("wanted", "like"),
    [
        ("A/1.PNG", "a/1.png"),
        ("1.png", "/1.png"),
        ("/other/pictures/b/2.png", "b/2.png"),
        ("a/l.png", ".png"),
    ],
)
def test_the_nearest_id_is_suggested(root, wanted, like):
    with pytest.raises(SplitError, match=f"is unknown; .*'{wanted}' is like '.*{like}'"):
        by_ids(root, wanted)
    with pytest.raises(SplitError) as caught:
        by_ids(root, "entirely different")
    assert "is like" not in str(caught.value)


def test_names_that_are_no_utf8(root, tmp_path):
    for n in range(6):
        os.rename(os.fsencode(root / "a" / f"{n}.png"), os.fsencode(root / "a") + b"/caf\xe9%d.png" % n)
    os.rename(os.fsencode(root / "a"), os.fsencode(root) + b"/\xe4")
    for query in ("?size=4", "?size=4&hold=0&workers=1"):
        source = load(f"folder:{root}{query}")
        assert source.classes == ["b", "\\xe4"] and source.train.fingerprint()
        inside = [i for i in source.train.ids.tolist() if i.startswith("\\xe4")]
        assert inside and all(i.startswith("\\xe4/caf\\xe9") for i in inside)
        assert len(list(source.train.samples().batches(3)))
    number = inside[0].removeprefix("\\xe4/caf\\xe9")
    for listed in (inside[0].encode(), b"./\xe4/caf\xe9" + number.encode()):
        (tmp_path / "ids.txt").write_bytes(listed + b"\n")
        split = Split.by_ids(source.train, source.test, tmp_path / "ids.txt", validation=0)
        assert split.forget.ids == [inside[0]]
    split = Split.by_group(source.train, source.test, "folder", "\\xe4", copies="ignore")
    assert len(split.forget) >= len(inside) - 1
    (root / "b" / "0.png").write_bytes(b"junk")
    os.rename(os.fsencode(root / "b" / "0.png"), os.fsencode(root / "b") + b"/\xff.png")
    assert "b/\\xff.png cannot be read" in problems(root, "?size=4")[0]


def test_a_list_of_ids_in_utf16_is_refused(root, tmp_path):
    (tmp_path / "ids.txt").write_text("a/1.png\n", encoding="utf-16")
    source = load(f"folder:{root}?size=4")
    with pytest.raises(SplitError, match="it is no text in UTF-8"):
        Split.by_ids(source.train, source.test, tmp_path / "ids.txt")


# classes and groups that are like others


def people(*names):
    x, y = torch.rand(24, 3), torch.arange(24) % 2
    users = [names[k % len(names)] for k in range(24)]
    return TensorData(x, y, groups={"user": users}), TensorData(torch.rand(4, 3), torch.arange(4) % 2)


def test_a_group_that_differs_in_case_or_spaces_is_reported():
    train, test = people("Ann", "ann ", "Bob")
    with pytest.warns(UserWarning, match=r"user = 'ann ' \(8 samples\) differs from a forgotten value"):
        assert len(Split.by_group(train, test, "user", "Ann", validation=0).forget) == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Split.by_group(train, test, "user", ["Ann", "ann "], validation=0).forget) == 16
    with pytest.raises(SplitError, match="'bob' is like 'Bob'"):
        Split.by_group(train, test, "user", "bob")


def test_both_unicode_forms_of_a_name_are_forgotten():
    train, test = people(E_COMPOSED, E_DECOMPOSED, "Bob")
    for name in (E_COMPOSED, E_DECOMPOSED):
        assert len(Split.by_group(train, test, "user", name, validation=0).forget) == 16


def test_a_name_of_two_classes_is_refused_and_their_numbers_are_not():
    x, y = torch.rand(12, 3), torch.arange(12) % 3
    train, test = (
        TensorData(x, y, classes=["crane", "dog", "crane"]),
        TensorData(torch.rand(3, 3), torch.arange(3)),
    )
    with pytest.raises(SplitError, match=r"'crane' belongs to the classes \[0, 2\]; give the number"):
        Split.by_class(train, test, "crane")
    assert (
        Split.by_class(train, test, 2).forget_classes
        == Split.by_class(train, test, "2.0").forget_classes
        == (2,)
    )
    with pytest.raises(SplitError, match="'Dog' is like 'dog'"):
        Split.by_class(train, test, "Dog")


# grey images of whole numbers

STEPS = np.arange(64).reshape(8, 8)


def deep_folder(tmp_path, pixels, ending):
    for name in "ab":
        (tmp_path / "deep" / name).mkdir(parents=True)
        for k in range(5):
            Image.fromarray(pixels).save(tmp_path / "deep" / name / f"{k}.{ending}")
    return tmp_path / "deep"


@pytest.mark.parametrize("query", ["?size=8&channels=1", "?size=8&channels=1&hold=0"])
@pytest.mark.parametrize(
    ("pixels", "ending", "words"),
    [
        # eight bits in a file of 32, twelve in one of 16
        (
            (STEPS * 4).astype(np.int32),
            "tif",
            "10 images of 16 bits have no pixel above 252, and 65,535 is white",
        ),
        ((STEPS * 64).astype(np.uint16), "png", "10 images of 16 bits have no pixel above 4,032"),
        ((STEPS * 260).astype(np.uint16), "png", "no pixel above 16,380"),
        # a quarter of white, and the whole range
        ((STEPS * 261).astype(np.uint16), "png", ""),
        ((STEPS * 1040).astype(np.uint16), "png", ""),
        ((STEPS * 1040).astype(np.int32), "tif", ""),
    ],
)
def test_images_of_16_bits_without_a_bright_pixel_get_a_note(tmp_path, pixels, ending, words, query):
    _, told = read(deep_folder(tmp_path, pixels, ending), query)
    assert words in told and bool(told) == bool(words)


@pytest.mark.parametrize("query", ["?size=8", "?size=8&hold=0"])
@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (STEPS * 10 - 100, "whole numbers from -100 to 530, and 0 is black and 65,535 white"),
        (STEPS * 1041, "whole numbers from 0 to 65,583"),
    ],
)
def test_whole_numbers_outside_of_16_bits_are_refused(tmp_path, pixels, words, query):
    """They became white or black without a word."""
    found = problems(deep_folder(tmp_path, pixels.astype(np.int32), "tif"), query)
    assert len(found) == 10 and all(words in text for text in found)


def test_images_of_a_dataset_have_the_same_range():
    class Scans(torch.utils.data.Dataset):
        def __init__(self, factor):
            self.factor = factor

        def __len__(self):
            return 4

        def __getitem__(self, k):
            return Image.fromarray((STEPS * self.factor).astype(np.int32)), k % 2

    x = next(StreamData(Scans(1040)).raw_inputs(1))
    # 63 * 1040 = 65,520 of 65,535 is 254.9 of 255
    assert x[0, 0, 7].tolist() == [round(n * 1040 / 257) for n in range(56, 64)]
    with pytest.raises(
        ExpungeError, match="item 0 of the data set is an image that cannot be used: its pixels are whole"
    ):
        StreamData(Scans(1041))
