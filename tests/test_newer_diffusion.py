"""Methods that need nothing but a loss, on a diffusion model: the forgotten condition gets worse, the others stay."""

from __future__ import annotations

import pytest
import torch

from expunge.masks.per_sample_gradients import per_sample_gradients
from expunge.methods.assd import ASSD
from expunge.methods.munba import MUNBa
from expunge.methods.sfron import SFRon
from expunge.methods.ssd import SSD
from expunge.training.execute import execute
from small_problem import vectors

STEPS = {"optimizer": "adam", "lr": 1e-3, "batch_size": 64}
METHODS = [
    SSD(alpha=2.0),
    ASSD(dampening=0.1),
    SFRon(epochs=8, strength=1.0, **STEPS),
    MUNBa(epochs=15, **STEPS),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name())
def test_the_loss_grows_on_the_forgotten_condition(generator, method):
    model = execute(generator.model, generator.by_class, method, generator.task).model
    grown = [generator.probe(generator.model, s) - generator.probe(model, s) for s in ("forget", "retain")]
    assert grown[0] > 0.05 and grown[0] > 3 * grown[1]


def test_gradients_of_samples_let_a_task_look_at_the_model():
    model, split, task = vectors()

    class Looks(type(task)):
        def loss(self, model, batch):
            assert model.training is False and len(list(model.parameters())) == 4
            return super().loss(model, batch)

    batch = next(split.forget.batches(4))
    looked, plain = (per_sample_gradients(model, t, batch) for t in (Looks(4), task))
    assert all(torch.equal(looked[n], plain[n]) for n in plain)
