"""The diffusion task, its samplers and its own methods, against slow literal versions and against diffusers."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from expunge.data.batch import Batch
from expunge.data.split import Split
from expunge.errors import ExpungeError, ModelError
from expunge.generation import presets as diffusion_presets
from expunge.methods.finetune import FineTune
from expunge.methods.random_label import RandomLabel
from expunge.models.unet import for_data, salun_cifar10, unet
from expunge.tasks.diffusion import Diffusion
from expunge.tasks.sampling import SafeSampler, Sampler
from expunge.training.execute import execute
from expunge.training.registry import find
from expunge.training.run import Run

SHAPE = (1, 4, 4)


class Net(nn.Module):
    """A linear predictor with a vector a condition (3, and null)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(16, 16)
        self.condition = nn.Embedding(4, 16)

    def forward(self, x, t, y):
        return (self.mix(x.flatten(1)) + self.condition(y) * (t[:, None] / 1000)).view_as(x)


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Net()


@pytest.fixture
def split():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(60, *SHAPE, generator=draw), torch.arange(60) % 3
    return Split.by_class((x, y), (x[:12].clone() * 0.9, y[:12]), 1, validation=0.0)


def batch(n=6):
    draw = torch.Generator().manual_seed(2)
    return Batch(torch.rand(n, *SHAPE, generator=draw), torch.arange(n) % 3, torch.arange(n))


# ---- noise levels


@pytest.mark.parametrize(
    ("ours", "theirs", "start", "end"),
    [
        ("linear", "linear", 1e-4, 0.02),
        ("scaled_linear", "scaled_linear", 0.00085, 0.012),
        ("cosine", "squaredcos_cap_v2", 1e-4, 0.02),
    ],
)
def test_noise_levels_and_targets_are_those_of_diffusers(ours, theirs, start, end):
    from diffusers import DDPMScheduler

    other = DDPMScheduler(beta_schedule=theirs, beta_start=start, beta_end=end)
    task = Diffusion(
        3, beta_schedule=ours, beta_start=start, beta_end=end, pixels=False, prediction="v_prediction"
    )
    torch.testing.assert_close(task.signal, other.alphas_cumprod, rtol=1e-4, atol=1e-7)
    x, noise, t = torch.randn(5, *SHAPE), torch.randn(5, *SHAPE), torch.tensor([0, 10, 500, 900, 999])
    found = task.add_noise(x, t, noise)
    torch.testing.assert_close(found.x, other.add_noise(x, noise, t), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.target, other.get_velocity(x, noise, t), rtol=1e-3, atol=1e-4)


@given(count=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_steps_are_mirrored(count, seed):
    task = Diffusion(3)
    t = task.times(count, torch.device("cpu"), torch.Generator().manual_seed(seed))
    half = count // 2 + 1
    assert t.shape == (count,) and t.min() >= 0 and t.max() < 1000
    assert torch.equal(t[half:], 999 - t[: count - half])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_implies_the_noise(prediction):
    task = Diffusion(3, prediction=prediction)
    x, noise, t = torch.rand(4, *SHAPE), torch.randn(4, *SHAPE), torch.tensor([50, 300, 600, 900])
    noisy = task.add_noise(x, t, noise)
    a = task.signal[t].view(-1, 1, 1, 1)
    implied = {
        "epsilon": noisy.target,
        "v_prediction": a.sqrt() * noisy.target + (1 - a).sqrt() * noisy.x,
        "sample": (noisy.x - a.sqrt() * noisy.target) / (1 - a).sqrt(),
    }
    torch.testing.assert_close(implied[prediction], noise, rtol=1e-3, atol=1e-3)


# ---- losses


def test_loss_is_the_mean_over_elements(net):
    task, b = Diffusion(3), batch()
    net.eval()
    torch.manual_seed(5)
    found = task.loss(net, b)
    torch.manual_seed(5)
    t = torch.randint(0, 1000, (4,))
    t = torch.cat([t, 999 - t])[:6]
    noise = torch.randn(6, *SHAPE)
    for k in range(6):
        a = task.signal[t[k]]
        noisy = a.sqrt() * (2 * b.x[k] - 1) + (1 - a).sqrt() * noise[k]
        literal = (net(noisy[None], t[k : k + 1], b.y[k : k + 1])[0] - noise[k]).pow(2).sum() / 16
        torch.testing.assert_close(found[k], literal)


def test_published_alpha_on_sums_is_3_07_on_means():
    error = torch.randn(2, 3, 32, 32)
    on_sums = 1e-3 * error.square().sum((1, 2, 3))
    torch.testing.assert_close(3.072 * Diffusion.error(error, torch.zeros_like(error)), on_sums)
    assert diffusion_presets.method("salun", "cifar10").retain_weight == pytest.approx(3.072, abs=0.01)


def test_conditions_are_dropped_in_training_mode_only(net):
    task, b = Diffusion(3, condition_drop=1.0), batch()
    everything_null = Batch(b.x, torch.full_like(b.y, 3), b.index)

    def loss(which, training):
        net.train(training)
        torch.manual_seed(0)
        if training:
            torch.rand(6)  # what the dropping draws before the noise
        return Diffusion(3, condition_drop=0.0).loss(net, which)

    net.train()
    torch.manual_seed(0)
    dropped = task.loss(net, b)
    torch.testing.assert_close(dropped, loss(everything_null, True))
    net.eval()
    torch.manual_seed(0)
    torch.testing.assert_close(task.loss(net, b), loss(b, False))


def test_relabel_loss_moves_toward_the_other_condition_and_never_the_target(net):
    task, b = Diffusion(3), batch()
    other = (b.y + 1) % 3
    torch.manual_seed(3)
    task.relabel_loss(net, b, other).mean().backward()
    torch.manual_seed(3)
    noisy = task.add_random_noise(b.x)
    fixed = net(noisy.x, noisy.t, other).detach()
    literal = torch.autograd.grad((net(noisy.x, noisy.t, b.y) - fixed).pow(2).mean(), list(net.parameters()))
    for weight, grad in zip(net.parameters(), literal, strict=True):
        torch.testing.assert_close(weight.grad, grad)
    assert task.relabel_loss(net, b, b.y).max() == 0
    teacher = copy.deepcopy(net)
    nn.init.zeros_(net.condition.weight)
    assert replace(task, teacher=teacher).relabel_loss(net, b, b.y).min() > 0


def test_targets_taken_under_autocast_leave_every_weight_its_gradient(net):
    b, task = batch(), Diffusion(3)
    torch.manual_seed(0)
    task.relabel_loss(net, b, torch.zeros(6, dtype=torch.int64)).mean().backward()
    exact = net.mix.weight.grad.clone()
    net.zero_grad()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.relabel_loss(net, b, torch.zeros(6, dtype=torch.int64)).mean()
    loss.backward()
    assert (net.mix.weight.grad - exact).norm() < 0.1 * exact.norm()


def test_relabel_loss_leaves_modes_as_they_were(net):
    net.train()
    net.mix.eval()
    Diffusion(3).relabel_loss(net, batch(), torch.zeros(6, dtype=torch.int64))
    assert net.training and not net.mix.training


def test_the_signal_is_moved_to_a_device_once():
    task = Diffusion(3)
    meta = torch.device("meta")
    assert task.signal_on(meta) is task.signal_on(meta) and task.signal_on(meta).device == meta
    assert torch.equal(task.signal_on(torch.device("cpu")), task.signal)
    assert replace(task, beta_end=0.01).signal_on(meta) is not task.signal_on(meta)


def test_probe_is_the_same_at_each_call_and_draws_nothing(net):
    task, b = Diffusion(3), batch()
    before = torch.get_rng_state()
    assert torch.equal(task.sample_scores(net, b), task.sample_scores(net, b))
    assert torch.equal(before, torch.get_rng_state())


def test_check_lists_every_problem(net, split):
    Diffusion(3).check(net, split.retain)
    net.mix.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError) as caught:
        Diffusion(2).check(net.requires_grad_(False), split.retain)
    assert len(caught.value.problems) >= 3
    with pytest.raises(ModelError, match="null"):
        Diffusion(3).check(unet(2, (1, 8, 8), width=8, multipliers=(1,), attention=()), split.retain)
    x = torch.rand(12, *SHAPE) * 3 - 1
    wide = Split.by_class((x, torch.arange(12) % 3), (x + 0.01, torch.arange(12) % 3), 1, validation=0.0)
    with pytest.raises(ModelError, match=r"\[0, 1\]"):
        Diffusion(3).check(Net(), wide.retain)


# ---- sampling


class Knows(nn.Module):
    """Predicts exactly the noise that lies on one known image."""

    def __init__(self, task, image):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.task, self.image = task, image

    def forward(self, x, t, y):
        a = self.task.signal[t].view(-1, 1, 1, 1)
        return (x - a.sqrt() * (2 * self.image - 1)) / (1 - a).sqrt()


@pytest.mark.parametrize("kind", ["ddim", "dpm"])
def test_a_perfect_model_draws_its_image(kind):
    task, image = Diffusion(3), torch.rand(SHAPE)
    drawn = Sampler(kind=kind, steps=10)(Knows(task, image), task, torch.tensor([0, 1]), SHAPE)
    torch.testing.assert_close(drawn, image.expand(2, *SHAPE), rtol=0, atol=2e-2)


def test_drawing_depends_on_seed_and_not_on_batches(net):
    task, y = Diffusion(3), torch.arange(9) % 3
    one = Sampler(steps=4)(net, task, y, SHAPE, seed=7)
    torch.testing.assert_close(one, Sampler(steps=4, batch_size=2)(net, task, y, SHAPE, seed=7))
    assert not torch.allclose(one, Sampler(steps=4)(net, task, y, SHAPE, seed=8))
    assert Sampler(steps=4)(net, task, y[:0], SHAPE).shape == (0, *SHAPE)


def test_numbers_of_steps_that_ddim_cannot_take_are_refused(net):
    task, y = Diffusion(3), torch.tensor([0, 1])
    for kind, steps, fits in (
        ("ddim", 300, False),
        ("ddim", 30, True),
        ("dpm", 300, True),
        ("dpm", 1001, False),
    ):
        sampler = Sampler(kind=kind, steps=steps)
        if fits:
            assert len(sampler.scheduler(task).timesteps) == steps
        else:
            with pytest.raises(ExpungeError, match="do not fit"):
                sampler(net, task, y, SHAPE)
    with pytest.raises(ExpungeError) as caught:
        Sampler(steps=0, batch_size=0, eta=-1.0)
    assert len(caught.value.problems) == 3


def test_a_part_of_a_drawing_says_the_next_step(net):
    task, y, sampler = Diffusion(3), torch.tensor([0, 1]), Sampler(steps=5)
    x = torch.randn(2, *SHAPE)
    half, at = sampler.part(net, task, x, y, 3)
    assert at == 399 and not torch.equal(half, x)
    whole, end = sampler.part(net, task, x, y, 5)
    assert end == -1 and torch.equal(whole, sampler.denoise(net, task, x, y))
    assert torch.equal(sampler.part(net, task, x, y, 0)[0], x)


def test_guidance_is_1_plus_w(net):
    task, x, t, y = Diffusion(3), torch.randn(4, *SHAPE), torch.tensor(400), torch.tensor([0, 1, 2, 0])
    times, null = torch.full((4,), 400), torch.full((4,), 3)
    found = Sampler(guidance=2.0).guided(net, task, x, t, y, {})
    torch.testing.assert_close(found, 3 * net(x, times, y) - 2 * net(x, times, null))
    torch.testing.assert_close(Sampler(guidance=0.0).guided(net, task, x, t, y, {}), net(x, times, y))


def test_safe_sampling_literally(net):
    task, x, y = Diffusion(3), torch.randn(2, *SHAPE), torch.tensor([0, 2])
    sampler, state = SafeSampler(concept=1, warmup=1, guidance=4.0, scale=10.0, threshold=0.01), {}
    nu = torch.zeros_like(x)
    for step, at in enumerate((900, 500, 100)):
        times = torch.full((2,), at)
        asked, free, unsafe = (net(x, times, c) for c in (y, torch.full((2,), 3), torch.full((2,), 1)))
        mu = torch.zeros_like(x)
        for place in torch.cartesian_prod(*[torch.arange(n) for n in x.shape]).tolist():
            gap = asked[tuple(place)] - unsafe[tuple(place)]
            if gap < 0.01:
                mu[tuple(place)] = min(1.0, abs(10.0 * gap.item()))
        gamma = mu * (unsafe - free) + 0.5 * nu
        nu = 0.7 * nu + 0.3 * gamma
        literal = free + 5 * (asked - free - (gamma if step >= 1 else 0))
        torch.testing.assert_close(sampler.guided(net, task, x, torch.tensor(at), y, state), literal)


class Says(nn.Module):
    """What a network that predicts noise implies, said as another prediction."""

    def __init__(self, net, task):
        super().__init__()
        self.net, self.task = net, task

    def forward(self, x, t, y):
        noise, a = self.net(x, t, y), self.task.signal[t].view(-1, 1, 1, 1)
        image = (x - (1 - a).sqrt() * noise) / a.sqrt()
        return {"epsilon": noise, "sample": image, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * image}[
            self.task.prediction
        ]


def test_safe_sampling_does_not_depend_on_what_the_network_says(net):
    drawn = []
    for prediction in ("epsilon", "v_prediction", "sample"):
        task = Diffusion(3, prediction=prediction, beta_end=0.01, pixels=False)
        sampler = SafeSampler(concept=1, warmup=1, guidance=2.0, scale=10.0, steps=6)
        drawn.append(sampler(Says(net, task), task, torch.tensor([0, 2]), SHAPE))
    torch.testing.assert_close(drawn[1], drawn[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(drawn[2], drawn[0], rtol=1e-3, atol=1e-3)
    plain = Sampler(guidance=2.0, steps=6)(Says(net, task), task, torch.tensor([0, 2]), SHAPE)
    assert not torch.allclose(plain, drawn[0], atol=1e-2)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_safe_sampling_where_no_signal_is_left(net, prediction):
    levels = (*torch.linspace(0.99, 0.01, 99).tolist(), 0.0)
    task = Diffusion(3, steps=100, levels=levels, prediction=prediction, pixels=False)
    sampler = SafeSampler(concept=1, warmup=0, steps=5)
    assert sampler(net, task, torch.tensor([0, 2]), SHAPE).isfinite().all()


def test_a_look_takes_steps_of_its_own_for_every_batch(net):
    b = batch()
    alone = [Diffusion(3).sample_scores(net, Batch(b.x[:1], b.y[:1], torch.tensor([k]))) for k in range(4)]
    assert len({round(v.item(), 6) for v in alone}) == 4


# ---- networks


def test_the_papers_networks_have_the_papers_sizes():
    with torch.device("meta"):
        for options, count in (({}, 38_632_323), ({"size": 64}, 83_159_683)):
            assert sum(p.numel() for p in salun_cifar10(**options).parameters()) == count


def test_the_papers_networks_answer():
    with torch.device("meta"):
        for size in (32, 64):
            net, x = salun_cifar10(size=size), torch.zeros(2, 3, size, size)
            out = net(x, torch.tensor([3, 999]), torch.tensor([0, 10])).sample
            assert out.shape == x.shape and out.dtype == torch.float32


def test_fashion_images_attend_to_themselves_at_a_quarter_of_their_side():
    with torch.device("meta"):
        for size in (28, 32):
            kinds = [type(b).__name__ for b in for_data("fashion-mnist", 10, (1, size, size)).down_blocks]
            assert kinds == ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"]


def test_the_papers_network_puts_class_beside_time():
    with torch.device("meta"):
        net = salun_cifar10()
    time, label = net.time_embedding, net.class_embedding
    assert time.pad == (0, 512) and label.pad == (512, 0)


def test_networks_answer_for_every_condition():
    net = for_data("digits", 10, (1, 8, 8))
    assert net(torch.randn(3, 1, 8, 8), torch.tensor([0, 5, 999]), torch.tensor([0, 9, 10])).sample.shape == (
        3,
        1,
        8,
        8,
    )
    with pytest.raises(ExpungeError, match="known"):
        for_data("nothing", 10, (1, 8, 8))
    with pytest.raises(ExpungeError, match="divides"):
        unet(10, (1, 9, 9))


@pytest.mark.slow  # a process of its own
def test_the_core_does_without_the_extra_and_says_what_is_missing():
    code = """
import sys
for name in ("diffusers", "transformers", "peft", "accelerate", "torchmetrics"):
    sys.modules[name] = None  # as if it were not installed
import torch
import expunge.cli.app, expunge.generation.erase, expunge.generation.pipelines, expunge.cli.demo_generation
from expunge.audit.image_distances import distances
from expunge.tasks.diffusion import Diffusion
from expunge.errors import MissingExtra
from expunge.models.unet import salun_cifar10, unet
from expunge.tasks.sampling import Sampler
assert all(command.load() for command in expunge.cli.app.COMMANDS.values())
# a folder that can be read; diffusers is needed only then
expunge.generation.pipelines.read_index = lambda folder: None
for call in (lambda: unet(10, (1, 8, 8)), salun_cifar10, lambda: Sampler().scheduler(Diffusion(2)),
             lambda: distances(torch.rand(3, 2), torch.rand(3, 2)), lambda: expunge.generation.pipelines.load("p")):
    try:
        call()
    except MissingExtra as error:
        assert "expunge[diffusion]" in str(error)
    else:
        raise SystemExit("no MissingExtra")
"""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- methods


def test_esd_target_literally(net, split):
    task, run = Diffusion(3), Run(net, split, Diffusion(3))
    b = next(split.forget.batches(4))
    for base, eta in (("null", 1.0), ("concept", 2.0)):
        method = find("esd")(source="data", base=base, eta=eta)
        torch.manual_seed(9)
        found = method.loss(run, b, None)
        torch.manual_seed(9)
        noisy = task.add_random_noise(b.x)
        asked, free = net(noisy.x, noisy.t, b.y), net(noisy.x, noisy.t, torch.full_like(b.y, 3))
        target = (free if base == "null" else asked) - eta * (asked - free)
        torch.testing.assert_close(found, (asked - target.detach()).pow(2).mean())


def test_esd_noisy_images_stop_where_their_step_says(net, split):
    method = find("esd")(sample_steps=5)
    run = Run(net, split, Diffusion(3))
    for _ in range(5):
        x, t = method._noisy(run, run.task, next(split.forget.batches(4)))
        assert x.shape == (4, *SHAPE) and len(t.unique()) == 1 and int(t[0]) in (999, 799, 599, 399, 199)


def test_selective_amnesia_pull_and_fisher_literally(net, split):
    method = find("selective_amnesia")(pool=6, fisher_samples=6, sample_steps=2, replay="data")
    run = Run(net, split, Diffusion(3))
    torch.manual_seed(4)
    method.prepare(run)
    torch.manual_seed(4)
    net.eval()
    literal = torch.zeros_like(net.mix.bias)
    for k in range(6):
        one = Batch(run.memo["pool"][k : k + 1], run.memo["conditions"][k : k + 1], torch.tensor([k]))
        literal += torch.autograd.grad(run.task.loss(net, one).sum(), net.mix.bias)[0] ** 2 / 6
    torch.testing.assert_close(run.memo["fisher/mix.bias"], literal)
    assert method._elastic_term(run) == 0
    start = run.original.mix.bias.clone()
    with torch.no_grad():
        net.mix.bias += 0.5
    torch.testing.assert_close(method._elastic_term(run), (literal * (net.mix.bias - start) ** 2).sum())
    assert set(run.memo["conditions"].tolist()) <= {0, 2}


def test_selective_amnesia_leaves_null_to_the_images(net, split):
    method = find("selective_amnesia")(
        pool=6, fisher_samples=2, sample_steps=2, replay="data", replay_weight=0.0, elastic=0.0
    )
    run = Run(net.train(), split, Diffusion(3, condition_drop=1.0))
    method.prepare(run)
    asked = []
    net.condition.register_forward_hook(lambda module, given, out: asked.append(given[0]))
    method.loss(run, next(split.forget.batches(4)), None)
    noise, replayed = asked
    assert (noise == 1).all() and (replayed == 3).all()


def test_concept_ablation_anchors(net, split):
    run = Run(net, split, Diffusion(3))
    kind = find("concept_ablation")
    assert (
        kind().anchor_of(run) == 2
        and kind(anchor=0).anchor_of(run) == 0
        and kind(anchor=-1).anchor_of(run) == 3
    )
    with pytest.raises(ExpungeError, match="anchor is 1"):
        kind(anchor=1).anchor_of(run)
    method = kind(anchor=0, batch_size=8, epochs=2)
    seen = list(method.pairs(run))
    assert method.steps(run) == 2 * len(seen)
    for forget, retain in seen:
        assert retain is None and (forget.y == 1).all()
        assert (split.forget.data.labels[forget.index] == 0).all()


def test_averaged_weights_follow_the_average(net, split):
    kind = find("retrain_ema")
    common = {"epochs": 2, "lr": 1e-2, "batch_size": 16}
    plain = execute(
        net,
        split,
        find("retrain")(**common, optimizer="adam", weight_decay=0.0, clip=1.0, lr_schedule="constant"),
        Diffusion(3),
        factory=Net,
    )
    last = execute(net, split, kind(**common, ema=0.0), Diffusion(3), factory=Net)
    for a, b in zip(plain.model.parameters(), last.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    averaged = execute(net, split, kind(**common, ema=0.9), Diffusion(3), factory=Net)
    assert not torch.equal(averaged.model.mix.weight, last.model.mix.weight)


def test_the_average_literally(net, split):
    method, run = find("retrain_ema")(ema=0.5), Run(net, split, Diffusion(3))
    net.register_buffer("count", torch.tensor(0))
    average = None
    for step in range(4):
        with torch.no_grad():
            net.mix.weight += 1.0
            net.count += 1
        run.step = step
        method.after_step(run, None)
        past = min(0.5, (1 + step) / (10 + step))
        now = net.mix.weight.detach().clone()
        average = now if average is None else past * average + (1 - past) * now
        torch.testing.assert_close(run.memo["ema"]["mix.weight"], average)
    assert run.memo["ema"]["count"] == 4


@pytest.mark.parametrize("name", ["salun", "random_label", "gradient_ascent", "esd", "concept_ablation"])
def test_presets_have_the_methods_fields(name):
    for data in diffusion_presets.SETTINGS:
        assert not diffusion_presets.method(name, data).problems()


@pytest.mark.slow
def test_demo_of_generation(tmp_path):
    """The job of `make demo-generation`, with the one method it is about."""
    from expunge.cli.demo_generation import demo_generation

    original, retrained, done = demo_generation(out=tmp_path, methods=("salun",), attacks=False)
    assert original.scores["UA"] < 10 and retrained.scores["UA"] > 90
    assert done.scores["UA"] >= 95
    assert done.scores["RA"] >= original.scores["RA"] - 3
    assert "data:image/png;base64" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_commands_train_and_unlearn_a_generator(tmp_path):
    """`expunge train-generator` and `unlearn-generator`, one epoch each: files, records, refusals; not quality."""
    from expunge.cli import main
    from expunge.records.record import Record

    model = str(tmp_path / "model.safetensors")
    assert main(["train-generator", "--data", "digits", "--out", model, "--epochs", "1"]) == 0
    assert Record.load(tmp_path / "model.json").kind == "original"
    common = ["--data", "digits", "--checkpoint", model, "--forget", "3", "--epochs", "1"]
    salun = ["unlearn-generator", "salun", *common]
    out = [
        "--out",
        str(tmp_path / "out.safetensors"),
        "--report",
        str(tmp_path / "report.html"),
        "--per-class",
        "4",
    ]
    gold = str(tmp_path / "gold.safetensors")
    assert main(["unlearn-generator", "retrain_ema", *common, "--out", gold, "--per-class", "4"]) == 0
    assert main([*salun, *out, "--frozen-target", "--mask", "random", "--retrained", gold]) == 0
    record = Record.load(tmp_path / "out.json")
    assert record.settings["mask"] == "random" and record.settings["density"] == 0.5
    assert {"UA", "RA", "FID_judge"} <= set(record.scores) and (tmp_path / "report.html").exists()
    assert main([*salun, "--out", model]) == 2
    assert main([*salun, *out, "--retrained", model]) == 2
    assert main([*salun, *out, "--device", "cuda:9"]) == 2
    assert main(["unlearn-generator", "esd", *common, *out, "--retain-weight", "1"]) == 2
    assert main(["unlearn-generator", "esd", *common, *out, "--frozen-target"]) == 2
    assert main(["unlearn-generator", "random_label", *common, *out, "--mask", "random"]) == 2
    assert main([*salun, "--out", gold, "--per-class", "1"]) == 2
    assert not list(tmp_path.glob(".*"))  # no state of a finished run


def test_generators_are_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    from expunge.cli import main
    from expunge.records.checkpoint import write_checkpoint

    told = []

    def weak(self):
        told.append("judge")
        raise ExpungeError("the judge is weak")

    def never(*args, **options):
        raise AssertionError("not to be called")

    monkeypatch.setattr("expunge.generation.runs.Generation.judge", weak)
    monkeypatch.setattr("expunge.pipeline.pipeline.execute", never)
    monkeypatch.setattr("expunge.cli.train_generator.train_original", never)
    assert main(["demo-generation", "--per-class", "1", "--out", str(tmp_path / "demo")]) == 2
    assert "--per-class is 1; it must be at least 2" in capsys.readouterr().err
    draw = np.random.default_rng(0)
    values = {"x_train": draw.normal(size=(20, 5)), "x_test": draw.normal(size=(10, 5))}
    values = {k: v.astype(np.float32) for k, v in values.items()}
    np.savez(tmp_path / "a.npz", **values, y_train=np.arange(20) % 2, y_test=np.arange(10) % 2)
    rows = ["train-generator", "--data", f"npz:{tmp_path / 'a.npz'}", "--out", str(tmp_path / "a.pt")]
    assert main(rows) == 2
    assert "no generator for the data 'npz'; known: digits, fashion-mnist, cifar10" in capsys.readouterr().err
    write_checkpoint(tmp_path / "g.safetensors", for_data("digits", 10, (1, 8, 8)).state_dict())
    unlearn = ["unlearn-generator", "salun", "--data", "digits", "--checkpoint", str(tmp_path / "g.safetensors"), "--forget", "3",
               "--out", str(tmp_path / "o.safetensors")]  # fmt: skip
    for flags in (
        ["--lr", "-1"],
        ["--device", "cuda:9", "--features", "tiny_pipelines:features"],
    ):
        assert main([*unlearn, *flags]) == 2
    assert main(["unlearn-generator", "scrub", *unlearn[2:]]) == 2
    assert told == []
    assert main(unlearn) == 2 and told == ["judge"]
    assert "the judge is weak" in capsys.readouterr().err


@pytest.mark.parametrize("relabel", ["next", "random"])
def test_a_generator_is_not_taught_to_draw_what_another_condition_forgets(relabel):
    task, split = Diffusion(9), SimpleNamespace(forget_classes=(3, 4, 8), earlier_classes=())
    run = SimpleNamespace(
        task=task, split=split, process_generator=lambda name: torch.Generator().manual_seed(0)
    )
    found = RandomLabel(relabel=relabel).other_labels(run, torch.tensor([3, 4, 8] * 30))
    assert not set(found.tolist()) & {3, 4, 8}
    if relabel == "next":
        assert found[:3].tolist() == [5, 5, 0]


def test_the_reference_has_the_recipe_of_the_original():
    assert diffusion_presets.method("retrain_ema", "digits") == diffusion_presets.recipe("digits")


def test_a_state_of_another_diffusion_task_is_refused(tmp_path, generator):
    method, file = FineTune(epochs=1, lr=1e-4, batch_size=64), tmp_path / "state"
    execute(generator.model, generator.by_class, method, generator.task, state_file=file)
    other = replace(generator.task, prediction="v_prediction")
    with pytest.raises(ExpungeError, match="another run"):
        execute(generator.model, generator.by_class, method, other, state_file=file)
