"""Notes before a run: scores of the old model in the file, outputs that are probabilities, several labels per sample."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from expunge import Classification, Split, TensorData, execute
from expunge.methods.finetune import FineTune
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.kept_scores import score_notices

TASK = Classification(3)


def data(count):
    generator = torch.Generator().manual_seed(count)
    return TensorData(torch.randn(count, 4, generator=generator), torch.arange(count) % 3)


def messages(model):
    split = Split.by_class(data(60), data(30), 1, validation=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        execute(model, split, FineTune(epochs=1, lr=0.01), TASK)
    return [str(w.message) for w in caught]


def test_scores_in_a_file_are_named():
    rest = {
        "epoch": 3,
        "best_acc": 91.5,
        "val.loss": 0.2,
        "args": {"lr": 0.1, "loss": "ce", "top1": 90},
        "loss_scale": 2.0,
    }
    assert score_notices("a.pth", rest) == [
        "an output keeps the scores of a.pth (best_acc, val.loss, args.top1) as they are: they are those of the model before the run."
    ]
    assert (
        "(a_acc, b_acc, c_acc, d_acc and 1 more)"
        in score_notices("a.pth", {f"{k}_acc": 1.0 for k in "abcde"})[0]
    )
    assert score_notices("a.pth", {"epoch": 3, "maps": 1, "lossy": 2.0, "acc": "91 %"}) == []
    assert score_notices("a.pth", [1]) == []


def test_a_checkpoint_with_scores_has_a_notice(tmp_path):
    model = nn.Linear(4, 3)
    for more, count in (({"acc": 90.0}, 1), ({"epoch": 3}, 0)):
        torch.save({"state_dict": model.state_dict(), **more}, tmp_path / "a.pth")
        load_into(model, checkpoint := read_checkpoint(tmp_path / "a.pth"))
        assert sum("keeps the scores of a.pth (acc)" in n for n in checkpoint.notices) == count


@pytest.mark.parametrize(("last", "count"), [(nn.Softmax(1), 1), (nn.Identity(), 0), (nn.LogSoftmax(1), 0)])
def test_a_model_that_ends_in_a_softmax_is_named(last, count):
    torch.manual_seed(0)
    found = messages(nn.Sequential(nn.Linear(4, 3), last))
    assert sum("the model returns probabilities" in text for text in found) == count


@pytest.mark.parametrize(
    ("kind", "count"), [("multi_label_classification", 1), ("single_label_classification", 0)]
)
def test_a_model_for_several_labels_is_named(kind, count):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    model.config = SimpleNamespace(problem_type=kind)
    assert sum("problem_type 'multi_label" in text for text in messages(model)) >= count
    assert count or not any("problem_type" in text for text in messages(model))
