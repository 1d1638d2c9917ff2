"""Checkpoints: outputs have the form of their input, and every hostile or broken file is refused."""

import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from expunge import CheckpointError
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.torch_files import load_state, save_state


def model(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))


def state(prefix=""):
    return {prefix + k: v for k, v in model().state_dict().items()}


LAYOUTS = {
    "plain.pt": lambda: state(),
    "nested.pth": lambda: {"state_dict": state(), "epoch": 7, "optimizer": {"lr": 0.1}},
    "model.pt": lambda: {"model": state("module."), "args": {"width": 3}},
    "odd.pt": lambda: {"my_net": state("_orig_mod.module.")},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_torch_files_keep_their_layout(tmp_path, name):
    path, out = tmp_path / name, tmp_path / f"out-{name}"
    torch.save(LAYOUTS[name](), path)
    read = read_checkpoint(path)
    fresh = model()
    load_into(fresh, read)
    write_checkpoint(out, fresh.state_dict(), like=read, metadata={"method": "x"})
    before, after = torch.load(path, weights_only=True), torch.load(out, weights_only=True)
    assert set(after) - {"expunge"} == set(before) - {"optimizer"}
    if read.nest is not None:
        assert list(before[read.nest]) == list(after[read.nest])
    inside = [d if read.nest is None else d[read.nest] for d in (before, after)]
    assert all(torch.equal(a, b) for a, b in zip(inside[0].values(), inside[1].values(), strict=True))
    if name == "nested.pth":
        assert after["epoch"] == 7 and any("optimizer" in n for n in read.notices)
    assert read_checkpoint(out).metadata == {"method": "x"}
    if name == "plain.pt":  # a state dict stays one for every reader
        for options in ({"weights_only": True}, {"weights_only": False}, {"mmap": True}):
            model().load_state_dict(torch.load(out, **options))
        again = write_checkpoint(
            tmp_path / "twice.pt", fresh.state_dict(), like=read_checkpoint(out), metadata={"seed": "1"}
        )
        assert read_checkpoint(again).metadata == {"method": "x", "seed": "1"}
    if read.prefix:
        assert any(read.prefix in n for n in read.notices)


def test_safetensors_round_trip_with_metadata_and_tied_weights(tmp_path):
    tied = model()
    tensors = tied.state_dict()
    tensors["again"] = tensors["0.weight"]
    path = write_checkpoint(tmp_path / "m.safetensors", tensors, metadata={"train_hash": "ab"})
    read = read_checkpoint(path)
    assert read.metadata == {"format": "pt", "train_hash": "ab"} and torch.equal(
        read.state["again"], tensors["0.weight"]
    )
    half = write_checkpoint(tmp_path / "h.safetensors", {"w": torch.randn(3, 4).bfloat16().T})
    assert read_checkpoint(half).state["w"].dtype == torch.bfloat16


def test_equal_suffixes_keep_the_format_of_the_input(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(write_checkpoint(tmp_path / "m.safetensors", state()).read_bytes())
    out = write_checkpoint(tmp_path / "new.bin", state(), like=read_checkpoint(path))
    assert read_checkpoint(out).format == "safetensors"
    assert (
        read_checkpoint(write_checkpoint(tmp_path / "new.pt", state(), like=read_checkpoint(path))).format
        == "pt"
    )


def test_tied_parameters_that_a_file_does_not_repeat(tmp_path):
    import safetensors.torch

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    torch.manual_seed(0)
    saved, fresh = Tied(), Tied()
    safetensors.torch.save_model(saved, str(tmp_path / "m.safetensors"))
    load_into(fresh, read_checkpoint(tmp_path / "m.safetensors"))
    assert torch.equal(fresh.b.weight, saved.a.weight) and torch.equal(fresh.b.bias, saved.b.bias)


def test_a_model_whose_own_names_begin_with_module(tmp_path):
    whole = nn.Module()
    whole.module = model()
    torch.save(whole.state_dict(), tmp_path / "m.pt")
    read = read_checkpoint(tmp_path / "m.pt")
    load_into(whole, read)
    assert not read.notices
    out = write_checkpoint(tmp_path / "o.pt", whole.state_dict(), like=read)
    assert set(torch.load(out)) == set(whole.state_dict())


def test_a_notice_tells_of_another_precision(tmp_path):
    half = {k: v.half() for k, v in state().items()}
    read = read_checkpoint(write_checkpoint(tmp_path / "h.safetensors", half))
    load_into(model(), read)
    assert len(read.notices) == 1 and read.notices[0] == (
        "the tensors of h.safetensors are torch.float16, those of the model are torch.float32: "
        "they are trained and written as torch.float32."
    )


def test_overlapping_views_are_written_whole(tmp_path):
    base = torch.arange(12.0)
    views = {"all": base, "tail": base[3:], "one": base[11:], "none": base[:0]}
    read = read_checkpoint(write_checkpoint(tmp_path / "v.safetensors", views))
    assert all(torch.equal(read.state[k], v) for k, v in views.items())


def test_a_notice_tells_of_entries_that_are_no_tensors(tmp_path):
    torch.save({**state(), "version": 3}, tmp_path / "m.pt")
    read = read_checkpoint(tmp_path / "m.pt")
    assert set(read.state) == set(state()) and any("version" in n for n in read.notices)


def test_the_input_is_never_overwritten(tmp_path):
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(state(), path)
    read, before = read_checkpoint(path), path.read_bytes()
    os.symlink(path, tmp_path / "link.safetensors")
    os.link(path, tmp_path / "hard.safetensors")
    for name in ("m.safetensors", "link.safetensors", "hard.safetensors"):
        with pytest.raises(CheckpointError, match="never overwritten"):
            write_checkpoint(tmp_path / name, state(), like=read)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    write_checkpoint(path, state())
    before = path.read_bytes()

    def half(_, file):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, state())
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["m.pt"]


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def test_pickle_code_is_never_run(tmp_path):
    mark = tmp_path / "owned"
    torch.save({"state_dict": state(), "extra": Bomb(mark)}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb(mark)))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / name)
        with pytest.raises(CheckpointError):
            load_state(tmp_path / name)
    assert not mark.exists()
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(tmp_path / "zip.pt")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pt", b"", "empty"),
        ("a.pt", b"<html>not found</html>", "no torch checkpoint"),
        ("a.safetensors", b"<html>", "safetensors"),
        ("a.safetensors", (2**62).to_bytes(8, "little") + b"{}", "safetensors"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_cut_off_files(tmp_path, name):
    path = write_checkpoint(tmp_path / name, state())
    whole = path.read_bytes()
    for length in (9, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_missing_files_folders_and_other_content(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="a folder"):
        read_checkpoint(tmp_path)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_checkpoint(tmp_path / "list.pt")


def test_one_error_lists_all_problems_and_the_model_stays_as_it_is(tmp_path):
    tensors = state()
    tensors["0.weight"] = torch.zeros(5, 9)
    tensors["0.bias"] = torch.full((5,), torch.nan)
    tensors["extra"] = tensors.pop("1.weight")
    read = read_checkpoint(write_checkpoint(tmp_path / "m.pt", tensors))
    fresh = model()
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(fresh, read)
    assert len(caught.value.problems) == 4
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())


def test_a_wrong_number_of_classes_has_its_own_message(tmp_path):
    read = read_checkpoint(write_checkpoint(tmp_path / "m.pt", state()))
    with pytest.raises(CheckpointError, match="3 classes, the data has 7"):
        load_into(model(7), read)


def test_run_states_round_trip(tmp_path):
    save_state(tmp_path / "s", {"a": torch.ones(2), "b": [1, {"c": None, "d": "x"}], "e": 1.5})
    assert load_state(tmp_path / "s")["b"] == [1, {"c": None, "d": "x"}]
