"""Mixed precision: what "auto" chooses, what the record says of it, and the warning about emulated bfloat16."""

import warnings

import pytest
import torch
from torch import nn

from expunge import Classification, Compute, Split
from expunge.errors import ExpungeError
from expunge.methods.finetune import FineTune
from expunge.torch_utils import precision
from expunge.training import run as run_module
from expunge.training.execute import execute


@pytest.fixture
def setting():
    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    return nn.Linear(4, 3), Split.by_class((x, y), (x[:30], y[:30]), forget=2), Classification(3)


class Spy(nn.Module):
    """Note the type of its output, which autocast changes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        y = self.layer(x)
        SEEN.add(y.dtype)
        return y


SEEN: set = set()


@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_follows_the_instructions_of_the_device(setting, monkeypatch, fast, expected):
    _, split, task = setting
    for module in (precision, run_module):
        monkeypatch.setattr(module, "computes_bfloat16", lambda device: fast)
    SEEN.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        run = execute(
            Spy(), split, FineTune(epochs=1, lr=0.1, batch_size=16), task, compute=Compute(amp="auto")
        )
    assert expected in SEEN and len(SEEN - {torch.float32}) == fast
    assert run.notes == [f"amp auto: {'bfloat16 autocast' if fast else 'float32'}"]


def test_emulated_bfloat16_is_told_and_used(setting, monkeypatch):
    _, split, task = setting
    monkeypatch.setattr(run_module, "computes_bfloat16", lambda device: False)
    SEEN.clear()
    with pytest.warns(RuntimeWarning, match="no bfloat16 instructions.*use amp auto"):
        run = execute(
            Spy(), split, FineTune(epochs=1, lr=0.1, batch_size=16), task, compute=Compute(amp="bf16")
        )
    assert torch.bfloat16 in SEEN and "no bfloat16 instructions" in run.notes[0]


@pytest.mark.parametrize("name", precision.BFLOAT16)
def test_any_set_of_bfloat16_instructions_counts(monkeypatch, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True, "avx2": True})
    assert precision.computes_bfloat16(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: False, "avx2": True})
    assert not precision.computes_bfloat16(torch.device("cpu"))


def test_off_is_full_precision_and_unknown_words_are_refused(setting):
    model, split, task = setting
    assert precision.autocast_type("off", torch.device("cpu")) is None
    assert precision.autocast_type("fp16", torch.device("cpu")) == torch.float16
    with pytest.raises(ExpungeError, match=r"amp is 'fast'.*'auto'"):
        execute(model, split, FineTune(epochs=1), task, compute=Compute(amp="fast"))
