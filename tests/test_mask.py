"""Masks: the exact share, independence of the batch size, and parameters outside it unchanged bit for bit under any optimizer."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from expunge import (
    CheckpointError,
    Classification,
    Mask,
    MaskError,
    TensorData,
    full_mask,
    inverted_mask,
    masked,
    overlap,
    random_mask,
    saliency_mask,
)
from expunge.masks import freezer
from expunge.masks.mask import check_mask, top_mask
from expunge.masks.mask_file import combine
from expunge.masks.saliency import saliency_scores


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4))
    samples = TensorData(torch.randn(53, 6), torch.arange(53) % 4).samples()
    return model, samples, Classification(4)


def literal(model, samples, task):
    """One sample at a time."""
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    again = copy.deepcopy(model).eval()
    for batch in samples.batches(1):
        again.zero_grad()
        task.loss(again, batch).sum().backward()
        for n, p in again.named_parameters():
            total[n] += p.grad
    return {n: (t / len(samples)).abs() for n, t in total.items()}


@pytest.mark.parametrize("batch_size", [1, 7, 53, 500])
def test_scores_do_not_depend_on_the_batch_size(setting, batch_size):
    model, samples, task = setting
    found = saliency_scores(model, samples, task, batch_size=batch_size)
    for name, want in literal(model, samples, task).items():
        assert torch.allclose(found[name], want, atol=1e-6), name


def test_a_mask_may_have_any_name(setting, tmp_path):
    mask = full_mask(setting[0])
    read = Mask.load(mask.save(tmp_path / "own.mask"))
    assert all(torch.equal(read[n], mask[n]) for n in mask)


def test_paper_exact_overweights_a_short_last_batch(setting):
    model, samples, task = setting
    plain, paper = (
        saliency_scores(model, samples, task, batch_size=50, paper_exact=p)["3.weight"] for p in (False, True)
    )
    assert not torch.allclose(plain, paper, rtol=0.05)


def test_other_saliencies_against_one_sample_at_a_time(setting):
    model, samples, task = setting
    for how, of in (("sum_abs", torch.abs), ("fisher", torch.square)):
        want = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        again = copy.deepcopy(model).eval()
        for batch in samples.batches(1):
            again.zero_grad()
            task.loss(again, batch).sum().backward()
            for n, p in again.named_parameters():
                want[n] += of(p.grad) / len(samples)
        found = saliency_scores(model, samples, task, how=how)
        assert all(torch.allclose(found[n], w, atol=1e-6) for n, w in want.items()), how


def test_a_share_of_every_layer(setting):
    model, samples, task = setting
    for mask in saliency_mask(model, samples, task, [0.25, 0.5], per_layer=True):
        share = float(mask.metadata["density"])
        assert all(int(m.sum()) == round(share * m.numel()) for m in mask.values())


def test_scoring_leaves_the_model_as_it_was(setting):
    model, samples, task = setting
    model.train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    saliency_mask(model, samples, task)
    assert (
        model.training
        and all(p.grad is None for p in model.parameters())
        and torch.equal(state, torch.get_rng_state())
    )
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.737, 1.0])
def test_exact_share_and_largest_scores(setting, density):
    model, samples, task = setting
    total = sum(p.numel() for p in model.parameters())
    scores = saliency_scores(model, samples, task)
    mask, low = top_mask(scores, density), inverted_mask(scores, density)
    for found in (mask, low, random_mask(model, density, 3)):
        assert found.count == round(density * total) and found.density == pytest.approx(found.count / total)
    if 0 < density < 1:
        inside = torch.cat([scores[n][m] for n, m in mask.items()])
        outside = torch.cat([scores[n][~m] for n, m in mask.items()])
        assert inside.min() >= outside.max()
        assert torch.cat([scores[n][m] for n, m in low.items()]).max() <= inside.max()
    many = saliency_mask(model, samples, task, [density, 0.3])
    assert all(torch.equal(many[0][n], m) for n, m in mask.items()) and many[1].density == pytest.approx(
        0.3, abs=0.01
    )


def test_untrainable_weights_are_never_chosen(setting):
    model, samples, task = copy.deepcopy(setting[0]), *setting[1:]
    model[0].weight.requires_grad_(False)
    for mask in (saliency_mask(model, samples, task, 0.5), random_mask(model, 0.5), full_mask(model)):
        assert not mask["0.weight"].any()
        check_mask(model, mask)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=5e-4),
    "nesterov": lambda p: torch.optim.SGD(
        p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True, foreach=False
    ),
    "adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.05, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=0.1),
}


def steps(model, optimizer, samples, task, count=6, handle=None):
    for _ in range(count):
        for batch in samples.batches(20):
            optimizer.zero_grad()
            task.loss(model, batch).mean().backward()
            if handle is not None:
                handle.mask_gradients()
            optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@settings(max_examples=6, deadline=None)
@given(density=st.sampled_from([0.0, 0.03, 0.5, 0.97, 1.0]), before=st.booleans(), seed=st.integers(0, 3))
def test_frozen_parameters_stay_bit_identical(setting, kind, density, before, seed):
    model, samples, task = copy.deepcopy(setting[0]), *setting[1:]
    with torch.no_grad():
        model[0].bias[:3] = -0.0  # a zero whose sign must survive
    optimizer = OPTIMIZERS[kind](model.parameters())
    if before:
        steps(model, optimizer, samples, task, 2)  # momentum from before the mask
    mask = random_mask(model, density, seed)
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    with masked(optimizer, model, mask):
        steps(model, optimizer, samples, task)
    for name, weight in model.named_parameters():
        assert torch.equal(
            weight[~mask[name]].view(torch.int32), kept[name][~mask[name]].view(torch.int32)
        ), name
    if density:
        assert any(not torch.equal(weight, kept[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize("how", ["compiled", "scaled", "accumulated"])
def test_freezing_with_compilation_loss_scaling_and_accumulation(setting, how):
    model, samples, task = copy.deepcopy(setting[0]), *setting[1:]
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    mask = random_mask(model, 0.4)
    mask["3.bias"][:] = False
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    if how == "compiled":
        model.compile(backend="aot_eager")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=how == "scaled")
    with masked(optimizer, model, mask) as handle:
        for number, batch in enumerate(samples.batches(9)):
            scaler.scale(task.loss(model, batch).mean()).backward()
            if how != "accumulated" or number % 3 == 2:
                scaler.unscale_(optimizer)
                handle.mask_gradients()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=number % 2 == 0)
    assert all(torch.equal(p[~mask[n]], kept[n][~mask[n]]) for n, p in model.named_parameters())
    assert all(not torch.equal(p, kept[n]) for n, p in model.named_parameters() if mask[n].any())


def test_a_full_mask_changes_nothing_about_the_steps(setting):
    runs = []
    for use in (False, True):
        model, samples, task = copy.deepcopy(setting[0]), *setting[1:]
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        if use:
            with masked(optimizer, model, full_mask(model)) as handle:
                assert not handle.stored and not handle.fully_frozen
                steps(model, optimizer, samples, task)
        else:
            steps(model, optimizer, samples, task)
        runs.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(runs[0].values(), runs[1].values(), strict=True))


@pytest.mark.parametrize("before,inside", [(True, True), (True, False), (False, True)])
def test_freezing_in_every_memory_layout(before, inside):
    """Channels-last weights, also where the layout changes inside the block."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    layout = {True: torch.channels_last, False: torch.contiguous_format}
    model.to(memory_format=layout[before])
    samples = TensorData(torch.randn(20, 3, 9, 9), torch.arange(20) % 4).samples()
    mask = random_mask(model, 0.5)
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    with masked(optimizer, model, mask):
        steps(model, optimizer, samples, Classification(4), 1)
        model.to(memory_format=layout[inside])
        steps(model, optimizer, samples, Classification(4), 2)
    for n, p in model.named_parameters():
        assert torch.equal(p[~mask[n]], kept[n][~mask[n]]) and not torch.equal(p, kept[n])


@pytest.fixture(params=[10, 1 << 16], ids=["some small", "all small"])
def as_on_a_gpu(request, monkeypatch):
    """Freeze on the CPU as on a GPU: whole copies, small tensors together."""
    monkeypatch.setattr(freezer, "on_accelerator", lambda values: True)
    monkeypatch.setattr(freezer, "SMALL", request.param)


def literally(model, optimizer, samples, task, mask, count=4):
    """Gradients multiplied by the mask, then every frozen value assigned from a copy."""
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(count):
        for batch in samples.batches(20):
            optimizer.zero_grad()
            task.loss(model, batch).mean().backward()
            for n, p in model.named_parameters():
                p.grad[~mask[n]] = 0
            optimizer.step()
            with torch.no_grad():
                for n, p in model.named_parameters():
                    p[~mask[n]] = kept[n][~mask[n]]


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gpu_path_ends_at_the_literal_parameters(as_on_a_gpu, kind, layout, dtype):
    torch.manual_seed(0)
    first = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).to(dtype, memory_format=layout)
    with torch.no_grad():
        first[0].weight[0, 0] = -0.0
    samples = TensorData(torch.randn(40, 3, 7, 7).to(dtype), torch.arange(40) % 4).samples()
    mask = random_mask(first, 0.5)
    mask["5.bias"][:] = True
    ours, theirs = copy.deepcopy(first), copy.deepcopy(first)
    optimizers = [OPTIMIZERS[kind](m.parameters()) for m in (ours, theirs)]
    with masked(optimizers[0], ours, mask) as handle:
        assert handle.small
        steps(ours, optimizers[0], samples, Classification(4), 4)
    literally(theirs, optimizers[1], samples, Classification(4), mask)
    for (n, a), b, start in zip(
        ours.named_parameters(), theirs.parameters(), first.parameters(), strict=True
    ):
        assert torch.equal(a, b), n
        assert torch.equal(a[~mask[n]].signbit(), start[~mask[n]].signbit()), n


def test_the_gpu_path_freezes_through_nan_and_infinity(as_on_a_gpu, setting):
    model = copy.deepcopy(setting[0])
    mask = random_mask(model, 0.5)
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with masked(optimizer, model, mask):
        for number, p in enumerate(model.parameters()):
            p.grad = torch.full_like(p, (torch.nan, torch.inf)[number % 2])
        optimizer.step()
    assert all(torch.equal(p[~mask[n]], kept[n][~mask[n]]) for n, p in model.named_parameters())


def test_only_frozen_values_are_stored(setting):
    model = copy.deepcopy(setting[0])
    mask = random_mask(model, 0.25)
    with masked(OPTIMIZERS["sgd"](model.parameters()), model, mask) as handle:
        partial = [m for m in mask.values() if m.any() and not m.all()]
        assert sum(k.numel() for k in handle.stored) == sum(int((~m).sum()) for m in partial)


def test_gradients_are_masked_before_clipping_and_everything_ends_with_the_block(setting):
    model, samples, task = copy.deepcopy(setting[0]), *setting[1:]
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    mask = random_mask(model, 0.5)
    mask["3.bias"][:] = False
    with pytest.raises(RuntimeError, match="stop"), masked(optimizer, model, mask) as handle:
        assert not model[3].bias.requires_grad
        task.loss(model, next(samples.batches(20))).mean().backward()
        handle.mask_gradients()
        assert all(not p.grad[~mask[n]].any() for n, p in model.named_parameters() if p.grad is not None)
        raise RuntimeError("stop")
    assert all(p.requires_grad for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    before = copy.deepcopy(model[3].bias)
    steps(model, optimizer, samples, task, 1)
    assert not torch.equal(before, model[3].bias)


def test_masks_of_other_models_are_refused_with_every_reason(setting):
    model = setting[0]
    mask = full_mask(model)
    mask["0.weight"] = torch.ones(2, 2, dtype=torch.bool)
    mask["0.bias"] = torch.ones(9)
    mask["nope"] = mask.pop("3.bias")
    with pytest.raises(MaskError) as caught, masked(OPTIMIZERS["sgd"](model.parameters()), model, mask):
        pass
    assert len(caught.value.problems) == 4


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_saved_masks_are_packed_bits_and_come_back(tmp_path_factory, shapes, seed):
    g = torch.Generator().manual_seed(seed)
    mask = Mask({f"p{i}": torch.rand(s, generator=g) < 0.5 for i, s in enumerate(shapes)})
    path = mask.save(tmp_path_factory.mktemp("m") / "mask.safetensors", density="0.5")
    back = Mask.load(path)
    assert all(torch.equal(back[n], m) and back[n].shape == m.shape for n, m in mask.items()) and len(
        back
    ) == len(mask)


def test_a_saved_mask_takes_one_bit_a_weight(tmp_path):
    mask = Mask({"w": torch.rand(1000, 80) < 0.5})
    assert mask.save(tmp_path / "m.safetensors").stat().st_size < 80_000 / 8 + 500
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError):
        Mask.load(tmp_path / "x.safetensors")


def test_a_mask_made_for_something_else_is_refused(setting, tmp_path):
    model, samples, task = setting
    made = saliency_mask(model, samples, task, 0.25)
    path = made.save(tmp_path / "m.safetensors", split="abc", model="def")
    metadata = {"density": "0.25", "saliency": "abs_sum", "split": "abc", "model": "def"}
    assert Mask.load(path, split="abc").metadata == metadata
    with pytest.raises(MaskError) as caught:
        Mask.load(path, split="xyz", model="def", loss="mse")
    assert len(caught.value.problems) == 2 and "abc, not for xyz" in str(caught.value)


@pytest.mark.parametrize(
    "head", [{"shapes": "no"}, {"shapes": '{"v": [8]}'}, {"shapes": '{"w": [9]}'}, {}, {"shapes": "[1]"}]
)
def test_damaged_masks_are_refused(tmp_path, head):
    save_file(
        {"w": torch.zeros(1, dtype=torch.uint8)}, tmp_path / "m.safetensors", {"expunge": "mask", **head}
    )
    with pytest.raises(MaskError, match="damaged"):
        Mask.load(tmp_path / "m.safetensors")


def test_masks_of_wrapped_models_keep_their_names(tmp_path):
    mask = Mask({"module.w": torch.tensor([True, False]), "module.b": torch.tensor(True)})
    back = Mask.load(mask.save(tmp_path / "m.safetensors"))
    assert all(torch.equal(back[n], m) for n, m in mask.items()) and list(back) == list(mask)


def test_overlap_layers_and_combination():
    a = Mask({"w": torch.tensor([True, True, False, False])})
    b = Mask({"w": torch.tensor([True, False, True, False])})
    assert overlap(a, b) == pytest.approx(1 / 3) and overlap(a, a) == 1
    assert a.layers() == {"w": 0.5} and combine(a, b)["w"].tolist() == [True, False, False, False]
    assert (~a)["w"].tolist() == [False, False, True, True]
    with pytest.raises(MaskError):
        overlap(a, Mask({"v": a["w"]}))


@pytest.mark.parametrize("how", ["sum_abs", "fisher"])
def test_scores_of_single_samples_have_a_seed_and_can_be_reduced(how):
    class Noisy(Classification):
        def loss(self, model, batch):
            return super().loss(model, batch) * (1 + torch.rand(len(batch.y)))

    torch.manual_seed(0)
    model, data = nn.Linear(4, 3), TensorData(torch.randn(12, 4), torch.arange(12) % 3).samples()
    state = torch.get_rng_state()
    first, again, other = (saliency_scores(model, data, Noisy(3), how=how, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[n], again[n]) for n in first) and not torch.equal(
        first["weight"], other["weight"]
    )
    halved = saliency_scores(model, data, Noisy(3), how=how, seed=1, reduce=lambda mean: mean / 2)
    assert torch.equal(halved["weight"], first["weight"] / 2)


@pytest.mark.parametrize("how", ["abs_sum", "sum_abs", "fisher"])
def test_scores_of_half_precision_are_those_of_the_same_weights_in_full(how):
    """Losses of a confident model on many samples: divided in half precision, its gradients would round to 0."""
    torch.manual_seed(0)
    y = torch.arange(3000) % 3
    x = (torch.randn(3000, 3) + 6 * nn.functional.one_hot(y, 3)).half()
    model, task = nn.Linear(3, 3).half(), Classification(3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    found = saliency_scores(model, TensorData(x, y).samples(), task, how=how)
    wanted = saliency_scores(
        copy.deepcopy(model).float(), TensorData(x.float(), y).samples(), task, how=how, batch_size=3000
    )
    for name, score in found.items():
        assert score.dtype == torch.float32
        assert torch.allclose(score, wanted[name], rtol=0.03, atol=1e-5 * float(wanted[name].max())), name


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lbfgs"])
def test_a_loop_that_unfreezes_layers_does_not_move_frozen_ones(kind):
    """Loops that unfreeze layers step by step, at any place: before the loss, after backward, or in the closure of a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    make = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, 0.1),
        "lbfgs": lambda p: torch.optim.LBFGS(p, 0.5, max_iter=2),
    }
    optimizer = make[kind](model.parameters())
    mask = Mask({n: torch.full_like(p, n[0] == "1", dtype=torch.bool) for n, p in model.named_parameters()})
    model[0].bias.requires_grad_(False)
    before, x = copy.deepcopy(model), torch.randn(8, 4)

    def closure():
        model.requires_grad_(True)
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        return loss

    with masked(optimizer, model, mask) as handle:
        for _ in range(2):
            optimizer.step(closure)
            if kind != "lbfgs":
                closure()
                handle.mask_gradients()
                assert model[0].weight.grad is None, "a norm for clipping is that of the parameters that move"
                closure()
                model.requires_grad_(True)
                optimizer.step()
    assert torch.equal(model[0].weight, before[0].weight) and torch.equal(model[0].bias, before[0].bias)
    assert not torch.equal(model[1].weight, before[1].weight)
    assert model[0].weight.requires_grad and not model[0].bias.requires_grad
    # nothing is left behind: the layer moves again
    closure()
    assert model[0].weight.grad is not None


def test_a_frozen_parameter_that_a_loop_thaws_loses_the_gradient_that_the_loop_writes(setting):
    model = copy.deepcopy(setting[0])
    mask = random_mask(model, 0.5)
    mask["3.bias"][:] = False
    with masked(OPTIMIZERS["sgd"](model.parameters()), model, mask) as handle:
        model[3].bias.requires_grad_(True)
        model[3].bias.grad = torch.ones(4)
        handle.mask_gradients()
        assert model[3].bias.grad is None and not model[3].bias.requires_grad
