"""Methods give the numbers of the authors' released code, in double precision on the same batches.

`tests/fixtures/released.json` holds the numbers. `python tools/released_numbers.py DIR` made them on 27 November 2026 (torch
2.13 on a CPU, one thread) with clones of these repositories in DIR:

- OPTML-Group/Unlearn-Saliency, commit a6e89fd: masks, RL, SalUn, SalUn-soft, GA, FT, l1-sparse, boundary shrink,
  boundary expand, Fisher forgetting, IU, SalUn for diffusion
- clear-nus/selective-amnesia, commit b736571: Fisher information and two steps
- meghdadk/SCRUB, commit 98ffb11: SCRUB
- if-loops/selective-synaptic-dampening, commit cdfdc0e: SSD
- vikram2000b/bad-teaching-unlearning, commit f1aa988: the gradient of bad teacher
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import expunge.methods.boundary_expand as boundary_expand
import expunge.methods.fisher_forgetting as fisher_forgetting
import released_problem as problem
from expunge import Classification, Split, execute
from expunge.data.batch import Batch
from expunge.data.samples import Samples
from expunge.masks.mask import top_mask
from expunge.masks.saliency import saliency_scores
from expunge.tasks.diffusion import Diffusion
from expunge.training.registry import find
from expunge.training.run import Run

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "released.json").read_text())
TASK = Classification(problem.CLASSES)
STEPS = {"epochs": 2, "lr": 0.05, "batch_size": problem.BATCH, "max_drop": 100.0}
METHODS = {
    "random_label": {"paper": True, **STEPS},
    "salun": {"paper": True, **STEPS},
    "salun_soft": {"paper": True, **STEPS},
    "gradient_ascent": {"paper": True, **STEPS, "lr": 0.01},
    "finetune": {"paper": True, **STEPS},
    "l1_sparse": {"paper": True, **STEPS, "penalty": 0.01},
    "boundary_shrink": {"paper": True, **STEPS},
    "boundary_expand": {"paper": True, **STEPS},
    "fisher_forgetting": {"paper": True, "alpha": 1e-5},
    "influence": {"paper": True, "alpha": 5.0},
    "scrub": {**STEPS, "forget_batch_size": problem.BATCH, "alpha": 0.3, "gamma": 0.99},
    "ssd": {"paper": True, "alpha": 1.3, "dampening": 0.7, "batch_size": problem.BATCH},
}


def numbers(tensors):
    return torch.cat([t.detach().double().flatten() for t in tensors if t.is_floating_point()])


def recorded(name):
    return torch.tensor(RECORDED[name], dtype=torch.float64)


def split_of(name=""):
    x, y = problem.training_samples(problem.RETAINED.get(name, 20))
    return Split.by_class(
        (x, y), (x[12:20], y[12:20]), forget=problem.FORGOTTEN, validation=0, copies="ignore"
    )


@pytest.fixture
def same_draws(monkeypatch):
    """Batches in data order, and the random numbers of the recording."""
    in_order, place = Samples.batches, 0

    def other_labels(self, run, y):
        nonlocal place
        start, place = place, place + len(y)
        return problem.labels(start, len(y))

    monkeypatch.setattr(
        Samples, "batches", lambda self, size, *, device=None, **_: in_order(self, size, device=device)
    )
    monkeypatch.setattr(find("random_label"), "other_labels", other_labels)
    monkeypatch.setattr(fisher_forgetting.torch, "randn", lambda *shape, **_: torch.ones(*shape))
    # boundary expand draws its unit between -1 and 1 and divides it by the square root of the width
    drawn = (problem.extra_unit() * 24**0.5 + 1) / 2
    monkeypatch.setattr(boundary_expand.torch, "rand", lambda *shape, **_: drawn)


@pytest.mark.parametrize("name", METHODS)
def test_models_are_those_of_the_released_code(name, same_draws):
    original = problem.classifier()
    run = execute(original, split_of(name), find(name)(**METHODS[name]), TASK)
    assert run.ended == "finished"
    assert torch.allclose(numbers(run.model.state_dict().values()), recorded(name), rtol=1e-9, atol=1e-11)
    # the control: the method moved the model
    assert not torch.allclose(numbers(original.state_dict().values()), recorded(name), rtol=1e-3)


def test_masks_at_ten_densities():
    split, model = split_of(), problem.classifier()
    scores = saliency_scores(model, split.forget, TASK, batch_size=problem.BATCH, paper_exact=True)
    masks = [top_mask(scores, tenth / 10) for tenth in range(1, 11)]
    count = sum(numbers(m[n].double() for n in scores) for m in masks)
    assert torch.equal(count, recorded("salun/masks"))


def test_fisher_information_of_batches():
    split, model = split_of("fisher_forgetting"), problem.classifier()
    got = numbers(fisher_forgetting.released_fisher(model, TASK, split.retain).values())
    assert torch.allclose(got, recorded("fisher_forgetting/fisher"), rtol=1e-10)


def test_bad_teacher_has_the_gradient_times_the_number_of_classes():
    """The released loss is a mean over samples and classes, ours a mean over samples. Adam takes the same steps with both."""
    split, method = split_of(), find("bad_teacher")()
    run = Run(problem.classifier(), split, TASK)
    run.memo["teacher"] = problem.set_to_values(problem.Classifier(), seed=1).state_dict()
    forget, retain = (next(s.batches(100)) for s in (split.forget, split.retain))
    gradient = torch.autograd.grad(method.loss(run, forget, retain), list(run.model.parameters()))
    expected = recorded("bad_teacher/gradient") * problem.CLASSES
    assert torch.allclose(numbers(gradient), expected, rtol=1e-9, atol=1e-14)


def diffusion_run():
    signal = tuple(RECORDED["selective_amnesia/signal"])
    task = Diffusion(problem.CLASSES, steps=problem.TIMES, levels=signal, condition_drop=0.0)
    x, y = problem.replayed()
    x, y = torch.cat([x, x]), torch.cat([torch.full((4,), problem.FORGOTTEN), y])
    split = Split.by_class((x, y), (x, y), forget=problem.FORGOTTEN, validation=0, copies="ignore")
    return Run(problem.denoiser(), split, task)


def two_steps(run, method, forget, retain, monkeypatch):
    """Take two steps of SGD with the draws of the recording."""
    calls = []

    def noise(like):
        calls.append(like)
        return problem.values(*like.shape, seed=200 + len(calls) - 1)

    def drawn(low, high, size, **_):
        # the choice of replayed images, else time steps
        return torch.arange(4) if high == 4 else problem.times(size[0])

    monkeypatch.setattr(torch, "randn_like", noise)
    monkeypatch.setattr(torch, "randint", drawn)
    optimizer = torch.optim.SGD(run.model.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        method.loss(run, forget, retain).backward()
        optimizer.step()


def test_salun_for_diffusion(monkeypatch):
    """Its alpha belongs to losses summed over the 32 elements of an image."""
    method = find("salun")(order="paired", relabel="next", retain_weight=32 * problem.ALPHA)
    run = diffusion_run()
    forget = Batch(problem.forgotten_images(), torch.full((4,), problem.FORGOTTEN), torch.arange(4))
    two_steps(run, method, forget, Batch(*problem.replayed(), torch.arange(4)), monkeypatch)
    assert torch.allclose(numbers(run.model.parameters()), recorded("salun/diffusion"), rtol=1e-5, atol=1e-7)
    moved = numbers(run.model.parameters()) - numbers(problem.denoiser().parameters())
    assert moved.abs().max() > 1e-4


class TestSelectiveAmnesia:
    """The task computes predictions in float32, so the numbers agree to that precision."""

    @pytest.fixture
    def run(self):
        return diffusion_run()

    @pytest.fixture
    def method(self):
        return find("selective_amnesia")(paper=True, batch_size=3, elastic=0.5)

    def test_fisher_information(self, run, method, monkeypatch):
        monkeypatch.setattr(torch, "randn_like", problem.stream())
        fisher = method._fisher(run, run.task, *problem.replayed())
        assert torch.allclose(numbers(fisher.values()), recorded("selective_amnesia/fisher"), rtol=1e-4)

    def test_the_fisher_information_drops_conditions_and_the_replay_keeps_them(self, run, method):
        object.__setattr__(run.task, "condition_drop", 1.0)
        conditions = []
        run.model.of_condition.register_forward_hook(lambda module, given, out: conditions.append(given[0]))
        x, y = problem.replayed()
        run.memo.update(pool=x, conditions=y, **{"fisher/of_time": torch.zeros(2)})
        fisher = method._fisher(run, run.task, x[:1], y[:1])
        assert torch.cat(conditions).tolist() == problem.TIMES * [run.task.null] and len(fisher) == 4
        run.model.train()
        method.loss(run, Batch(x, torch.full((4,), problem.FORGOTTEN), torch.arange(4)), None)
        noise, replay = conditions[-2:]
        assert set(noise.tolist()) == {problem.FORGOTTEN} and set(replay.tolist()) <= set(y.tolist())

    @pytest.mark.parametrize(("paper", "conditions"), [(False, {0, 2, 3}), (True, {0, 1, 2, 3})])
    def test_images_of_the_fisher_information(self, run, monkeypatch, paper, conditions):
        method = find("selective_amnesia")(paper=paper, replay="data", pool=64, fisher_samples=60)
        calls = []
        monkeypatch.setattr(type(method), "_fisher", lambda self, run, task, x, y: calls.append(y) or {})
        method.prepare(run)
        assert len(calls[0]) == 60 and set(calls[0].tolist()) == conditions
        assert set(run.memo["conditions"].tolist()) == {0, 2, 3}

    def test_two_steps(self, run, method, monkeypatch):
        x, y = problem.replayed()
        run.memo.update(pool=x, conditions=y)
        sizes, start = [p.numel() for p in run.model.parameters()], dict(run.original.named_parameters())
        for part, name in zip(recorded("selective_amnesia/fisher").split(sizes), start, strict=True):
            run.memo[f"fisher/{name}"] = part.view_as(start[name])
        monkeypatch.setattr(torch, "rand_like", lambda like: problem.values(*like.shape, seed=5) + 0.5)
        two_steps(
            run, method, Batch(x, torch.full((4,), problem.FORGOTTEN), torch.arange(4)), None, monkeypatch
        )
        assert torch.allclose(
            numbers(run.model.parameters()), recorded("selective_amnesia"), rtol=1e-5, atol=1e-7
        )
