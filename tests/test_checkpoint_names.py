"""Names that wrappers and libraries write: recognised, reported, and restored on output."""

import pytest
import torch
from torch import nn

from expunge import CheckpointError
from expunge.models import build
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.hashing import state_hash


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)


def there_and_back(tmp_path, content, model):
    """Load a file into `model`, write it, and return the checkpoint and the output."""
    torch.save(content, tmp_path / "in.ckpt")
    read = read_checkpoint(tmp_path / "in.ckpt")
    load_into(model, read)
    write_checkpoint(tmp_path / "out.ckpt", model.state_dict(), like=read, metadata={"seed": "1"})
    return read, torch.load(tmp_path / "out.ckpt")


def wrapped(prefix):
    return {prefix + k: v for k, v in Net().state_dict().items()}


@pytest.mark.parametrize(
    "prefix", ["model.", "net.", "module.", "_orig_mod.", "module.model._orig_mod.", "a.b.c."]
)
def test_every_common_prefix_is_reported_and_restored(tmp_path, prefix):
    content = {
        "state_dict": wrapped(prefix),
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {},
    }
    model = Net()
    read, out = there_and_back(tmp_path, content, model)
    assert state_hash(model.state_dict()) == state_hash(
        {k.removeprefix(prefix): v for k, v in content["state_dict"].items()}
    )
    assert read.prefix == prefix and sum(f"begin with '{prefix}'" in n for n in read.notices) == 1
    assert state_hash(out["state_dict"]) == state_hash(content["state_dict"])
    assert out["epoch"] == 3 and out["pytorch-lightning_version"] == "2.5.0"


def test_a_model_that_is_wrapped_takes_a_file_that_is_not(tmp_path):
    model = nn.Sequential(Net())
    state = Net().state_dict()
    read, out = there_and_back(tmp_path, state, model)
    assert read.names["0.head.weight"] == "head.weight" and "body.bias for 0.body.bias" not in read.notices
    assert state_hash(out) == state_hash(state) and state_hash(model[0].state_dict()) == state_hash(state)


def test_a_compiled_part_of_a_model(tmp_path):
    state = {k.replace("body.", "body._orig_mod."): v for k, v in Net().state_dict().items()}
    model = Net()
    _, out = there_and_back(tmp_path, state, model)
    assert state_hash(out) == state_hash(state) and torch.equal(model.body.bias, state["body._orig_mod.bias"])


def test_a_prefix_of_some_names_is_refused_with_the_way_out(tmp_path):
    """The control: a file with more than the model and a few values is never cut to fit."""
    content = {"state_dict": {**wrapped("model."), "criterion.weight": torch.ones(30)}}
    with pytest.raises(
        CheckpointError,
        match=r"begin with 'model\.' fit the model; choose them with --ema state_dict\.model\.",
    ):
        there_and_back(tmp_path, content, Net())
    read = read_checkpoint(tmp_path / "in.ckpt", ema="state_dict.model")
    load_into(Net(), read)
    assert read.dropped == {"state_dict.criterion": "1 tensor"}
    two = {"state_dict": {**wrapped("model."), **wrapped("teacher.")}}
    with pytest.raises(CheckpointError, match=r"--ema state_dict\.model or --ema state_dict\.teacher"):
        there_and_back(tmp_path, two, Net())


def test_few_tensors_beside_a_prefixed_model_stay_in_the_output(tmp_path):
    """Class weights and metrics of a Lightning module, which a strict load needs."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    whole = {f"model.{k}": v for k, v in model.state_dict().items()}
    extra = {"criterion.weight": torch.ones(3), "train_acc.tp": torch.arange(3)}
    content = {"state_dict": {**whole, **extra}, "epoch": 3}
    read, out = there_and_back(tmp_path, content, model)
    assert set(out["state_dict"]) == {*whole, *extra} and out["epoch"] == 3
    assert all(torch.equal(out["state_dict"][k], v) for k, v in extra.items())
    assert any(
        "2 tensors of in.ckpt with 6 values are not of the model (first: ['criterion.weight'" in n
        for n in read.notices
    )
    # the control: more than a tenth of the values may be another model
    for others in ({"teacher.weight": torch.ones(20)}, {"ema.0.weight": torch.ones(8, 8)}):
        with pytest.raises(CheckpointError) as caught:
            there_and_back(tmp_path, {"state_dict": {**whole, **others}}, model)
        assert "choose them with --ema state_dict.model" in caught.value.problems[0]


def salun_name(name):
    for n in range(4):
        name = name.replace(f"stages.{n}.", f"layer{n + 1}.")
    return name.replace("shortcut.", "downsample.")


@pytest.mark.parametrize("head", ["", "module."])
def test_the_resnet_of_salun(tmp_path, head):
    torch.manual_seed(1)
    theirs = {head + salun_name(k): v for k, v in build("resnet18", num_classes=10).state_dict().items()}
    assert head + "layer4.1.bn2.running_var" in theirs and head + "layer2.0.downsample.1.bias" in theirs
    theirs[head + "normalize.mean"] = torch.tensor([0.4914, 0.4822, 0.4465])
    theirs[head + "normalize.std"] = torch.tensor([0.2470, 0.2435, 0.2616])
    model = build("resnet18", num_classes=10)
    read, out = there_and_back(tmp_path, {"state_dict": theirs, "best_sa": 94.6, "epoch": 182}, model)
    assert state_hash(out["state_dict"]) == state_hash(theirs) and out["best_sa"] == 94.6
    assert torch.equal(model.stages[3][1].bn2.running_var, theirs[head + "layer4.1.bn2.running_var"])
    with pytest.raises(CheckpointError, match=r"normalize\.mean is \[0\.5, 0\.5, 0\.5\], but the model has"):
        there_and_back(tmp_path, {**theirs, head + "normalize.mean": torch.full((3,), 0.5)}, model)
    assert any("layer1.0.conv1.weight for stages.0.0.conv1.weight" in n for n in read.notices)
