"""Files of wrong content: entries of wrong types, deep JSON, huge numbers, archives that inflate. Each is one clear error."""

from __future__ import annotations

import json
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from expunge.bench.grid import read_grid
from expunge.bench.page import page
from expunge.cli import main
from expunge.errors import CheckpointError, ExpungeError, MaskError
from expunge.masks.mask_file import Mask
from expunge.projects.settings import read_settings
from expunge.records.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from expunge.records.checkpoint_metadata import split_description
from expunge.records.checkpoint_requests import answered_requests, public_requests
from expunge.records.record import Record
from expunge.training.registry import method_from_metadata, recipe_from_metadata
from expunge.tuning.kept import finished_trials

DEEP = "[" * 200_000
ODD = ["", "null", "1", "[]", "{}", DEEP, "9" * 5000, "[[]]", "1e999", "NaN", '{"a": 1}', '{"sizes": 7}',
       '{"lr": "x"}', '{"epochs": []}', '[{"request": 1}]', '[{"request": "a", "classes": [null]}]',
       '[{"request": "a", "goal": {}}]', '{"goal": "unlearn", "forget_classes": 7}',
       '{"goal": [], "sizes": {"forget": "x"}}']  # fmt: skip


def record(**entries):
    return {"schema": 1, "kind": "unlearn", "method": "salun", **entries}


# ---- records


@pytest.mark.parametrize(
    "name", ["settings", "model", "data", "split", "scores", "details", "curves", "status", "command"]
)
def test_a_record_with_an_entry_of_a_wrong_type_is_refused_by_every_reader(tmp_path, name, capsys):
    path, book = tmp_path / "r.json", str(tmp_path / "l.db")
    assert main(["ledger", "add", book, "case"]) == 0
    for value in (
        None,
        1,
        True,
        [1] if name == "curves" else [],
        "x" if name not in ("status", "command") else {},
        10**30,
    ):
        path.write_text(json.dumps(record(**{name: value})))
        with pytest.raises(ExpungeError, match=f"the entry {name} "):
            Record.load(path)
        for words in (
            ["report", str(path), "--out", str(tmp_path / "x.html")],
            ["ledger", "attach", book, "1", "--record", str(path)],
        ):
            assert main(words) == 2
            assert f"the entry {name} " in capsys.readouterr().err


def test_all_wrong_entries_of_a_record_are_told_at_once_and_a_good_one_is_read(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(record(scores=[], split=7, status=None)))
    with pytest.raises(ExpungeError) as error:
        Record.load(tmp_path / "r.json")
    assert len(error.value.problems) == 3
    good = Record("unlearn", "salun", scores={"UA": 1.0}, curves=[{"step": 0}], machine={})
    assert Record.load(good.save(tmp_path / "r.json")) == good


# ---- metadata of checkpoints


@pytest.mark.parametrize("name", ["split", "requests", "settings", "recipe", "retain_hash", "method", "kind"])
def test_odd_metadata_is_an_error_or_no_metadata(name):
    metadata = {
        "kind": "unlearn",
        "split_hash": "a" * 64,
        "train_hash": "b",
        "method": "salun",
        "settings": "{}",
        "recipe": "{}",
    }
    for text in ODD:
        checkpoint = Checkpoint({}, Path("missing.pt"), "pt", metadata={**metadata, name: text})
        for read in (
            public_requests,
            answered_requests,
            split_description,
            method_from_metadata,
            recipe_from_metadata,
        ):
            try:
                read(checkpoint)
            except ExpungeError as error:
                assert error.problems[0].endswith(".")


def test_a_checkpoint_of_an_earlier_version_still_names_its_request():
    split = {"scenario": "class", "goal": "unlearn", "forget_classes": [3], "sizes": {"forget": 7}}
    metadata = {"kind": "unlearn", "split_hash": "a", "method": "salun", "split": json.dumps(split)}
    (request,) = public_requests(Checkpoint({}, Path("x.pt"), "pt", metadata=metadata))
    assert request["classes"] == [3] and request["count"] == 7


# ---- masks


@pytest.mark.parametrize("shapes", ["[7]", DEEP, '{"w": 7}', '{"w": [-1, 2]}', '{"w": [1e3]}', '{"w": ["a"]}', "null",
                                    f'{{"w": [{10**30}]}}', f'{{"w": [{2**62}, {2**62}]}}', '{"w": [100]}', '{"x": [2]}'])  # fmt: skip
def test_a_mask_with_odd_shapes_is_damaged(tmp_path, shapes):
    metadata = {"shapes": shapes, "expunge": "mask"}
    write_checkpoint(tmp_path / "m.safetensors", {"w": torch.zeros(1, dtype=torch.uint8)}, metadata=metadata)
    with pytest.raises(MaskError, match="damaged mask"):
        Mask.load(tmp_path / "m.safetensors")


# ---- archives


def test_a_compressed_archive_is_refused_before_it_is_inflated(tmp_path):
    torch.save({"w": torch.zeros(2**22)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert (tmp_path / "small.pt").stat().st_size < 2**17
    tracemalloc.start()
    with pytest.raises(
        CheckpointError, match=r"compressed entries of 16.8 MB, which torch.save never writes"
    ):
        read_checkpoint(tmp_path / "small.pt")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert read_checkpoint(tmp_path / "plain.pt").state["w"].shape == (2**22,)


# ---- grids, projects, results, trials


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = \x00"])
def test_deep_and_huge_toml_cannot_be_read(tmp_path, text):
    (tmp_path / "x.toml").write_text(text)
    for read in (read_grid, read_settings):
        with pytest.raises(ExpungeError, match="cannot be read"):
            read(tmp_path / "x.toml")


@pytest.mark.parametrize("value", ["[]", "0.0", '""'])
def test_a_split_of_a_grid_names_what_to_forget(tmp_path, value):
    flag = {"[]": "forget_class", "0.0": "forget_share", '""': "forget_group"}[value]
    split = f'data = ["digits"]\nseeds = [0]\nsplit = [{{ {flag} = {value} }}]\n[[method]]\nname = "salun"\n'
    (tmp_path / "g.toml").write_text(split)
    with pytest.raises(ExpungeError, match=r"nothing to forget|forget_\w+ is"):
        read_grid(tmp_path / "g.toml")


@pytest.mark.parametrize("text", [DEEP, "{", "9" * 5000])
def test_broken_results_and_trials_are_named(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ExpungeError, match=r"r\.json cannot be read as a result"):
        page(tmp_path, tmp_path / "page.md")
    with pytest.raises(ExpungeError, match=r"r\.json cannot be read as trials"):
        finished_trials(tmp_path / "r.json", "")


# ---- found by `make torture`


def test_a_mask_of_bytes_in_another_shape_is_damaged(tmp_path):
    from safetensors.torch import save_file

    form = {"expunge": "mask", "shapes": '{"w": [2, 3]}'}
    for packed in (torch.tensor(7, dtype=torch.uint8), torch.tensor([[7]], dtype=torch.uint8)):
        save_file({"w": packed}, tmp_path / "m.safetensors", form)
        with pytest.raises(MaskError, match="holds no mask of the shape"):
            Mask.load(tmp_path / "m.safetensors")
    save_file({"w": torch.tensor([7], dtype=torch.uint8)}, tmp_path / "m.safetensors", form)
    assert Mask.load(tmp_path / "m.safetensors")["w"].tolist() == [[True, True, True], [False, False, False]]


def _with_version(data):
    """An archive that asks for a version of zip that does not exist."""
    return re.sub(rb"(PK\x01\x02..)..", lambda found: found[1] + b"\xff\x00", data, flags=re.S)


@pytest.mark.parametrize(
    "change", [lambda d: b"", lambda d: d[:40], lambda d: d.replace(b"'descr'", b"('descr"), _with_version]
)
def test_damaged_fingerprints_are_refused(tmp_path, change):
    from expunge.projects.fingerprints import Fingerprints

    path = tmp_path / "samples.npz"
    table = np.arange(12, dtype=np.uint64).reshape(3, 4)
    Fingerprints(b"k" * 32, table, table, frozenset({"train"})).save(path)
    again = Fingerprints.load(path)
    assert again.key == b"k" * 32 and again.without_contents == {"train"} and (again.train == table).all()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ExpungeError, match="from a backup"):
        Fingerprints.load(path)


@pytest.mark.parametrize("changed", [{"train": np.zeros(3, np.uint64)}, {"test": np.zeros((3, 2), np.uint64)},
                                     {"key": np.zeros(4)}, {"more": np.zeros(1)}])  # fmt: skip
def test_arrays_that_are_no_fingerprints_are_refused(tmp_path, changed):
    from expunge.projects.fingerprints import Fingerprints

    table = np.zeros((3, 4), np.uint64)
    right = {
        "key": np.zeros(32, np.uint8),
        "train": table,
        "test": table,
        "without_contents": np.array([], "U8"),
    }
    np.savez(tmp_path / "s.npz", **{**right, **changed})
    with pytest.raises(ExpungeError, match="no fingerprints of samples"):
        Fingerprints.load(tmp_path / "s.npz")


def test_a_table_without_test_samples_is_refused(tmp_path, capsys):
    """A fifth of one sample, rounded, is none."""
    (tmp_path / "t.csv").write_text("text,label,id\ngood,a,t1\n")
    words = [
        "train",
        "--data",
        f"text:{tmp_path}/t.csv",
        "--model",
        "text_transformer",
        "--out",
        str(tmp_path / "m.pt"),
    ]
    assert main(words) == 2 and "there are no test samples" in capsys.readouterr().err


def test_a_damaged_schema_of_a_ledger_is_named(tmp_path):
    """SQLite quotes the damaged words in its error, and they need not be text."""
    from expunge.receipts.ledger import Ledger

    path = tmp_path / "l.db"
    Ledger(path, create=True)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE head", b"CREATE T\xf9\xf9LE head"))
    with pytest.raises(ExpungeError, match=r"l\.db cannot be used"):
        Ledger(path)
