"""`paper=True`: the same name for every method, the published settings, and files of earlier versions."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import torch

from expunge import Classification, ExpungeError, Split, execute
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.nhle import NHLE
from expunge.methods.retrain import Retrain
from expunge.methods.ssd import SSD
from expunge.methods.ugradsl import UGradSL
from expunge.records.checkpoint import Checkpoint
from expunge.records.record import settings_of
from expunge.training.registry import METHODS, method_from_metadata
from expunge.tuning.trials import choose

TASK = Classification(4)


@pytest.fixture(scope="module")
def split():
    x, y = torch.randn(80, 8), torch.arange(80) % 4
    return Split.by_class((x[:60], y[:60]), (x[60:], y[60:]), [1])


@pytest.mark.parametrize("name", sorted(METHODS.classes()))
def test_every_method_has_it_and_published_values_are_fields(name):
    method = METHODS.classes()[name]
    assert "paper" in {f.name for f in fields(method)}
    made = method(paper=True)
    for field, value in (method.published or {}).items():
        assert getattr(made, field) == value != getattr(method(), field)


def test_values_of_the_user_win_over_published_ones():
    assert (
        GradientAscent(paper=True).max_drop == 100 and GradientAscent(paper=True, max_drop=7.0).max_drop == 7
    )
    plain = UGradSL(paper=True)
    assert (plain.gate, plain.clip, plain.early_stop, plain.max_drop) == (False, None, False, 100)


def test_a_method_without_published_settings_refuses_it(split):
    model = torch.nn.Linear(8, 4)
    with pytest.raises(ExpungeError, match="no published settings of NHLE were found"):
        execute(model, split, NHLE(paper=True), TASK)


def test_automatic_settings_leave_published_ones(split):
    model = torch.nn.Linear(8, 4)
    assert choose(model, split, SSD(paper=True), TASK, count="auto") == (SSD(paper=True), None, {})


def test_files_and_cache_keys_of_earlier_versions_stay():
    assert "paper" not in settings_of(Retrain()) and settings_of(SSD(paper=True))["paper"] is True
    old = {"method": "ssd", "kind": "unlearn", "settings": json.dumps({"alpha": 3.0, "paper_exact": True})}
    checkpoint = Checkpoint.__new__(Checkpoint)
    object.__setattr__(checkpoint, "metadata", old)
    assert method_from_metadata(checkpoint) == SSD(alpha=3.0, paper=True)
