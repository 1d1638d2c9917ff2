"""The speed benchmark compares things that do the same: its literal versions give our answers. No time is asserted."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from expunge import masked, random_mask

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "speed"))
import attack
import masked_step
import saliency
import timing


def test_the_sorts_pick_the_same_weights():
    found = saliency.measure(20_000, 1, sorts=2, warm=0)
    assert found["same_answer"] and found["weights"] == 20_000
    scores = saliency.gradients(5_000)
    ranked = saliency.two_argsorts(scores, 0.3)
    assert sum(int(m.sum()) for m in ranked.values()) == 1500


def test_the_literal_step_ends_at_the_same_weights():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    x, y = torch.randn(20, 6), torch.arange(20) % 3
    mask = random_mask(first, 0.5)
    ours, theirs = copy.deepcopy(first), copy.deepcopy(first)
    optimizers = [
        torch.optim.SGD(m.parameters(), 0.1, momentum=0.9, weight_decay=0.01) for m in (ours, theirs)
    ]
    before, after = masked_step.literal_restore(theirs, mask)
    optimizers[1].register_step_pre_hook(lambda *_: before())
    optimizers[1].register_step_post_hook(lambda *_: after())
    with masked(optimizers[0], ours, mask):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            step = masked_step.stepper(model, optimizer, x, y)
            for _ in range(4):
                step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert F.cross_entropy(ours(x), y).isfinite()


def test_both_attacks_say_the_same():
    percent = attack.measure(300, 1)["percent"]
    assert percent["ours"] == pytest.approx(percent["scikit-learn"], abs=2)


def test_ratios_are_taken_turn_by_turn():
    a, b = ({"wall": timing.summary(v)} for v in ([2.0, 6.0, 1.0], [1.0, 2.0, 1.0]))
    assert timing.ratio(a, b)["all"] == [2.0, 3.0, 1.0] and timing.ratio(a, b)["median"] == 2.0
