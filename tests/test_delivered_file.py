"""The delivered file is clean: no tensor of the old model but those that the mask held leaves with the new one."""

import json
import re
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from expunge import CheckpointError, Record, Split
from expunge.cli import main
from expunge.models import build
from expunge.receipts.verify import verify
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_contents import find_states, measure
from expunge.records.checkpoint_loading import load_into
from expunge.records.hashing import model_hash
from expunge.records.surplus import surplus
from expunge.sources import load

DIGITS = ["--data", "digits", "--model", "mlp"]
QUICK = ["--epochs", "4", "--batch-size", "64"]


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def old(seed=0):
    return small(seed).state_dict()


def averaged(model):
    average = AveragedModel(model)
    average.update_parameters(model)
    return average.state_dict()


def trained_optimizer(model):
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


# every entry of the list of known faults, and what it holds
ENTRIES = {
    "state_dict_ema": (lambda: old(), "9 tensors"),
    "model_ema": (lambda: {"decay": 0.999, "module": old()}, "9 tensors"),
    "init_weight": (lambda: old(1), "9 tensors"),
    "best_model_state_dict": (lambda: old(), "9 tensors"),
    "teacher": (lambda: {f"backbone.{k}": v for k, v in old().items()}, "9 tensors"),
    "swa_state_dict": (lambda: averaged(small()), "10 tensors"),
    "swa_model": (lambda: OrderedDict(averaged(small())), "10 tensors"),
    "replay_buffer": (lambda: [(torch.randn(4), 3), (torch.randn(4), 1)], "2 tensors"),
    "train_features": (lambda: torch.randn(20, 5), "1 tensor"),
    "callbacks": (lambda: {"EMA": {"state": {"w": torch.randn(9)}, "decay": 0.9}}, "1 tensor"),
    "optimizer": (lambda: trained_optimizer(small()), "18 tensors"),
    "rng": (lambda: torch.get_rng_state(), "1 tensor"),
    "numbers": (lambda: torch.randn(10_000).tolist(), "10,000 numbers"),
    "flags": (lambda: {"seen": [True] * 2_000}, "2,000 numbers"),
    "encoded": (lambda: "AB" * 6_000, "12,000 characters"),
    "packed": (lambda: old()["0.weight"].numpy().tobytes() * 20, "1,600 bytes"),
    # an integer of 2,000 bits counts as 32 numbers
    "huge_integers": (lambda: [1 << 1_999] * 100, "3,200 numbers"),
    "hidden": (lambda: with_attribute(), "1 tensor"),
}
PLAIN = {
    "epoch": 7,
    "args": {"lr": 0.1, "name": "mlp", "layers": [1, 2], "none": None},
    "classes": [f"class number {k}" for k in range(1000)],
    "best_acc": 0.93,
    "ema_decay": 0.999,
    "history": [0.5] * 300,
    "momentum": 0.9,
}


def with_attribute():
    plain = OrderedDict(a=1)
    plain.secret = torch.randn(3)
    return plain


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_content_of_an_entry_decides(tmp_path, entry):
    make, text = ENTRIES[entry]
    torch.save({"state_dict": old(), entry: make(), **PLAIN}, tmp_path / "in.pt")
    read = read_checkpoint(tmp_path / "in.pt")
    assert read.dropped == {entry: text} and read.rest == PLAIN
    assert sum(f"{entry} ({text})" in note for note in read.notices) == 1
    out = write_checkpoint(tmp_path / "out.pt", old(5), like=read)
    written = torch.load(out, weights_only=True)
    assert set(written) == {"state_dict", "expunge", *PLAIN} and {k: written[k] for k in PLAIN} == PLAIN
    assert written["expunge"] == {"dropped": f'["{entry} ({text})"]', **entry_of(read)}
    assert surplus(out) == [] and surplus(tmp_path / "in.pt") == [f"{entry} ({text})"]
    # the next output drops nothing, and says so
    assert (
        "dropped"
        not in read_checkpoint(
            write_checkpoint(tmp_path / "b.pt", old(6), like=read_checkpoint(out))
        ).metadata
    )


def entry_of(read):
    return {"entry": "state_dict"} if read.other_states else {}


def test_settings_of_an_optimizer_are_useless_alone(tmp_path):
    torch.save({"model": old(), "optimizer": {"lr": 0.1}, "optimizer_name": "sgd"}, tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt")
    assert read.rest == {"optimizer_name": "sgd"} and read.dropped_data == []


def test_arrays_and_objects_that_the_user_allows_are_data_too(tmp_path):
    arrays = {"state_dict": old(), "means": np.zeros(4), "acc": np.float64(0.5)}
    assert measure(arrays["means"]).tensors == 1 and measure(np.float64(0.5)).text() == ""
    torch.save(arrays, tmp_path / "in.pt")
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(tmp_path / "in.pt")
    allowed = [np._core.multiarray._reconstruct, np._core.multiarray.scalar, np.ndarray, np.dtype]
    with torch.serialization.safe_globals([*allowed, *{type(np.dtype(t)) for t in (float, "f8")}]):
        read = read_checkpoint(tmp_path / "in.pt")
    assert read.dropped == {"means": "1 tensor"} and read.rest == {"acc": 0.5}


class Settings:
    """An object that a user allows torch to load."""


def test_tensors_in_the_attributes_of_an_object_are_found(tmp_path):
    good, bad = Settings(), Settings()
    good.lr, bad.nested = 0.1, {"x": [torch.ones(3)]}
    torch.save({"state_dict": old(), "good": good, "bad": bad}, tmp_path / "in.pt")
    with torch.serialization.safe_globals([Settings]):
        read = read_checkpoint(tmp_path / "in.pt")
    assert set(read.rest) == {"good"} and read.dropped == {"bad": "1 tensor"}


def test_a_container_that_holds_itself(tmp_path):
    loop = [1]
    loop.append(loop)
    assert measure(loop).numbers == 1 and find_states({"a": loop}) == {}


# ---- which model


LAYOUTS = {
    "state_dict_ema": lambda: {"state_dict": old(), "state_dict_ema": old(1), "epoch": 3},
    "swa_model": lambda: {"model": old(), "swa_model": averaged(small(1))},
    "callbacks.EMA.state": lambda: {
        "state_dict": old(),
        "callbacks": {"EMA": {"state": old(1), "decay": 0.9}},
    },
    "models.1": lambda: {"state_dict": old(), "models": [old(), old(1)]},
    "ema.ema_model": lambda: {
        "state_dict": old(),
        "ema": {
            **{f"ema_model.{k}": v for k, v in old(1).items()},
            **{f"online_model.{k}": v for k, v in old().items()},
        },
    },
    "a.b": lambda: {"state_dict": old(), "a.b": {"module." + k: v for k, v in old(1).items()}},
}


@pytest.mark.parametrize("key", LAYOUTS)
def test_the_average_is_read_and_written_under_its_own_entry(tmp_path, key):
    torch.save(LAYOUTS[key](), tmp_path / "in.pt")
    read = read_checkpoint(tmp_path / "in.pt", ema=key)
    model = small(9)
    load_into(model, read)
    assert model_hash(model) == model_hash(old(1))
    assert {"model", "state_dict"} & set(read.dropped)
    out = write_checkpoint(tmp_path / "out.pt", old(2), like=read)
    again = read_checkpoint(out, ema="models.0" if key == "models.1" else key)
    load_into(model, again)
    assert model_hash(model) == model_hash(old(2)) and not again.dropped and surplus(out) == []
    assert list(find_states(torch.load(out))) == [read.keys if key != "models.1" else ("models", 0)]
    if key == "swa_model":
        AveragedModel(small()).load_state_dict(torch.load(out)[key])
    if key == "callbacks.EMA.state":
        assert torch.load(out)["callbacks"]["EMA"]["decay"] == 0.9


def test_a_part_of_a_safetensors_file(tmp_path):
    both = {"ema." + k: v for k, v in old(1).items()} | {"raw." + k: v for k, v in old().items()}
    save_file(both, tmp_path / "in.safetensors")
    with pytest.raises(CheckpointError, match="lacks 9 tensors"):
        load_into(small(), read_checkpoint(tmp_path / "in.safetensors"))
    read = read_checkpoint(tmp_path / "in.safetensors", ema="ema")
    assert read.dropped == {"raw": "9 tensors"} and read.other_states == ["raw"]
    out = write_checkpoint(tmp_path / "out.safetensors", old(2), like=read)
    assert set(load_file(out)) == {"ema." + k for k in old()}


def test_an_unknown_entry_lists_those_that_hold_the_model(tmp_path):
    torch.save(
        {"state_dict": old(), "ema": old(1), "head": {"w": torch.ones(2)}, "epoch": 1}, tmp_path / "in.pt"
    )
    for key in ("emma", "epoch", "", "ema.9", "."):
        with pytest.raises(CheckpointError, match=r"these entries hold one: state_dict, ema\. Give"):
            read_checkpoint(tmp_path / "in.pt", ema=key)
    torch.save(old(), tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match="leave --ema out"):
        read_checkpoint(tmp_path / "plain.pt", ema="ema")


def test_the_default_is_told_with_the_other_models(tmp_path):
    torch.save(
        {"ema": old(1), "state_dict": old(), "swa": averaged(small()), "other": {"w": torch.ones(1)}},
        tmp_path / "in.pt",
    )
    read = read_checkpoint(tmp_path / "in.pt")
    assert read.nest == "state_dict" and read.other_states == ["ema", "swa"]
    assert (
        sum("3 models of one shape: `state_dict` is used, not ema, swa; choose" in n for n in read.notices)
        == 1
    )
    torch.save({"nets": {"a": old(), "b": {"w": torch.ones(1)}}}, tmp_path / "deep.pt")
    with pytest.raises(CheckpointError, match=r"none under a usual name: nets\.a, nets\.b"):
        read_checkpoint(tmp_path / "deep.pt")


def test_an_averaged_model_keeps_its_own_names(tmp_path):
    torch.save({"model": averaged(small())}, tmp_path / "in.pt")
    whole = AveragedModel(small(3))
    read = read_checkpoint(tmp_path / "in.pt")
    load_into(whole, read)
    out = write_checkpoint(tmp_path / "out.pt", whole.state_dict(), like=read)
    assert set(torch.load(out)["model"]) == set(whole.state_dict())


# ---- memory and metadata


def test_a_small_view_does_not_carry_a_large_storage(tmp_path):
    base = torch.randn(100_000)
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(base[500:512].view(3, 4))
    model.register_buffer("empty", base[:0])
    for name in ("out.pt", "out.safetensors"):
        out = write_checkpoint(tmp_path / name, model.state_dict())
        assert out.stat().st_size < 4_000 and base[600:604].numpy().tobytes() not in out.read_bytes()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "raw.pt")
    assert surplus(tmp_path / "raw.pt") == ["399,952 bytes of storages that belong to no tensor"]


def test_tied_tensors_stay_tied_and_attributes_and_subclasses_go(tmp_path):
    class Mine(torch.Tensor):
        pass

    base = torch.randn(20)
    tied = base[:12].view(3, 4)
    odd = torch.randn(3).as_subclass(Mine)
    odd.memory = torch.randn(50)
    out = write_checkpoint(tmp_path / "out.pt", {"a": tied, "b": tied, "odd": odd})
    read = torch.load(out, weights_only=True)
    assert read["a"].data_ptr() == read["b"].data_ptr() and torch.equal(read["a"], tied)
    assert type(read["odd"]) is torch.Tensor and odd.memory[:4].numpy().tobytes() not in out.read_bytes()


def test_files_of_the_archive_that_torch_does_not_read(tmp_path):
    out = write_checkpoint(tmp_path / "out.pt", old(), metadata={"a": "b"})
    assert surplus(out) == []
    for name, word in (("data/99", "1 storages"), ("backup.bin", "backup.bin")):
        copy = tmp_path / "copy.pt"
        copy.write_bytes(out.read_bytes())
        with zipfile.ZipFile(copy, "a") as archive:
            archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/{name}", b"old")
        assert surplus(copy) == [f"files of the archive that torch does not read: {word}"]


PIECES = {
    "numbers": lambda k: [0.5 + k] * 300,
    "texts": lambda k: str(k) * 3_000,
    "bytes": lambda k: bytes([k]) * 300,
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", PIECES)
def test_a_model_does_not_pass_in_small_pieces(tmp_path, kind, nested):
    pieces = {f"log{k}": PIECES[kind](k) for k in range(9)}
    content = {"state_dict": old(), "epoch": 7, **pieces}
    torch.save({"run": content} if nested else content, tmp_path / "in.pt")
    read = read_checkpoint(tmp_path / "in.pt")
    rest = read.rest["run"] if nested else read.rest
    assert rest["epoch"] == 7 and 2 <= len(rest) <= 7 and len(read.dropped) == 10 - len(rest)
    assert all("with the other entries" in text for text in read.dropped.values()) and surplus(read.path)
    assert surplus(write_checkpoint(tmp_path / "out.pt", old(2), like=read)) == []


def test_names_hold_no_model(tmp_path):
    long = {"k" * 3_000 + str(k): k for k in range(60)}
    torch.save({"state_dict": old(), **long}, tmp_path / "in.pt")
    read = read_checkpoint(tmp_path / "in.pt")
    assert len(read.rest) <= 6 and max(map(len, read.dropped)) <= 100
    out = read_checkpoint(write_checkpoint(tmp_path / "out.pt", old(2), like=read))
    assert len(out.metadata["dropped"]) < 10_000
    torch.save({"k" * 2_000: {"state_dict": old()}}, tmp_path / "in.pt")
    with pytest.raises(CheckpointError, match="short name"):
        read_checkpoint(tmp_path / "in.pt")


def test_versions_hold_no_model(tmp_path):
    state = OrderedDict(old())
    state._metadata = OrderedDict({"": {"version": 2, "x": [0.5] * 9}, "no module": {"version": 1}})
    torch.save({"state_dict": state}, tmp_path / "in.pt")
    assert read_checkpoint(tmp_path / "in.pt").versions == {"": {"version": 2}}


@pytest.mark.parametrize("marked", [False, True])
def test_metadata_do_not_hold_a_model_in_pieces(tmp_path, marked):
    pieces = {f"n{k}": "x" * 9_000 for k in range(9)} | ({"expunge": "1.0"} if marked else {})
    save_file(old(), tmp_path / "in.safetensors", {**pieces, "method": "y" * 5_000})
    read = read_checkpoint(tmp_path / "in.safetensors")
    assert sum(map(len, read.metadata.values())) < 20_000 and len(read.dropped) >= 7
    assert ("method" in read.metadata) != marked and surplus(read.path)
    save_file(
        old(), tmp_path / "in.safetensors", {"expunge": "1.0", "requests": json.dumps([{"x": "y" * 2_000}])}
    )
    with pytest.raises(CheckpointError, match="list of requests that is longer"):
        read_checkpoint(tmp_path / "in.safetensors")


def test_metadata_are_short_texts(tmp_path):
    save_file(old(), tmp_path / "in.safetensors", {"tags": "x" * 20_000, "note": "short"})
    read = read_checkpoint(tmp_path / "in.safetensors")
    assert read.metadata == {"note": "short"} and read.dropped == {"metadata tags": "20,000 characters"}
    torch.save({"state_dict": old(), "expunge": {"method": "x", "w": torch.ones(3)}}, tmp_path / "in.pt")
    read = read_checkpoint(tmp_path / "in.pt")
    assert read.metadata == {"method": "x"} and read.dropped == {"expunge.w": "1 tensor"}
    for content in (b"[1]", b'{"a": 1}', b"{", b"[" * 100_000):
        out = write_checkpoint(tmp_path / "plain.pt", old())
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/expunge.json", content)
        with pytest.raises(CheckpointError, match=r"metadata in .* damaged"):
            read_checkpoint(out)


tensors = st.integers(0, 2**31).map(lambda s: torch.randn(6, generator=torch.Generator().manual_seed(s)))
plain = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("abc", max_size=4)
names = st.text("abcdesw._", min_size=1, max_size=6)
nested = st.recursive(
    plain | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(names, inner, max_size=3)
        | st.dictionaries(names, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [t for item in inside for t in tensors_in(item)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rest=st.dictionaries(names, nested, max_size=4),
    nest=st.sampled_from(["state_dict", "model"]),
    prefix=st.sampled_from(["", "module."]),
)
def test_no_bytes_of_the_old_model_are_in_the_output(tmp_path, rest, nest, prefix):
    before, after = old(), old(1)
    # the mask held this parameter
    after["0.bias"] = before["0.bias"]
    torch.save(
        {**rest, "again": [before], nest: {prefix + k: v for k, v in before.items()}}, tmp_path / "in.pt"
    )
    source = (tmp_path / "in.pt").read_bytes()
    read = read_checkpoint(tmp_path / "in.pt")
    out = write_checkpoint(tmp_path / "out.pt", after, like=read)
    written = out.read_bytes()
    gone = [*tensors_in(rest), *(v for k, v in before.items() if k in ("0.weight", "2.weight", "2.bias"))]
    for tensor in gone:
        raw = tensor.numpy().tobytes()
        assert raw in source and raw not in written
        assert all(struct.pack(">d", x) not in written for x in tensor.flatten().tolist())
    assert before["0.bias"].numpy().tobytes() in written
    assert model_hash(out) == model_hash(after) and surplus(out) == []


# ---- end to end


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained model of digits, and the training file of a user: the nine entries, an optimizer, plain values."""
    folder = tmp_path_factory.mktemp("delivered")
    assert main(["train", *DIGITS, "--out", str(folder / "raw.safetensors"), *QUICK]) == 0
    state = read_checkpoint(folder / "raw.safetensors").state
    model = build("mlp", num_classes=10, shape=(1, 8, 8))
    model.load_state_dict(state)
    copy = lambda: {k: v.clone() for k, v in state.items()}  # noqa: E731
    theirs = {
        "state_dict": copy(),
        "state_dict_ema": copy(),
        "model_ema": copy(),
        "init_weight": copy(),
        "best_model_state_dict": copy(),
        "teacher": {"module." + k: v for k, v in copy().items()},
        "swa_state_dict": averaged(model),
        "swa_model": averaged(model),
        "replay_buffer": {"x": torch.rand(9, 64), "y": torch.zeros(9)},
        "train_features": torch.rand(90, 5),
        "optimizer": {"state": {0: {"momentum_buffer": torch.rand(9)}}, "param_groups": []},
        "epoch": 4,
        "best_acc": 0.9,
    }
    torch.save(theirs, folder / "theirs.pt")
    return folder


def recognised(state, digit=3):
    """Percent of the unseen threes that a state of the model recognises."""
    source = load("digits")
    threes = Split.by_class(source.train, source.test, digit).test_forgotten
    model = build("mlp", num_classes=10, shape=(1, 8, 8))
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(batch.x).argmax(1) for batch in threes.batches(512)])
    return (predicted == digit).float().mean().item() * 100


def every_state(path):
    """{entry: share of the threes that it recognises} of all states of the model in a file."""
    first = read_checkpoint(path)
    entries = [first.nest, *first.other_states]
    return {entry: recognised(read_checkpoint(path, ema=entry).state) for entry in entries}


def unlearn(folder, out, *more, checkpoint="theirs.pt"):
    words = [
        "--checkpoint",
        str(folder / checkpoint),
        "--out",
        str(out),
        "--forget-class",
        "3",
        "--validation",
        "0",
    ]
    return main(["unlearn", "salun", *DIGITS, *words, "--epochs", "2", *more])


def test_no_state_in_the_delivered_file_recognises_the_class(trained, tmp_path, capsys):
    before = every_state(trained / "theirs.pt")
    assert len(before) == 8 and min(before.values()) > 90
    source = (trained / "theirs.pt").read_bytes()
    out = tmp_path / "un.pt"
    assert unlearn(trained, out) == 0
    shown = capsys.readouterr().err
    assert (trained / "theirs.pt").read_bytes() == source
    assert (
        sum("an output does not have these entries of theirs.pt, as" in line for line in shown.splitlines())
        == 1
    )
    assert "8 models of one shape: `state_dict` is used, not state_dict_ema" in shown
    assert every_state(out) == {"state_dict": pytest.approx(0, abs=10)}
    written = torch.load(out, weights_only=True)
    assert set(written) == {"state_dict", "epoch", "best_acc", "expunge"}
    told = json.loads(written["expunge"]["dropped"])
    assert len(told) == 10 and "replay_buffer (2 tensors)" in told and "train_features (1 tensor)" in told
    record = Record.load(out.with_suffix(".json"))
    assert record.details["checkpoint"] == {"entry": "state_dict", "dropped": told}
    old_bytes = [t.numpy().tobytes() for t in tensors_in(torch.load(trained / "theirs.pt")) if t.numel() > 8]
    held = [v.numpy().tobytes() for v in written["state_dict"].values()]
    assert all(raw in held or raw not in out.read_bytes() for raw in old_bytes)
    receipt = str(out.with_suffix(".receipt.json"))
    assert main(["verify", receipt, "--model", str(out), "--original", str(trained / "theirs.pt")]) == 0
    assert "ok     contents: the file holds this model and no other tensors" in capsys.readouterr().out


def test_a_file_as_it_was_delivered_before_fails_verify_and_is_seen_by_audit(trained, tmp_path, capsys):
    """The negative control: the unlearned state beside the average of before."""
    out = tmp_path / "un.pt"
    assert unlearn(trained, out) == 0
    average = torch.load(trained / "theirs.pt")["state_dict_ema"]
    torch.save({**torch.load(out), "state_dict_ema": average}, tmp_path / "dirty.pt")
    states = every_state(tmp_path / "dirty.pt")
    assert states["state_dict"] < 10 and states["state_dict_ema"] > 90
    capsys.readouterr()
    receipt = str(out.with_suffix(".receipt.json"))
    assert main(["verify", receipt, "--model", str(tmp_path / "dirty.pt")]) == 1
    shown = capsys.readouterr().out
    assert "FAILED contents: the file holds more than this model: state_dict_ema (" in shown
    assert "ok     model" in shown and "FAILED model file" in shown and "2 of" in shown
    checks = {c.name: c.ok for c in verify(receipt, torch.load(out)["state_dict"])}
    assert checks["model"] and "contents" not in checks
    audit = [
        "audit",
        *DIGITS,
        "--original",
        str(trained / "theirs.pt"),
        "--forget-class",
        "3",
        "--validation",
        "0",
    ]
    record = tmp_path / "audit.json"
    # the average is the original itself
    assert main([*audit, "--checkpoint", str(tmp_path / "dirty.pt"), "--out", str(record)]) == 1
    shown = capsys.readouterr()
    assert "no conclusion on salun (state_dict_ema): The model is the original" in shown.err
    assert "salun (state_dict_ema)" in shown.out
    assert "holds 2 models; of the forget set they recognise: `state_dict`" in shown.err
    scores = Record.load(record)
    assert scores.scores["UA"] > 90 and scores.details["other_states"]["state_dict_ema"]["UA"] < 10
    assert main([*audit, "--checkpoint", str(out)]) == 0
    shown = capsys.readouterr()
    assert "models; of the forget set they recognise" not in shown.err and "state_dict_ema" not in shown.out


def test_a_further_model_beyond_the_gap_ends_the_audit_with_1(trained, tmp_path):
    words = ["--forget-class", "3", "--validation", "0"]
    gold = tmp_path / "gold.safetensors"
    assert main(["train", *DIGITS, "--out", str(gold), "--without-forget", *words, *QUICK]) == 0
    state = {k: v for k, v in read_checkpoint(gold).state.items()}
    torch.save({"model": state}, tmp_path / "clean.pt")
    torch.save(
        {"model": state, "ema": read_checkpoint(trained / "raw.safetensors").state}, tmp_path / "dirty.pt"
    )
    audit = [
        "audit",
        *DIGITS,
        *words,
        "--original",
        str(trained / "theirs.pt"),
        "--retrained",
        str(gold),
        "--max-gap",
        "5",
    ]
    assert main([*audit, "--checkpoint", str(tmp_path / "clean.pt")]) == 0
    assert main([*audit, "--checkpoint", str(tmp_path / "dirty.pt")]) == 1


@pytest.mark.parametrize("entry", ["state_dict_ema", "swa_model"])
def test_the_average_is_unlearned_instead(trained, tmp_path, entry, capsys):
    out = tmp_path / "un.pt"
    assert unlearn(trained, out, "--ema", entry) == 0
    assert every_state(out) == {entry: pytest.approx(0, abs=10)}
    read = read_checkpoint(out)
    assert (
        read.nest == entry and read.metadata["entry"] == entry and "state_dict (" in read.metadata["dropped"]
    )
    receipt = str(out.with_suffix(".receipt.json"))
    evidence = [
        "--model",
        str(out),
        "--original",
        str(trained / "theirs.pt"),
        "--record",
        str(out.with_suffix(".json")),
    ]
    assert main(["verify", receipt, *evidence]) == 0
    words = [
        "--original",
        str(trained / "theirs.pt"),
        "--forget-class",
        "3",
        "--validation",
        "0",
        "--ema",
        entry,
    ]
    assert main(["audit", *DIGITS, "--checkpoint", str(out), *words]) == 0
    # a file with one model needs no entry
    plain = write_checkpoint(tmp_path / "plain.safetensors", read.state)
    assert main(["audit", *DIGITS, "--checkpoint", str(plain), *words]) == 0


def test_an_unknown_entry_is_refused_before_anything_is_written(trained, tmp_path, capsys):
    source = (trained / "theirs.pt").read_bytes()
    for more in (["--ema", "emma"], ["--ema", "replay_buffer"]):
        assert unlearn(trained, tmp_path / "un.pt", *more) == 2
    shown = capsys.readouterr().err
    assert "these entries hold one: state_dict, state_dict_ema, model_ema" in shown
    words = ["--forget-class", "3", "--validation", "0", "--ema", "emma"]
    raw = str(trained / "raw.safetensors")
    assert main(["audit", *DIGITS, "--checkpoint", raw, "--original", raw, *words]) == 2
    assert not list(tmp_path.iterdir()) and (trained / "theirs.pt").read_bytes() == source


def test_the_help_names_the_flag(capsys):
    for command in (["unlearn", "salun"], ["audit"], ["unlearn-generator", "salun"]):
        assert main([*command, "--help"]) == 0
        assert "--ema" in capsys.readouterr().out


def test_the_example_of_the_data_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "read_checkpoint(" in b)
    exec(compile(block, "data.md", "exec"), {})
    shown = block.rsplit("# ", 1)[1].strip()
    assert capsys.readouterr().out.strip() == shown and surplus("new.pt") == []


def test_python_shows_what_no_output_has(tmp_path):
    torch.save({"state_dict": old(), "ema": old(1)}, tmp_path / "in.pt")
    read = read_checkpoint(Path(tmp_path / "in.pt"))
    assert read.dropped == {"ema": "9 tensors"} and read.dropped_data == ["ema (9 tensors)"]
