"""The speed benchmark compares things that do the same: its literal versions give our answers. No time is asserted."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from expunge import Classification, Compute, CropFlip, Split, TensorData, find, masked, random_mask
from expunge.training.loop import _step, make_optimizer
from expunge.training.run import Run

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "speed"))
import attack
import floor
import masked_step
import saliency
import timing


@pytest.mark.slow
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


def test_both_attacks_give_the_same_answer():
    percent = attack.measure(300, 1)["percent"]
    assert percent["ours"] == pytest.approx(percent["scikit-learn"], abs=2)


def test_ratios_are_taken_turn_by_turn():
    a, b = ({"wall": timing.summary(v)} for v in ([2.0, 6.0, 1.0], [1.0, 2.0, 1.0]))
    assert timing.ratio(a, b)["all"] == [2.0, 3.0, 1.0] and timing.ratio(a, b)["median"] == 2.0


def test_the_floor_continues_after_the_finished_pieces(tmp_path, monkeypatch):
    made, keep = [], tmp_path / "pieces.json"
    values = {
        "matrix_flops_a_second": 2.0,
        "flops_a_sample": 4.0,
        "retrain": {"sample_passes": 5, "seconds": 30.0},
    }

    def pieces(device, quick):
        return {n: lambda n=n, v=v: made.append(n) or v for n, v in values.items()}

    monkeypatch.setattr(floor, "pieces", pieces)
    clock = iter([0.0, 0.0, 2.0, 0.0])
    monkeypatch.setattr(floor, "made_of", lambda *files, **arguments: about)
    about = {"device": "cpu", "source": "1"}
    monkeypatch.setattr(floor.time, "time", lambda: next(clock))
    assert floor.run(True, keep, end=1.0) is None and made == list(values)[:2]
    about = {"device": "cpu", "source": "2"}
    with pytest.raises(SystemExit, match="another source '1', now '2'"):
        floor.run(True, keep, end=1.0)
    about = {"device": "cpu", "source": "1"}
    found = floor.run(True, keep, end=1.0)
    assert made == list(values) and "made of" not in found
    assert found["retrain"]["floor_seconds"] == 10 and found["retrain"]["times_the_floor"] == 3


def test_pieces_depend_on_the_source_the_device_and_the_arguments(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("1")
    first = floor.made_of(file, at=("a", 1))
    assert floor.made_of(file, at=("a", 1)) == first and first["at"] == ["a", 1]
    assert {"device", "torch", "source"} < set(first)
    file.write_text("2")
    assert floor.made_of(file)["source"] != first["source"]


def test_a_sort_runs_on_the_device_of_its_scores():
    scores = {"a": torch.randn(8, device="meta"), "b": torch.randn(4, device="meta")}
    assert {m.device.type for m in saliency.argsort(scores, 0.5).values()} == {"meta"}


@pytest.mark.slow
def test_the_gpu_selection_is_compared_by_its_answer():
    assert floor.selection("cpu", 4000, 1)["same_answer"]


def test_one_pass_gives_the_scores_that_samples_one_by_one_give():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.Linear(8, 3)
    )
    x = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8)
    seen = Classification(3).predict(
        model, TensorData(x, torch.arange(23) % 3).samples(), features=True, batch_size=7
    )
    model.eval()
    for k in range(23):
        feature = model[:-1](x[k : k + 1] / 255)
        assert torch.allclose(seen.features[k], feature[0], atol=1e-5)
        assert torch.allclose(seen.logits[k], model[-1](feature)[0], atol=1e-5)


def test_activation_checkpointing_gives_the_same_gradients():
    pytest.importorskip("diffusers")
    from expunge.models.unet import unet
    from expunge.tasks.diffusion import Diffusion

    torch.manual_seed(0)
    plain = unet(2, (1, 8, 8), width=8, multipliers=(1,), attention=())
    saving = copy.deepcopy(plain)
    saving.enable_gradient_checkpointing()
    data = TensorData(torch.rand(4, 1, 8, 8), torch.arange(4) % 2)
    for model in (plain, saving):
        model.train()
        torch.manual_seed(1)
        Diffusion(2).loss(model, next(data.samples().batches(4))).mean().backward()
    assert any(getattr(m, "gradient_checkpointing", False) for m in saving.modules())
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


# ---- nothing in a step waits for the device


class Blocking(TorchDispatchMode):
    """Where a tensor with values goes to the device without leave to go on meanwhile, that is kept in `seen`."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and args[0].device.type == "cpu":
            away = torch.device(kwargs.get("device") or "cpu").type == "meta"
            if away and not kwargs.get("non_blocking"):
                self.seen.append(tuple(args[0].shape))
        return function(*args, **kwargs)


def steps_on_meta(method, compute=None):
    """An epoch of masked steps on the meta device, whose tensors have no values: what reads one back fails there, as does
    what mixes devices. A stand-in for a GPU, on which reading a value back stops the queue."""
    x = torch.randint(0, 256, (90, 3, 8, 8), dtype=torch.uint8)
    y = torch.arange(90) % 3
    split = Split.random(TensorData(x[:70], y[:70], augment=CropFlip(1)), TensorData(x[70:], y[70:]), 0.2)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
    )
    mask = random_mask(model, 0.5)
    away = copy.deepcopy(model).to("meta")
    run = Run(away, split, Classification(3), 0, compute or Compute(), source=model.to("meta"))
    optimizer = make_optimizer(method, run.model)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    next(run.split.train.batches(16, device="meta"))  # the data moves there once
    with masked(optimizer, run.model, mask) as held, Blocking() as blocking:
        for pair in method.pairs(run):
            method.train_mode(run)
            loss = _step(run, method, pair, optimizer, scaler, held)
    assert loss.device.type == "meta"
    return blocking.seen


@pytest.mark.parametrize(
    "name", ["finetune", "gradient_ascent", "l1_sparse", "neg_grad_plus", "retrain", "scrub"]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_no_step_waits_for_the_device(name, accumulate):
    method = find(name)(batch_size=16, clip=1.0)
    assert steps_on_meta(method, Compute(accumulate=accumulate)) == []


@pytest.mark.parametrize("order", ["sequential", "mixed", "paired"])
def test_no_step_with_other_labels_reads_anything_back(order):
    labels = steps_on_meta(find("salun")(batch_size=16, order=order))
    assert all(len(shape) == 1 for shape in labels), "at most the labels of a batch are waited for"
