"""The diffusion benchmark for a GPU, in toy sizes: what is finished when its time is over is not made again."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from expunge.audit.image_judge import Judge
from expunge.data.split import Split
from expunge.data.tensors import TensorData
from expunge.data.transforms import CropFlip
from expunge.methods.retrain_ema import RetrainEMA
from expunge.pipeline.experiment import train
from expunge.sources import Source
from expunge.tasks.classification import Classification
from expunge.tasks.sampling import Sampler


@pytest.fixture(scope="module")
def module():
    file = Path(__file__).parents[1] / "benchmarks" / "gpu_cifar10_ddpm.py"
    spec = importlib.util.spec_from_file_location("gpu_cifar10_ddpm", file)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # where dataclasses look for it
    spec.loader.exec_module(made)
    yield made
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def source():
    draw = torch.Generator().manual_seed(0)
    sets = [torch.randint(0, 256, (20, 3, 32, 32), generator=draw, dtype=torch.uint8) for _ in range(2)]
    y, names = torch.arange(20) % 10, [str(k) for k in range(10)]
    train_, test = (TensorData(x, y, augment=a) for x, a in zip(sets, (CropFlip(4), None), strict=True))
    return Source(train_, test, names, (3, 32, 32), "noise")


def bench(module, source, out, end=float("inf")):
    split = Split.by_class(source.train, source.test, 0, validation=0.0)
    made = module.Bench(out, source, split, "cpu", 0, 1, True, None, end)
    made.sampler = Sampler(steps=1, guidance=1.0)
    return made


def judge():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 10))
    return Judge(model, Classification(10), 90.0)


def test_drawing_goes_on_at_the_class_where_its_time_was_over(module, source, tmp_path, monkeypatch):
    whole = bench(module, source, tmp_path / "whole")
    network = whole.factory()
    images = whole.look("a", network, judge()).images
    left = iter([None] * 3)

    def over(self):
        if next(left, 0) == 0:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(module.Bench, "on_time", over)
        with pytest.raises(SystemExit):
            bench(module, source, tmp_path).look("a", network, judge())
    again = bench(module, source, tmp_path).look("a", network, judge())
    assert torch.equal(again.images, images) and len(images) == 10
    with pytest.raises(SystemExit):
        bench(module, source, tmp_path, end=0.0).look("b", network, judge())
    kept = bench(module, source, tmp_path, end=0.0).look("a", None, judge())
    assert torch.equal(kept.images, images)


def test_a_network_is_made_once_and_keeps_its_record(module, source, tmp_path):
    one = bench(module, source, tmp_path)
    recipe = RetrainEMA(epochs=1, batch_size=20)
    make = lambda state: train(  # noqa: E731
        one.factory(), one.split, recipe, one.task, state_file=state, seed=0
    )
    model, record = one.made("original", "original", recipe, make)
    again, read = one.made("original", "original", recipe, None)
    assert read.seconds == record.seconds > 0 and not read.scores and read.curves == record.curves
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["original.json", "original.safetensors"]
    assert one.split.forget.data.augment == CropFlip(0) and one.judged.forget.data.augment == CropFlip(4)


def test_a_folder_takes_no_networks_of_other_arguments(module, tmp_path):
    about = {"forget": 0, "source": "a"}
    module.only_of(tmp_path / "new", about)
    module.only_of(tmp_path / "new", about)
    with pytest.raises(SystemExit, match="another forget 0, now 1"):
        module.only_of(tmp_path / "new", {**about, "forget": 1})
