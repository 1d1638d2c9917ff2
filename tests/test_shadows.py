"""Test shadow models: stacked training, files on disk, and interrupted runs."""

import copy
import hashlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import tiny
from expunge import Classification, ExpungeError, Normalize, Samples
from expunge.audit.shadows import Shadows, _random_share
from expunge.audit.stacked_training import train_stacked
from expunge.methods.finetune import FineTune
from expunge.methods.retrain import Retrain, reset

RECIPE = Retrain(epochs=2, lr=0.05, lr_schedule="one_cycle", batch_size=64)
TASK = Classification(10)


def fresh(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return reset(tiny())


def plain_loop(model, samples, seed, clip=None):
    """Train one model with plain SGD."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    model.train()
    for _ in range(2):
        for batch in samples.batches(64, shuffle=generator):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch.x), batch.y).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("vectorised", [True, False])
def test_stacked_training_equals_training_alone(splits, vectorised, clip):
    recipe = Retrain(epochs=2, lr=0.05, lr_schedule="constant", batch_size=64, clip=clip)
    retain = splits[1].retain
    stacked = train_stacked(
        [fresh(1), fresh(2)], [retain, retain], recipe, TASK, [11, 12], vectorised=vectorised
    )
    for model, seed in zip(stacked, (1, 2), strict=True):
        alone = plain_loop(fresh(seed), retain, 10 + seed, clip)
        for (name, a), b in zip(model.state_dict().items(), alone.state_dict().values(), strict=True):
            assert torch.allclose(a.double(), b.double(), atol=2e-4), name


def test_unequal_counts_and_divergence_are_refused(splits):
    retain = splits[1].retain
    with pytest.raises(ExpungeError, match="equally many"):
        train_stacked([fresh(1), fresh(2)], [retain, retain.take(torch.arange(9))], RECIPE, TASK, [1, 2])
    wild = Retrain(epochs=2, lr=1e12, lr_schedule="constant", batch_size=64)
    with pytest.raises(ExpungeError, match="diverged"):
        train_stacked([fresh(1)], [retain], wild, TASK, [1], vectorised=False)


def test_shadows_are_kept_and_damaged_or_missing_ones_are_made_again(splits, tmp_path, monkeypatch):
    made = []
    options = {
        "recipe": RECIPE,
        "count": 3,
        "folder": tmp_path,
        "on_step": lambda kind, done, total: made.append((kind, done, total)),
    }
    sets = {"forget": splits[1].forget}
    first = Shadows(tiny(), splits[1], TASK, **options).logits("retrained", sets)["forget"]
    assert made == [("retrained", k, 3) for k in (1, 2, 3)] and first.shape == (3, len(splits[1].forget), 10)
    files = sorted(tmp_path.glob("retrained-*/*.safetensors"))
    assert len(files) == 3
    made.clear()
    assert (
        torch.equal(Shadows(tiny(), splits[1], TASK, **options).logits("retrained", sets)["forget"], first)
        and not made
    )
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[2].unlink()
    assert torch.equal(Shadows(tiny(), splits[1], TASK, **options).logits("retrained", sets)["forget"], first)
    assert len(made) == 2


def test_everything_that_changes_a_shadow_changes_its_cache_folder(splits, tmp_path):
    one = Shadows(tiny(), splits[1], TASK, RECIPE, folder=tmp_path)
    others = [
        Shadows(tiny(), splits[0], TASK, RECIPE, folder=tmp_path),
        Shadows(tiny(), splits[1], TASK, Retrain(epochs=3), folder=tmp_path),
        Shadows(tiny(), splits[1], TASK, RECIPE, seed=1, folder=tmp_path),
        Shadows(tiny(), splits[1], TASK, RECIPE, share=0.5, folder=tmp_path),
        Shadows(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), splits[1], TASK, RECIPE, folder=tmp_path),
    ]
    normalized = copy.copy(splits[1].retain.data)
    normalized.normalize = Normalize((0.5,), (0.5,))
    moved = {
        n: Samples(normalized, getattr(splits[1], n).index)
        for n in ("forget", "retain", "validation", "withheld")
    }
    others.append(Shadows(tiny(), replace(splits[1], **moved), TASK, RECIPE, folder=tmp_path))
    for seed in (1, 2):  # two models with different frozen parameters
        torch.manual_seed(seed)
        model = tiny()
        next(p for p in model.parameters() if p.ndim > 1).requires_grad_(False)
        others.append(Shadows(model, splits[1], TASK, RECIPE, folder=tmp_path))
    folders = {s._cache_folder(kind, []) for s in [one, *others] for kind in ("original", "retrained")}
    assert len(folders) == 18


def test_populations_differ_by_seed_and_training_data(splits):
    shadows = Shadows(
        tiny(), splits[0], TASK, Retrain(epochs=6, lr=0.1, lr_schedule="one_cycle", batch_size=32), count=2
    )
    sets = {"forget": splits[0].forget}
    seen, unseen = (shadows.logits(kind, sets)["forget"] for kind in ("original", "retrained"))
    assert not torch.equal(seen[0], seen[1])
    right = [(z.argmax(-1) == splits[0].forget.labels).float().mean() for z in (seen, unseen)]
    assert right[0] > 0.8 and right[1] == 0


def test_unlearned_shadows_are_kept_by_method_and_settings(splits, tmp_path):
    shadows = Shadows(tiny(), splits[1], TASK, RECIPE, count=2, folder=tmp_path)
    sets = {"forget": splits[1].forget}
    first = shadows.unlearned(FineTune(epochs=1), sets)["forget"]
    again = Shadows(tiny(), splits[1], TASK, RECIPE, count=2, folder=tmp_path)
    assert torch.equal(again.unlearned(FineTune(epochs=1), sets)["forget"], first)
    assert not torch.equal(again.unlearned(FineTune(epochs=1, lr=0.02), sets)["forget"], first)
    assert len(list(tmp_path.glob("unlearned-*"))) == 2


def test_a_shadow_is_drawn_trained_and_begun_with_one_seed(splits):
    recipe = Retrain(epochs=2, lr=0.05, lr_schedule="constant", batch_size=64)
    shadows = Shadows(tiny(), splits[1], TASK, recipe, count=2, share=0.5, seed=5)
    for k, model in enumerate(shadows.models("retrained")):
        seed = int.from_bytes(hashlib.sha256(f"5/retrained/{k}".encode()).digest()[:7], "big")
        alone = plain_loop(shadows.fresh(seed), _random_share(splits[1].retain, 0.5, seed), seed)
        for (name, a), b in zip(model.state_dict().items(), alone.state_dict().values(), strict=True):
            assert torch.allclose(a.double(), b.double(), atol=2e-4), name


def test_each_shadow_has_its_own_share(splits):
    a, b = _random_share(splits[1].retain, 0.5, 1), _random_share(splits[1].retain, 0.5, 2)
    assert len(a) == len(b) == round(len(splits[1].retain) / 2) and not torch.equal(a.index, b.index)
    with pytest.raises(ExpungeError, match="share"):
        _random_share(splits[1].retain, 0, 1)


def test_share_is_of_retained_samples_and_every_original_sees_the_forget_set(splits):
    half, whole = (Shadows(tiny(), splits[1], TASK, RECIPE, share=s) for s in (0.5, 1))
    split = splits[1]
    for seed in (1, 2):
        seen = half._samples("original", seed)
        assert torch.isin(split.forget.index, seen.index).all()
        assert len(seen) == len(split.forget) + round((len(split.train) - len(split.forget)) / 2)
        assert not torch.isin(half._samples("retrained", seed).index, split.forget.index).any()
    assert torch.equal(whole._samples("original", 1).index, split.train.index)
    assert torch.equal(whole._samples("retrained", 1).index, split.retain.index)


def test_number_of_threads_changes_nothing(splits):
    threads = torch.get_num_threads()
    sets = {"forget": splits[1].forget}
    shadows = {n: Shadows(tiny(), splits[1], TASK, RECIPE, count=3) for n in (1, 2)}
    try:
        torch.set_num_threads(2)
        assert shadows[2]._workers() == 2
        before = torch.get_rng_state()
        two = shadows[2].logits("original", sets)["forget"]
        assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(two, shadows[1].logits("original", sets)["forget"], atol=1e-4)
    assert Shadows(nn.Sequential(nn.Dropout(), nn.Linear(4, 2)), splits[1], TASK, RECIPE)._workers() == 1


def test_frozen_parameters_are_the_same_in_every_shadow(splits):
    """As in the original and in the retrained model, only the other parameters are trained."""
    model = tiny()
    model[0].requires_grad_(False)
    recipe = Retrain(epochs=1, lr=0.05, batch_size=64)
    shadows = Shadows(model, splits[0], Classification(10), recipe, count=2)
    for kind in ("original", "retrained"):
        for made in shadows.models(kind):
            assert torch.equal(made[0].weight, model[0].weight)
            assert not torch.equal(made[4].weight, model[4].weight)


@pytest.mark.parametrize("vectorised", [True, False])
def test_last_batch_of_one_sample(splits, vectorised):
    samples = splits[0].retain.take(torch.arange(34))
    recipe = Retrain(epochs=1, lr=0.05, batch_size=11)
    models = [reset(tiny()) for _ in range(2)]
    made = train_stacked(models, [samples] * 2, recipe, Classification(10), [1, 2], vectorised=vectorised)
    assert all(p.isfinite().all() for m in made for p in m.parameters())
