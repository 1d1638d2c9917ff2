"""Parameters that share memory without being one: a copy unties them, so every entry refuses them."""

import pytest
import torch
from torch import nn

from expunge import CheckpointError, Classification, ModelError, Split, TensorData, audit, execute, find
from expunge.cli import main
from expunge.projects.session import Session
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.torch_utils.shared_memory import shared_memory


class Tied(nn.Module):
    """Two layers that are tied in one of several ways."""

    def __init__(self, how, num_classes=3):
        super().__init__()
        self.enc, self.dec = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, num_classes)
        if how == "data":
            self.dec.weight.data = self.enc.weight.data
        if how == "transposed":
            self.dec.weight = nn.Parameter(self.enc.weight.data.t())
        if how == "parameter":
            self.dec.weight = self.enc.weight
        if how == "buffer":
            self.register_buffer("copy", self.enc.weight.data)
        if how == "part":
            self.head.weight.data = self.enc.weight.data[2:5]

    def forward(self, x):
        return self.head(torch.relu(self.dec(torch.relu(self.enc(x.flatten(1)[:, :8])))))


def by_data(num_classes=10):
    return Tied("data", num_classes)


def split_of():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % 3
    return Split.by_ids(TensorData(x, y), TensorData(x + 1, y), ["0", "1"], validation=0)


@pytest.mark.parametrize(
    "how, pair",
    [
        ("data", ("enc.weight", "dec.weight")),
        ("transposed", ("enc.weight", "dec.weight")),
        ("buffer", ("enc.weight", "copy")),
        ("part", ("enc.weight", "head.weight")),
    ],
)
def test_every_way_of_sharing_is_found(how, pair):
    assert [set(found) for found in shared_memory(Tied(how))] == [set(pair)]
    with pytest.raises(ModelError, match="share memory without being one Parameter"):
        Classification(3).check(Tied(how), split_of().retain)


def test_ties_by_the_parameter_and_views_without_common_values_are_allowed():
    assert shared_memory(Tied("parameter")) == [] == shared_memory(Tied(""))
    flat = torch.arange(24.0)
    for one, other in ((flat[:12], flat[12:]), (flat.view(12, 2)[:, 0], flat.view(12, 2)[:, 1])):
        model = nn.Module()
        model.one, model.other = nn.Parameter(one), nn.Parameter(other)
        assert shared_memory(model) == []
    # the control: the columns overlap in one value
    model.other = nn.Parameter(flat[22:])
    assert len(shared_memory(model)) == 1
    assert shared_memory(nn.LSTM(4, 4, bidirectional=True)) == []
    frozen = Tied("data").requires_grad_(False)
    assert shared_memory(frozen) == []


@pytest.mark.parametrize("method", ["salun", "retrain", "scissorhands", "ssd"])
def test_every_method_refuses_such_a_model(method):
    with pytest.raises(
        ModelError, match=r"'enc\.weight' with 'dec\.weight'|'dec\.weight' with 'enc\.weight'"
    ):
        execute(Tied("data"), split_of(), find(method)(), Classification(3))


def test_audits_and_sessions_refuse_such_a_model():
    split = split_of()
    with pytest.raises(ModelError, match="share memory"):
        audit(Tied("data"), split, Classification(3))
    with pytest.raises(ModelError, match="share memory"):
        Session(Tied("data"), (split.forget.data, split.test.data), Classification(3), "finetune")


def test_the_command_line_refuses_such_a_model(tmp_path, capsys):
    torch.save(by_data().state_dict(), tmp_path / "T.pt")
    flags = [
        "--data",
        "digits?limit=100",
        "--model",
        "test_shared_memory:by_data",
        "--trials",
        "0",
        "--validation",
        "0",
    ]
    code = main(
        [
            "unlearn",
            "finetune",
            *flags,
            "--checkpoint",
            str(tmp_path / "T.pt"),
            "--forget-class",
            "3",
            "--out",
            str(tmp_path / "o.pt"),
        ]
    )
    assert code and "share memory without being one Parameter" in capsys.readouterr().err
    assert not (tmp_path / "o.pt").exists()


def test_a_parameter_that_repeats_its_values_is_refused():
    model = nn.Linear(8, 3)
    model.bias = nn.Parameter(torch.ones(1).expand(3))
    with pytest.raises(ModelError, match="repeat values in one memory"):
        Classification(3).check(model, split_of().retain)


def test_a_file_with_two_values_for_one_tensor_is_refused(tmp_path):
    state = Tied("").state_dict()
    torch.save(state, tmp_path / "two.pt")
    model = Tied("parameter")
    before = model.enc.weight.clone()
    with pytest.raises(
        CheckpointError, match=r"1 pairs of tensors have different values.*'enc\.weight' and 'dec\.weight'"
    ):
        load_into(model, read_checkpoint(tmp_path / "two.pt"))
    assert torch.equal(model.enc.weight, before)
    # the control: equal values, and a model that does not tie them
    load_into(Tied(""), read_checkpoint(tmp_path / "two.pt"))
    torch.save({**state, "dec.weight": state["enc.weight"].clone()}, tmp_path / "one.pt")
    load_into(model, read_checkpoint(tmp_path / "one.pt"))
    assert torch.equal(model.dec.weight, state["enc.weight"])
