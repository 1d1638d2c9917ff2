"""An output has the form of its input: names of tied and wrapped models, the type and the files of a folder, dots in names."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from expunge import Classification, Split, TensorData, execute, find
from expunge.cli import main
from expunge.cli.run_files import with_record, written
from expunge.cli.unlearn_flags import UnlearnFlags
from expunge.errors import CheckpointError
from expunge.integrations.hub_folder import write_hub_folder
from expunge.receipts.receipt import receipt_paths
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.file_names import beside, file_suffix, same_names
from expunge.records.request_file import requests_path
from expunge.training.registry import find as find_method


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.out.weight = self.inp.weight
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.relu(self.out(torch.relu(self.inp(x)))))


def split_of():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % 3
    return Split.by_ids(TensorData(x, y), TensorData(x + 1, y), ["0", "1"], validation=0)


def unlearned(model):
    return execute(
        model, split_of(), find("finetune")(epochs=1, lr=0.1, batch_size=20), Classification(3)
    ).model


# ---- tied parameters


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("repeated", [False, True])
def test_an_output_repeats_tied_parameters_where_the_input_does(tmp_path, suffix, repeated):
    file, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    state = Tied().state_dict()
    kept = {k: v.clone() for k, v in state.items() if repeated or k != "out.weight"}
    torch.save(kept, file) if suffix == ".pt" else safetensors.torch.save_file(kept, file)
    model, read = Tied(), read_checkpoint(file)
    load_into(model, read)
    done = unlearned(model)
    write_checkpoint(out, done.state_dict(), like=read)
    names = set(read_checkpoint(out).state)
    assert names == set(kept)
    again = Tied()
    load_into(again, read_checkpoint(out))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), done.parameters(), strict=True))
    if suffix == ".safetensors" and not repeated:
        # strict, and refuses surplus names
        safetensors.torch.load_model(Tied(), out)


def test_values_that_are_no_longer_equal_keep_both_names(tmp_path):
    safetensors.torch.save_model(Tied(), str(tmp_path / "in.safetensors"))
    read, model = read_checkpoint(tmp_path / "in.safetensors"), Tied()
    load_into(model, read)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["out.weight"] += 1
    assert set(read_checkpoint(write_checkpoint(tmp_path / "o.safetensors", state, like=read)).state) == set(
        state
    )


def test_a_hub_folder_of_a_tied_model_loads_strictly(tmp_path):
    model = Tied()
    write_hub_folder(tmp_path / "hub", model)
    again = Tied()
    safetensors.torch.load_model(again, tmp_path / "hub" / "model.safetensors")
    assert torch.equal(again.out.weight, model.inp.weight) and torch.equal(again.head.bias, model.head.bias)


# ---- models in DataParallel


@pytest.mark.parametrize("inside", [False, True])
def test_an_output_for_a_wrapped_model_has_the_names_of_its_input(tmp_path, inside):
    make = lambda: nn.DataParallel(nn.Sequential(nn.Linear(8, 3)))  # noqa: E731
    original = make()
    torch.save((original.module if inside else original).state_dict(), tmp_path / "in.pt")
    model, read = make(), read_checkpoint(tmp_path / "in.pt")
    load_into(model, read)
    assert torch.equal(model.module[0].weight, original.module[0].weight)
    done = unlearned(model)
    for state in (
        (done.state_dict(), nn.DataParallel(done).state_dict()) if not inside else (done.state_dict(),)
    ):
        write_checkpoint(tmp_path / "out.pt", state, like=read)
        again = torch.load(tmp_path / "out.pt", weights_only=True)
        assert list(again) == list(torch.load(tmp_path / "in.pt", weights_only=True))
        fresh = make()
        (fresh.module if inside else fresh).load_state_dict(again)
        assert torch.equal(fresh.module[0].weight, done[0].weight)


def test_a_wrapped_model_whose_own_part_is_named_module(tmp_path):
    def make():
        inner = nn.Module()
        inner.module = nn.Linear(8, 3)
        return nn.DataParallel(inner)

    torch.save(make().state_dict(), tmp_path / "in.pt")
    model, read = make(), read_checkpoint(tmp_path / "in.pt")
    load_into(model, read)
    write_checkpoint(tmp_path / "out.pt", model.module.state_dict(), like=read)
    make().load_state_dict(torch.load(tmp_path / "out.pt", weights_only=True))


# ---- names with dots


def test_a_version_is_part_of_a_name():
    for name, suffix, record in (
        ("model.safetensors", ".safetensors", "model.json"),
        ("a.v2.PT", ".PT", "a.v2.json"),
        ("bert-v1.5", "", "bert-v1.5.json"),
        ("bert.v2", "", "bert.v2.json"),
        ("bert", "", "bert.json"),
    ):
        path = Path("runs") / name
        assert file_suffix(path) == suffix and beside(path, ".json") == Path("runs") / record
        assert with_record(path)["its record"] == written(path)["record"] == Path("runs") / record
        assert requests_path(path).name == record.replace(".json", ".requests.json")
        assert receipt_paths(path, "ul-0123456789")[0].name == record.replace(".json", ".receipt.json")
    method = find_method("salun")()
    for name, default in (("bert-v1.5", "bert-v1.5-salun"), ("m.v2.pt", "m.v2-salun.pt")):
        assert UnlearnFlags(checkpoint=Path(name)).checkpoint_to_write(method) == Path(default)


def folder_of(place, **config):
    """A folder as save_pretrained writes it, with parameters in half precision."""
    place.mkdir()
    state = {k: v.half() for k, v in nn.Linear(8, 3).state_dict().items()}
    safetensors.torch.save_file(state, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.mark.parametrize("name", ["unl-v1.5", "unl", "unl.v2"])
def test_a_folder_with_a_dot_in_its_name_is_written_as_a_folder(tmp_path, name):
    read, model = read_checkpoint(folder_of(tmp_path / "bert")), nn.Linear(8, 3)
    load_into(model, read)
    out = write_checkpoint(tmp_path / name, model.state_dict(), like=read)
    assert out.is_dir() and torch.equal(read_checkpoint(out).state["weight"], model.weight)
    assert write_checkpoint(tmp_path / f"{name}.pt", model.state_dict(), like=read).is_file()


def test_requests_beside_a_name_with_a_version_are_found_where_earlier_versions_wrote_them(tmp_path):
    from expunge.data.past_requests import PastRequest
    from expunge.records.checkpoint_requests import answered_requests, public_requests
    from expunge.records.request_file import write_requests

    past = PastRequest(request="ab", scenario="ids", goal="untrain", ids=("7",), method="salun")
    metadata = {"requests": json.dumps([past.public()])}
    file = write_checkpoint(tmp_path / "m-v1.5", nn.Linear(2, 2).state_dict(), metadata=metadata)
    read = read_checkpoint(file)
    assert public_requests(read)
    with pytest.raises(CheckpointError, match=r"m-v1\.5\.requests\.json with their ids is missing"):
        answered_requests(read)
    write_requests(tmp_path / "m-v1.requests.json", [past])
    assert answered_requests(read)[0].ids == ("7",)


# ---- files and types of a folder


def test_an_output_folder_gets_no_private_file(tmp_path):
    place = folder_of(tmp_path / "bert")
    for name in (
        "train.csv",
        "eval_predictions.jsonl",
        "unlearned.ul-X.secret.json",
        "notes.txt",
        "training_args.bin",
    ):
        (place / name).write_text("private")
    (place / "runs").mkdir()
    for name in ("tokenizer.json", "vocab.txt", "generation_config.json", "preprocessor_config.json"):
        (place / name).write_text("{}")
    read = read_checkpoint(place)
    assert any(
        "does not get these files of bert" in n
        and "eval_predictions.jsonl, notes.txt, runs/, train.csv, training_args.bin, unlearned.ul-X.secret.json"
        in n
        for n in read.notices
    )
    model = nn.Linear(8, 3)
    load_into(model, read)
    out = write_checkpoint(tmp_path / "out", model.state_dict(), like=read)
    assert {f.name for f in out.iterdir()} == {
        "model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "generation_config.json", "preprocessor_config.json",
    }  # fmt: skip
    # the control: without such files, nothing is said
    assert not any("does not get" in n for n in read_checkpoint(out).notices)


def test_config_json_names_the_type_of_the_written_parameters(tmp_path):
    config = {"dtype": "float16", "text_config": {"torch_dtype": "float16", "size": 3}, "other": "float16"}
    read, model = read_checkpoint(folder_of(tmp_path / "half", **config)), nn.Linear(8, 3)
    load_into(model, read)
    out = write_checkpoint(tmp_path / "out", model.state_dict(), like=read)
    assert {t.dtype for t in safetensors.torch.load_file(out / "model.safetensors").values()} == {
        torch.float32
    }
    assert json.loads((out / "config.json").read_text()) == {
        "dtype": "float32",
        "text_config": {"torch_dtype": "float32", "size": 3},
        "other": "float16",
    }
    # the control: parameters that have the type leave the file as it is
    same = write_checkpoint(tmp_path / "same", model.half().state_dict(), like=read)
    assert (same / "config.json").read_bytes() == (tmp_path / "half" / "config.json").read_bytes()


def test_transformers_loads_the_audited_parameters_of_a_half_folder(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    from tiny_families import auto, tiny

    model = tiny("vit").half()
    model.save_pretrained(tmp_path / "half")
    read, fresh = read_checkpoint(tmp_path / "half"), type(model)(model.config).float()
    load_into(fresh, read)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1e-5)
    out = write_checkpoint(tmp_path / "out-v1.5", fresh.state_dict(), like=read)
    loaded = auto("vit").from_pretrained(out)
    assert loaded.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), fresh.parameters(), strict=True))


def test_train_and_unlearn_name_their_files_after_a_version(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--data", "digits?limit=200", "--model", "mlp"]
    assert main(["train", *data, "--epochs", "1", "--out", "m-v1.5"]) == 0
    unlearn = ["unlearn", "finetune", *data, "--forget-class", "3", "--trials", "0", "--epochs", "1"]
    assert main([*unlearn, "--checkpoint", "m-v1.5", "--out", "u-v1.5"]) in (0, 1)
    names = {f.name for f in tmp_path.iterdir()}
    assert names >= {
        "m-v1.5",
        "m-v1.5.json",
        "u-v1.5",
        "u-v1.5.json",
        "u-v1.5.receipt.json",
        "u-v1.5.requests.json",
    }
    assert not names & {"m-v1.json", "u-v1.json"}
    # a run of the same name replaces its own files
    assert main(["train", *data, "--epochs", "1", "--seed", "1", "--out", "m-v1.5"]) == 0


def test_files_beside_another_checkpoint_are_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--data", "digits?limit=200", "--model", "mlp"]
    train = ["train", *data, "--epochs", "1", "--out"]
    assert main([*train, "m.pt"]) == 0
    before = (tmp_path / "m.json").read_bytes()
    unlearn = [
        "unlearn",
        "finetune",
        *data,
        "--forget-class",
        "3",
        "--trials",
        "0",
        "--epochs",
        "1",
        "--checkpoint",
        "m.pt",
        "--out",
    ]
    for command, other in ((train, "m-2.safetensors"), (unlearn, "m-2.safetensors")):
        assert main([*command, "m.safetensors"]) == 2
        text = " ".join(capsys.readouterr().err.split())
        assert "m.json are beside m.pt, and this run would replace them" in text and f"--out {other}." in text
    assert (tmp_path / "m.json").read_bytes() == before and not (tmp_path / "m.safetensors").exists()
    # the control: another name, and the same name again beside a checkpoint that has no files
    assert main([*unlearn, "u.pt"]) in (0, 1)
    (tmp_path / "u.safetensors").write_bytes(b"an original without files")
    assert main([*unlearn, "u.pt"]) in (0, 1)
    assert same_names(tmp_path / "u.pt") == [tmp_path / "u.safetensors"]
