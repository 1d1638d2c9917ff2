"""Concept erasure on pipelines of the real classes: structure on random weights at once, the whole job on a trained one."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tiny_pipelines as tiny
from expunge.audit.learned_condition import LearnedCondition, condition_tables
from expunge.audit.recovery_attacks import RecoveryAttack
from expunge.data.tensors import TensorData
from expunge.errors import CheckpointError, ExpungeError, ModelError
from expunge.generation import erase as erasing
from expunge.generation.concepts import Erasure, split_of
from expunge.generation.erase_presets import PIPELINE_METHODS, SETTINGS, STEPS, settings
from expunge.generation.erase_setup import latents_file
from expunge.generation.erase_training import with_anchor
from expunge.generation.erasure_audit import audit_erasure
from expunge.generation.forget_me_not import ForgetMeNot, attention_maps
from expunge.generation.options import EraseOptions
from expunge.generation.pipelines import PARAMETER_FILES, files_left_out, load, save
from expunge.generation.prompted import Prompted
from expunge.generation.text_to_image import Loaded
from expunge.generation.trainable import choose_weights
from expunge.generation.training_images import image_files, picture, read_latents
from expunge.records.hashing import state_hash
from expunge.tasks.sampling import Sampler
from expunge.training.registry import find
from expunge.training.run import Compute, Run

FEW = Sampler(steps=2, guidance=2.0, batch_size=32)
WHAT = Erasure(concept="dress", anchor="coat", keep=("sandal",))
SMALL = {"epochs": 1, "lr": 1e-3, "batch_size": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines")
    made = {"unet": tiny.stable_diffusion(place), "xl": tiny.stable_diffusion_xl(place), "dit": tiny.dit()}
    return {kind: tiny.save(p, place / kind) for kind, p in made.items()}


@pytest.fixture
def no_pictures(monkeypatch):
    """Sample no pictures of before and after."""
    monkeypatch.setattr(erasing, "grids", lambda *_, **__: iter(()))


def erase(folder, erasure, method, *, out=None, on_row=None, state_file=None, **options):
    """`erase` with its options as keywords."""
    return erasing.erase(
        folder, erasure, method, EraseOptions(**options), out=out, on_row=on_row, state_file=state_file
    )


def small(name, **more):
    return settings(name, **{**SMALL, **({"density": 0.5} if name == "salun" else {}), **more})


def states(*folders, name="unet"):
    return [getattr(load(f).pipeline, name).state_dict() for f in folders]


def changed(before, after):
    return {k for k in before if not torch.equal(before[k], after[k])}


# ---- pipelines as models


@pytest.mark.parametrize("kind", ["unet", "xl", "dit"])
def test_a_prompted_model_answers_as_its_pipelines_denoiser(folders, kind):
    loaded = load(folders[kind])
    prompts = ["dress", "coat"] if kind == "dit" else ["a photo of a dress", "a photo of a coat"]
    model = loaded.prompted(prompts).eval()
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([7, 500])
    with torch.no_grad():
        found = model(x, t, torch.tensor([1, 2]))
        for k, prompt in enumerate(["coat", ""] if kind == "dit" else ["a photo of a coat", ""]):
            if kind == "dit":
                one = loaded.denoiser(
                    x[k : k + 1], t[k : k + 1], torch.tensor([4 if prompt else 1000])
                ).sample
            else:
                words = loaded.pipeline.encode_prompt(
                    prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=not prompt
                )
                if not prompt:  # null is what the pipeline itself guides away from
                    words = words[1::2] if kind == "xl" else words[1:]
                    words = (words[0], None, words[-1])
                more = (
                    {"text_embeds": words[2], "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]])}
                    if kind == "xl"
                    else None
                )
                one = loaded.denoiser(x[k : k + 1], t[k : k + 1], words[0], added_cond_kwargs=more).sample
            torch.testing.assert_close(found[k : k + 1], one, rtol=1e-4, atol=1e-5)
    assert loaded.task(2).predict(model, x, t, torch.tensor([0, 1])).shape == x.shape


def test_null_of_an_xl_is_zeros_and_an_empty_anchor_is_encoded(folders):
    loaded = load(folders["xl"])
    model = loaded.prompted(["", "a photo of a dress"])
    for table in (model.prompts, model.pooled):
        assert not table[-1].any() and table[0].any() and table[1].any()
    loaded.pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    model = loaded.prompted([""])
    assert torch.equal(model.prompts[0], model.prompts[1]) and torch.equal(model.pooled[0], model.pooled[1])


def test_copies_share_frozen_weights_only_while_they_are_told_to():
    model = Prompted(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), labels=torch.arange(3))
    model.denoiser[0].requires_grad_(False)
    apart = copy.deepcopy(model)
    model.shares = True
    beside = copy.deepcopy(copy.deepcopy(model))
    for a, b, frozen in zip(model.parameters(), beside.parameters(), (1, 1, 0, 0), strict=True):
        assert (a is b) == bool(frozen) and torch.equal(a, b)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in apart.parameters()}
    assert beside.labels is not model.labels and torch.equal(beside.labels, model.labels)


def test_a_dits_own_dropping_of_labels_stays_off(folders):
    model = load(folders["dit"]).prompted(["dress"]).train()
    x, t, y = torch.randn(64, 4, 8, 8), torch.full((64,), 5), torch.zeros(64, dtype=torch.int64)
    with torch.no_grad():
        assert torch.equal(model(x, t, y), model(x, t, y))


def test_latents_go_there_and_back(folders):
    loaded = load(folders["unet"])
    x = torch.rand(3, 3, 16, 16)
    latents = loaded.encode(x, batch_size=2)
    vae = loaded.pipeline.vae
    with torch.no_grad():
        literal = vae.encode(2 * x - 1).latent_dist.mean * vae.config.scaling_factor
        torch.testing.assert_close(latents, literal, rtol=1e-4, atol=1e-5)
        image = (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(loaded.decode(latents, batch_size=2), image, rtol=1e-4, atol=1e-5)


def test_latents_of_an_xl_have_the_mean_and_deviation_of_each_channel(folders, tmp_path):
    """Against the decoding of diffusers itself. A Stable Diffusion 1.x ignores these entries, in diffusers too."""
    levels = {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [0.5, 2.0, 1.5, 0.8]}
    for kind in ("xl", "unet"):
        loaded = load(folders[kind])
        loaded.pipeline.vae.register_to_config(scaling_factor=0.7, shift_factor=0.3, **levels)
        x = torch.rand(2, 3, 16, 16)
        latents = loaded.encode(x)
        with torch.no_grad():
            plain = loaded.pipeline.vae.encode(2 * x - 1).latent_dist.mean
        mean, std = (
            torch.tensor(v if kind == "xl" else [k]).view(1, -1, 1, 1) for k, v in enumerate(levels.values())
        )
        torch.testing.assert_close(latents, (plain - mean) / std * 0.7, rtol=1e-4, atol=1e-5)
        asked = {"prompt": "a photo of a coat", "height": 16, "width": 16, "num_inference_steps": 1}
        noise = torch.randn(1, 4, 8, 8)
        drawn = loaded.pipeline(**asked, latents=noise.clone(), output_type="latent").images
        shown = loaded.pipeline(**asked, latents=noise.clone(), output_type="pt").images
        torch.testing.assert_close(loaded.decode(drawn), shown, rtol=1e-4, atol=1e-4)
    source = shutil.copytree(folders["xl"], tmp_path / "xl")
    config = json.loads((source / "vae/config.json").read_text())
    wrong = {**config, "latents_mean": [0.1], "latents_std": [1, 0, 1, 1]}
    (source / "vae/config.json").write_text(json.dumps(wrong))
    with pytest.raises(CheckpointError) as caught:
        load(source)
    assert len(caught.value.problems) == 2 and "must be 4 numbers" in str(caught.value)


def test_one_text_is_one_prompt(folders):
    assert load(folders["dit"]).prompted("dress").labels.tolist() == [3, 1000]


def test_schedulers_that_cannot_be_served_are_named(folders, tmp_path):
    loaded = load(folders["unet"])
    loaded.pipeline.scheduler.register_to_config(prediction_type="flow_prediction", beta_schedule="odd")
    with pytest.raises(ModelError) as caught:
        loaded.task(2)
    assert len(caught.value.problems) == 2


def scheduled(scheduler):
    return Loaded(SimpleNamespace(scheduler=scheduler), "unet", Path())


@pytest.mark.parametrize("kind", ["ddim", "dpm"])
def test_levels_of_a_schedulers_own_are_taken_as_they_are(kind):
    rescaled = tiny.scheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    own = tiny.scheduler(trained_betas=torch.linspace(1e-4, 0.03, 500).tolist(), num_train_timesteps=500)
    for scheduler in (rescaled, own):
        task = scheduled(scheduler).task(2)
        assert torch.equal(task.signal, scheduler.alphas_cumprod) and task.steps == len(task.signal)
        x, noise, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 300, task.steps - 1])
        torch.testing.assert_close(task.add_noise(x, t, noise).x, scheduler.add_noise(x, noise, t))
        drawn = Sampler(kind=kind, steps=4)(Constant(), task, torch.tensor([0, 1]), (4, 8, 8))
        assert drawn.isfinite().all()
    with pytest.raises(ModelError, match="keeps no signal"):
        scheduled(tiny.scheduler(rescale_betas_zero_snr=True)).task(2)


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.full((1, 1, 1, 1), 0.1))

    def forward(self, x, t, y):
        return self.level.expand_as(x)


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load(tmp_path)


# ---- erasing


@pytest.mark.parametrize(
    ("kind", "method"),
    [("unet", "salun"), pytest.param("xl", "esd", marks=pytest.mark.slow), ("dit", "concept_ablation")],
)
def test_folders_come_out_that_any_user_can_load(folders, tmp_path, kind, method):
    from diffusers import DiffusionPipeline

    more = {"sample_steps": 2} if method == "esd" else {}
    done = erase(folders[kind], WHAT, small(method, **more), out=tmp_path / "out", per_prompt=2, sampler=FEW)
    assert done.run.status == "finished" and done.record.kind == "erase"
    assert [i["title"] for i in done.record.details["images"]] == ["before", f"after {method}"]
    pipeline = DiffusionPipeline.from_pretrained(str(tmp_path / "out"), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    asked = (
        {"class_labels": [pipeline.labels["coat"]]}
        if kind == "dit"
        else {"prompt": "a photo of a coat", "height": 16, "width": 16}
    )
    assert pipeline(**asked, num_inference_steps=2).images[0].size == (16, 16)
    before, after = states(folders[kind], tmp_path / "out", name="transformer" if kind == "dit" else "unet")
    assert changed(before, after)
    for when, state in (("before", before), ("after", after)):
        assert done.record.model[f"hash_{when}"] == state_hash(state)
    assert json.loads((tmp_path / "out" / "expunge.json").read_text())["method"] == method


@pytest.mark.usefixtures("no_pictures")
def test_the_folder_handed_in_stays_as_it_was(folders, tmp_path):
    read = lambda: {p.name: p.read_bytes() for p in sorted(folders["unet"].rglob("*")) if p.is_file()}  # noqa: E731
    before = read()
    erase(folders["unet"], WHAT, small("salun"), out=tmp_path / "out", per_prompt=2, sampler=FEW)
    assert read() == before
    with pytest.raises(ExpungeError, match="not replaced"):
        erase(folders["unet"], WHAT, small("salun"), out=tmp_path / "out", per_prompt=2, sampler=FEW)


@pytest.mark.usefixtures("no_pictures")
def test_no_variant_of_the_old_weights_is_in_the_written_folder(folders, tmp_path):
    """Averages, half precision, raw weights and whole checkpoints in the input folder stay behind, and are told."""
    source = tmp_path / "source"
    shutil.copytree(folders["unet"], source)
    weights = source / "unet" / "diffusion_pytorch_model.safetensors"
    variants = [
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet_ema/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.ckpt",
    ]
    for name in variants:
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(weights, source / name)
    (source / "README.md").write_text("a card")
    out = tmp_path / "out"
    done = erase(source, WHAT, small("salun", density=1.0), out=out, per_prompt=2, sampler=FEW)
    assert done.record.details["left_out"] == variants
    assert json.loads((out / "expunge.json").read_text())["details"]["left_out"] == variants
    unets = [
        f.relative_to(out).as_posix()
        for f in out.rglob("*")
        if f.suffix in PARAMETER_FILES and "unet" in f.parts[-2]
    ]
    assert unets == ["unet/diffusion_pytorch_model.safetensors"]
    assert not (out / "unet_ema").exists() and not list(out.glob("*.ckpt"))
    before, after = states(source, out)
    moved = changed(before, after)
    assert len(moved) > 20
    written = b"".join(f.read_bytes() for f in out.rglob("*") if f.is_file())
    assert not [n for n in moved if before[n].ndim > 1 and before[n].numpy().tobytes() in written]
    # a folder without variants leaves nothing out
    assert files_left_out(out, out) == []


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("weights", "inside"),
    [("cross_attention", True), pytest.param("not_cross_attention", False, marks=pytest.mark.slow)],
)
def test_only_the_chosen_weights_move(folders, tmp_path, weights, inside):
    erase(
        folders["unet"],
        WHAT,
        small("salun", density=1.0),
        out=tmp_path / "out",
        per_prompt=2,
        sampler=FEW,
        weights=weights,
    )
    moved = changed(*states(folders["unet"], tmp_path / "out"))
    assert moved and all((".attn2." in name) == inside for name in moved)


@pytest.mark.usefixtures("no_pictures")
def test_weights_outside_the_mask_are_bit_identical(folders, tmp_path):
    done = erase(
        folders["unet"], WHAT, small("salun", density=0.1), out=tmp_path / "out", per_prompt=2, sampler=FEW
    )
    before, after = states(folders["unet"], tmp_path / "out")
    mask = {n.removeprefix("denoiser."): m for n, m in done.run.mask.items()}
    total = sum(m.numel() for m in mask.values())
    assert sum(int(m.sum()) for m in mask.values()) == round(0.1 * total)
    for name, free in mask.items():
        assert torch.equal(before[name][~free], after[name][~free])


@pytest.mark.usefixtures("no_pictures")
def test_lora_is_loaded_by_the_pipeline(folders, tmp_path):
    done = erase(
        folders["unet"],
        WHAT,
        small("salun", density=1.0, lr=0.05),
        out=tmp_path / "lora",
        per_prompt=2,
        sampler=FEW,
        lora=2,
    )
    assert {p.name for p in (tmp_path / "lora").iterdir()} == {
        "expunge.json",
        "pytorch_lora_weights.safetensors",
    }
    loaded = load(folders["unet"])
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 400])
    plain = loaded.prompted(done.prompts).eval()
    with torch.no_grad():
        before = plain(x, t, torch.tensor([0, 1]))
        loaded.pipeline.load_lora_weights(str(tmp_path / "lora"))
        after = loaded.prompted(done.prompts).eval()(x, t, torch.tensor([0, 1]))
        torch.testing.assert_close(after, done.model.eval()(x, t, torch.tensor([0, 1])))
    assert not torch.allclose(before, after)
    with pytest.raises(ExpungeError, match="saliency"):
        erase(
            folders["unet"],
            WHAT,
            small("salun", density=0.5),
            out=tmp_path / "no",
            per_prompt=2,
            sampler=FEW,
            lora=2,
        )


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_frozen_weights_may_be_halves_beside_lora(folders, tmp_path):
    method = small("random_label", lr=0.05)
    done = erase(
        folders["unet"], WHAT, method, out=tmp_path / "lora", per_prompt=2, sampler=FEW, lora=2, half=True,
        compute=Compute(amp="bf16", accumulate=2), gradient_checkpointing=True,
    )  # fmt: skip
    assert done.run.status == "finished"
    kinds = {n: p.dtype for n, p in done.model.named_parameters()}
    assert all((kind == torch.float32) == ("lora" in name) for name, kind in kinds.items())
    load(folders["unet"]).pipeline.load_lora_weights(str(tmp_path / "lora"))
    with pytest.raises(ExpungeError) as caught:
        erase(folders["unet"], WHAT, method, out=tmp_path, half=True)
    assert len(caught.value.problems) == 2


@pytest.mark.usefixtures("no_pictures")
def test_lora_of_the_cross_attention_stays_in_it_and_on_the_originals_weights(folders, tmp_path):
    done = erase(
        folders["unet"], WHAT, small("random_label", lr=0.05), per_prompt=2, sampler=FEW, lora=2,
        weights="cross_attention",
    )  # fmt: skip
    own = dict(done.model.named_parameters())
    assert all(".attn2." in n for n in own if "lora_" in n) and any("lora_" in n for n in own)
    frozen = {id(p) for n, p in own.items() if "lora_" not in n}
    assert frozen == {id(p) for p in done.original.parameters()}
    assert not frozen & {
        id(p) for p in copy.deepcopy(done.model).parameters()
    }  # an attack may train all of it
    told = done.record.details["trained"]
    assert told["weights"] == "cross_attention" and told["lora"] == 2 and told["count"] > 0
    assert done.record.model["hash_before"] != done.record.model["hash_after"]
    with pytest.raises(ExpungeError) as caught:
        erase("nowhere", WHAT, small("random_label"), lora=0, weights="not_cross_attention")
    assert len(caught.value.problems) == 2


@pytest.mark.usefixtures("no_pictures")
def test_a_teacher_costs_no_network_of_its_own(folders):
    method = small("esd", sample_steps=2)
    done = erase(folders["unet"], WHAT, method, per_prompt=2, sampler=FEW)
    given, teacher, made = (
        dict(m.named_parameters()) for m in (done.original, done.run.original, done.model)
    )
    assert all(teacher[n].data_ptr() == p.data_ptr() != made[n].data_ptr() for n, p in given.items())
    assert any(not torch.equal(p, made[n]) for n, p in given.items())


def test_what_cannot_be_is_said_before_hours_of_drawing(folders, tmp_path, monkeypatch):
    import expunge.generation.erase_setup as module

    monkeypatch.setattr(module, "sampled_latents", None)
    spoken = replace(WHAT, templates=("a picture of a {}",))
    with pytest.raises(ModelError) as caught:
        erase(folders["dit"], spoken, small("random_label"), lora=2, weights="cross_attention")
    assert len(caught.value.problems) == 3
    for name in ("retrain", "retrain_ema"):
        with pytest.raises(ExpungeError, match="fresh weights"):
            erase(folders["unet"], WHAT, settings(name))
    for name in ("scrub", "nhle", "fisher_forgetting", "salami"):
        with pytest.raises(ExpungeError, match=f"'{name}' has no form for pipelines; .*salun"):
            settings(name)
    with pytest.raises(ExpungeError, match=r"Scrub needs what the task .diffusion. does not offer: logits"):
        erase("nowhere", WHAT, find("scrub")())
    with pytest.raises(ExpungeError, match="the seed is -1"):
        erase("nowhere", WHAT, small("salun"), seed=-1)
    with pytest.raises(ExpungeError) as caught:
        erase("nowhere", Erasure(concept=" "), small("salun", lr=-1), seed=-1)
    words = ["the concept is empty", "the seed is -1", "lr is -1"]
    assert all(w in p for w, p in zip(words, caught.value.problems, strict=True))
    (tmp_path / "file").touch()
    with pytest.raises(ExpungeError) as caught:
        erase("nowhere", WHAT, small("salun", optimizer="sgdd"), out=tmp_path / "file/a/b", per_prompt=0)
    assert len(caught.value.problems) == 3 and "'sgdd'" in str(caught.value)
    with pytest.raises(ModelError, match="300 sampler steps do not fit") as caught:
        erase(folders["unet"], WHAT, small("esd", sample_steps=700), sampler=Sampler(steps=300))
    assert len(caught.value.problems) == 2


def test_folders_of_a_variant_are_opened_in_float32(folders, tmp_path):
    pipeline = tiny.stable_diffusion(tmp_path).to(dtype=torch.float16)
    pipeline.save_pretrained(str(tmp_path / "half"), variant="fp16")
    assert not (tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    loaded = load(tmp_path / "half")
    assert {p.dtype for p in loaded.denoiser.parameters()} == {torch.float32}
    assert loaded.prompted(["a photo of a dress"]).prompts.dtype == torch.float32


def test_what_was_trained_survives_when_its_pictures_cannot_be_drawn(folders, tmp_path, monkeypatch):
    import expunge.generation.erase as module

    def full(*_, **__):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(module, "grids", full)
    with pytest.warns(RuntimeWarning, match="no memory left"):
        erase(folders["unet"], WHAT, small("salun"), out=tmp_path / "out", per_prompt=2, sampler=FEW, steps=3)
    assert changed(*states(folders["unet"], tmp_path / "out"))
    told = json.loads((tmp_path / "out" / "expunge.json").read_text())
    assert told["details"]["trained"]["steps"] == 3 and told["settings"]["epochs"] == 3  # one step a pass


def test_every_preset_says_its_steps():
    assert set(SETTINGS) | set(PIPELINE_METHODS) <= set(STEPS)
    with pytest.raises(ExpungeError, match="steps is 0"):
        erase("nowhere", WHAT, small("salun"), steps=0)


@pytest.mark.usefixtures("no_pictures")
def test_images_may_come_from_folders(folders, tmp_path):
    from PIL import Image

    for k, word in enumerate(("dress", "coat", "sandal")):
        (tmp_path / "in" / word).mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (20, 30), (60 * k, 10 * n, 0)).save(tmp_path / "in" / word / f"{n}.png")
    two = replace(WHAT, templates=("a photo of a {}", "{}"))
    done = erase(
        folders["unet"], two, small("salun"), out=tmp_path / "out", images=tmp_path / "in", sampler=FEW
    )
    labels = done.run.split.forget.data.labels
    assert labels.bincount().tolist() == [2, 2, 2, 2, 2, 2] and done.run.split.sizes["forget"] == 4
    pieces = read_latents(done.loaded, image_files(tmp_path / "in", two), two, done.prompts, batch_size=5)
    torch.testing.assert_close(pieces.x, done.run.split.forget.data.x)
    with pytest.raises(ExpungeError, match="boot"):
        erase(
            folders["unet"],
            replace(WHAT, keep=("boot",)),
            small("salun"),
            out=tmp_path / "b",
            images=tmp_path / "in",
            sampler=FEW,
        )


def test_pictures_are_cut_at_the_centre(tmp_path):
    from PIL import Image

    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    wide.paste((0, 255, 0), (10, 0, 30, 20))
    wide.save(tmp_path / "x.png")
    found = picture(tmp_path / "x.png", 10, 10)
    assert found.shape == (3, 10, 10) and found[1, :, 1:-1].min() > 0.95 and found[0, :, 1:-1].max() < 0.05


def test_the_next_condition_of_every_concept_prompt_is_its_anchor():
    two = Erasure(concept="dress", anchor="coat", keep=("boot", "bag"), templates=("a {}", "the {}"))
    prompts = two.prompts()
    assert prompts == ["a dress", "a coat", "the dress", "the coat", "a boot", "the boot", "a bag", "the bag"]
    for k in two.concepts():
        assert prompts[k + 1] == prompts[k].replace("dress", "coat")
    assert Erasure(concept="dress").prompts() == ["a photo of a dress", ""]


def test_every_problem_of_an_erasure_is_said_at_once():
    with pytest.raises(ExpungeError) as caught:
        Erasure(concept=" ", keep=(" ",), templates=("no place",)).check()
    assert len(caught.value.problems) == 3
    with pytest.raises(ExpungeError, match="no images of the concept"):
        split_of(load_nothing(), [0], 2, "x")


def load_nothing():
    return TensorData(torch.zeros(2, 4, 8, 8), torch.ones(2, dtype=torch.int64))


def test_without_an_anchor_the_concept_goes_to_null(folders):
    alone = Erasure(concept="dress", keep=("sandal",))
    assert load(folders["dit"]).prompted(alone.prompts(plain=True)).labels.tolist() == [3, 1000, 5, 1000]
    latents = torch.zeros(6, 4, 8, 8)
    worded = split_of(TensorData(latents, torch.tensor([0, 0, 0, 2, 2, 2])), [0], 3, "dress")
    drawn = split_of(TensorData(latents, torch.tensor([0, 0, 1, 1, 2, 2])), [0], 3, "dress")
    method = settings("concept_ablation")
    assert with_anchor(method, alone, worded).anchor == -1
    assert with_anchor(method, alone, drawn).anchor == 1 and with_anchor(method, WHAT, worded).anchor == 1


def test_a_dit_has_no_cross_attention_and_only_its_classes(folders, tmp_path):
    with pytest.raises(ModelError, match="no cross attention"):
        choose_weights(load(folders["dit"]).prompted(["dress"]), "cross_attention")
    with pytest.raises(ExpungeError, match="boot"):
        load(folders["dit"]).prompted(["boot", "5"])
    with pytest.raises(ExpungeError, match="no place for LoRA"):
        erase(folders["dit"], WHAT, small("random_label"), lora=2)


def test_nothing_is_left_when_writing_fails(folders, tmp_path, monkeypatch):
    loaded = load(folders["unet"])
    model = loaded.prompted(["a"])
    monkeypatch.setattr("expunge.generation.pipelines.write_like", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(loaded, model, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


# ---- attention to words, attacks, the judge


@pytest.mark.parametrize("kind", ["unet", "xl"])
def test_recorded_attention_changes_no_prediction(folders, kind):
    loaded = load(folders[kind])
    model = loaded.prompted(["a photo of a dress"], "dress").eval()
    assert model.tokens[0].nonzero()[:, 0].tolist() == [5] and not model.tokens[1].any()
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([3, 400]), torch.tensor([0, 1])
    with torch.no_grad():
        plain = model(x, t, y)
        with attention_maps(model) as maps:
            torch.testing.assert_close(model(x, t, y), plain, rtol=1e-4, atol=1e-5)
        assert maps and all(torch.allclose(m.sum(-1), torch.ones(()), atol=1e-4) for m in maps)
        torch.testing.assert_close(model(x, t, y), plain)
        heads = ForgetMeNot.at_words(maps[0], model.tokens[y].float())
        torch.testing.assert_close(heads[0].flatten(), maps[0][: len(maps[0]) // 2, :, 5].flatten())


@pytest.mark.usefixtures("no_pictures")
def test_forget_me_not_takes_attention_away(folders):
    done = erase(
        folders["unet"],
        WHAT,
        settings("forget_me_not", lr=5e-3, epochs=6, batch_size=4),
        per_prompt=4,
        sampler=FEW,
        weights="cross_attention",
    )
    batch = next(done.run.split.forget.batches(8))

    def attention(model):
        torch.manual_seed(0)
        return ForgetMeNot().loss(Run(model, done.run.split, done.run.task), batch, None).item()

    assert attention(done.model) < attention(done.original)


def test_forget_me_not_says_what_it_needs(folders):
    with pytest.raises(ModelError) as caught:
        erase(folders["dit"], WHAT, settings("forget_me_not", **SMALL), per_prompt=2, sampler=FEW)
    assert len(caught.value.problems) == 2


def test_forget_me_not_refuses_what_would_do_nothing(folders):
    loaded = load(folders["unet"])
    model = loaded.prompted(["a photo of a dress", "many dresses"], "dress")
    assert ForgetMeNot.unmet(model, [0]) == []
    assert "are not among the tokens of prompts [1]" in ForgetMeNot.unmet(model, [0, 1])[0]
    loaded.denoiser.enable_gradient_checkpointing()
    assert "checkpointing" in ForgetMeNot.unmet(model, [0])[0]


@pytest.mark.parametrize("kind", ["unet", "xl", "dit"])
def test_a_prompts_embedding_can_be_learned(folders, kind):
    loaded = load(folders[kind])
    model = loaded.prompted(["dress", "coat"]).eval()
    found = LearnedCondition(model, 3, 0)
    if kind == "dit":
        assert len(found.names) == 2 and all("embedding_table" in n for n in found.names)  # one a block
    else:
        assert condition_tables(model, 3) == (["prompts"] if kind == "unet" else ["prompts", "pooled"])
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([9, 700])
    loaded.task(2).predict(found, x, t, torch.tensor([0, 0])).square().mean().backward()
    for row in found.rows:
        assert row.grad.abs().sum() > 0
        row.data.add_(1.0)
    with torch.no_grad():
        for y, same in ((0, False), (1, True), (2, True)):
            asked = torch.full((2,), y)
            assert torch.allclose(model(x, t, asked), found(x, t, asked), atol=1e-5) == same


@pytest.mark.usefixtures("no_pictures")
def test_audit_of_an_erasure(folders):
    done = erase(folders["unet"], WHAT, small("salun"), per_prompt=2, sampler=FEW)
    judge = tiny.judge()
    classes = {"dress": 2, "coat": 1, "sandal": 0}  # the judge numbers them in its own way
    attack = RecoveryAttack(steps=2, every=1, count=2, batch_size=4, sampler=FEW, threshold=101.0)
    found = audit_erasure(done, judge, classes, sampler=FEW, count=3, attack=attack)
    assert set(found.scores) == {"UA", "RA", "FID_judge", "KID_judge", "composition"}
    assert set(found.details["before"]) == set(found.scores)
    assert set(found.details["attacks"]) == {"learned_condition", "relearning"}
    for figures in found.details["attacks"].values():
        assert figures["within"] == 2 and figures["unlearned_steps"] is None
        assert {"original_highest", "unlearned_highest"} <= set(figures)
    assert found.scores["UA"] == 100 - found.details["prompts"]["dress"]["after"]
    with pytest.raises(ExpungeError) as caught:
        audit_erasure(done, judge, {"dress": 3, "coat": -1}, count=1, network=nn.Identity(), name="judge")
    assert len(caught.value.problems) == 5 and "['sandal']" in caught.value.problems[0]


@pytest.mark.slow
def test_the_command_masks_judges_and_draws_the_filter(folders, tmp_path, capsys, monkeypatch):
    from expunge.cli import main

    words = [
        "erase", "salun", str(folders["unet"]), "--concept", "dress", "--anchor", "coat", "--keep", "sandal", "--per-prompt", "4",
        "--sample-steps", "2", "--batch-size", "4", "--out",
    ]  # fmt: skip
    judge = ["--judge", "tiny_pipelines:judge", "--judge-class", "dress=0", "coat=1", "sandal=2"]
    more = ["--density", "0.3", "--mask", "random", "--steps", "2", "--safe", *judge, "--judge-count", "2"]
    more += ["--features", "tiny_pipelines:features"]
    assert main([*words, str(tmp_path / "out"), *more]) == 0
    told = json.loads((tmp_path / "out" / "expunge.json").read_text())
    assert told["settings"]["mask"] == "random" and told["details"]["trained"]["steps"] == 2
    assert {"UA", "RA", "FID_judge", "FID_features", "KID_features"} <= set(told["scores"])
    assert "safe latent diffusion" in told["details"]["images"][2]["title"]
    from expunge.records.record import Record
    from expunge.report import page

    shown = page([Record.load(tmp_path / "out" / "expunge.json")])
    assert (
        "Before and after" in shown and "images of “sandal” that show it" in shown and "FID features" in shown
    )
    refused = (
        ["--steps", "2", "--epochs", "2"],
        judge[:3],
        ["--attacks"],
        ["--features", "tiny_pipelines:features"],
        [*judge, "--features", "tiny_pipelines:judge"],
        ["--device", "cuda:9"],
        ["--images", str(tmp_path)],
        ["--judge", "tiny_pipelines:scheduler", *judge[2:]],
        [*judge, "--judge-count", "1"],
        [*judge[:-1], "sandal=3"],
        [*judge[:-1], "sandal=²"],
        ["--report", str(tmp_path)],
    )
    with monkeypatch.context() as patched:
        patched.setattr(import_module("expunge.generation.erase_training"), "execute", never)
        for flags in refused:
            assert main([*words, str(tmp_path / "no"), *flags]) == 2
        for method, flags in (("esd", ["--mask", "random"]), ("fisher_forgetting", [])):
            assert main(["erase", method, *words[2:], str(tmp_path / "no"), *flags]) == 2
    capsys.readouterr()
    assert main([*words, "."]) == 2
    assert "error: . exists and is not replaced" in capsys.readouterr().err
    assert {f.name for f in tmp_path.iterdir()} == {"out"}


# ---- interrupted


def stopping(after):
    """Interrupts the run at the first row of an epoch behind `after`."""

    def on_row(row):
        if row["epoch"] > after:
            raise KeyboardInterrupt

    return on_row


def never(*args, **options):
    raise AssertionError("not to be called")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    "more",
    [{}, *(pytest.param(m, marks=pytest.mark.slow) for m in ({"lora": 2}, {"weights": "cross_attention"}))],
    ids=str,
)
def test_an_interrupted_erasure_goes_on_to_the_same_weights(folders, tmp_path, monkeypatch, more):
    method = small("salun", epochs=3, density=1.0 if "lora" in more else 0.5)
    options = {"per_prompt": 2, "sampler": FEW, **more}
    torch.manual_seed(1)
    whole = erase(folders["unet"], WHAT, method, **options)
    state = tmp_path / ".out.state"
    torch.manual_seed(2)  # nothing may hang on it
    with pytest.raises(KeyboardInterrupt):
        erase(folders["unet"], WHAT, method, **options, state_file=state, on_row=stopping(1))
    kept = torch.load(state, weights_only=True)
    trained = {n for n, p in whole.model.named_parameters() if p.requires_grad}
    assert kept["epoch"] == 2 and {k for k in kept["model"] if "denoiser" in k} == (
        trained if more else {n for n, _ in whole.model.named_parameters()}
    )  # frozen weights are those of the folder
    with monkeypatch.context() as patched:
        patched.setattr(
            import_module("expunge.generation.erase_setup"), "sampled_latents", never
        )  # they are not drawn again
        again = erase(folders["unet"], WHAT, method, **options, state_file=state)
    assert again.run.step == whole.run.step and not changed(
        again.model.state_dict(), whole.model.state_dict()
    )
    assert latents_file(state).exists()
    with pytest.raises(ExpungeError, match="latents of another call"):
        erase(folders["unet"], WHAT, method, **{**options, "per_prompt": 5}, state_file=state)
    if not more:
        return
    state.unlink()
    with monkeypatch.context() as patched:  # after memory ran out, fewer at once train on the same latents
        patched.setattr(import_module("expunge.generation.erase_setup"), "sampled_latents", never)
        fewer = {**options, "sampler": replace(FEW, batch_size=2), "compute": Compute(accumulate=2)}
        erase(folders["unet"], WHAT, method, **fewer, state_file=state)


@pytest.mark.usefixtures("no_pictures")
def test_kept_latents_are_those_of_the_images_and_the_autoencoder(folders, tmp_path):
    from PIL import Image

    for word in ("dress", "coat"):
        (tmp_path / "in" / word).mkdir(parents=True)
        Image.new("RGB", (16, 16), (80, 0, 0)).save(tmp_path / "in" / word / "0.bmp")
    what = Erasure(concept="dress", anchor="coat")
    options = {"images": tmp_path / "in", "sampler": FEW, "state_file": tmp_path / ".state"}
    pipeline = load(folders["unet"]).pipeline
    pipeline.vae.decoder.conv_out.bias.data += 1
    pipeline.save_pretrained(tmp_path / "other")
    erase(folders["unet"], what, small("finetune"), **options)
    options["state_file"].unlink()
    erase(folders["unet"], what, small("finetune"), **options)
    with pytest.raises(ExpungeError, match="latents of another call"):
        erase(tmp_path / "other", what, small("finetune"), **options)
    Image.new("RGB", (16, 16), (90, 0, 0)).save(tmp_path / "in/dress/0.bmp")  # the same size in bytes
    with pytest.raises(ExpungeError, match="latents of another call"):
        erase(folders["unet"], what, small("finetune"), **options)


@pytest.mark.slow  # draws many images
def test_the_command_resumes_and_cleans_up(folders, tmp_path, monkeypatch, capsys):
    from PIL import Image

    from expunge.cli import main

    for n, word in enumerate(("dress", "coat")):
        (tmp_path / "in" / word).mkdir(parents=True)
        for k in range(2):
            Image.new("RGB", (20, 20), (80 * n, 40 * k, 0)).save(tmp_path / "in" / word / f"{k}.png")
    command = ["erase", "salun", str(folders["unet"]), "--concept", "dress", "--anchor", "coat", "--images", str(tmp_path / "in"),
               "--out", str(tmp_path / "out"), "--epochs", "2", "--batch-size", "4", "--sample-steps", "1"]  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr("expunge.cli.erase.print_row", stopping(1))
        assert main(command) == 130
    assert "resumes from its last written state" in capsys.readouterr().err
    assert {f.name for f in tmp_path.iterdir()} == {"in", ".out.state", ".out.latents"}
    assert main(command) == 0
    assert {f.name for f in tmp_path.iterdir()} == {"in", "out"}

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    command[command.index("--out") + 1] = str(tmp_path / "b")
    capsys.readouterr()
    with monkeypatch.context() as patched:  # while the pictures are drawn: everything else is there
        patched.setattr(import_module("expunge.generation.erase"), "grids", interrupted)
        assert main(command) == 130
    said = capsys.readouterr().err
    assert "only images and scores are missing" in said and "the run resumes" not in said
    assert {f.name for f in tmp_path.iterdir()} == {"in", "out", "b"}
    assert (tmp_path / "b/expunge.json").exists()


# ---- the whole job


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    if not os.environ.get("EXPUNGE_DATA"):
        pytest.skip(
            "EXPUNGE_DATA names no folder with fashion-mnist: the pipeline is trained on real captioned images"
        )
    import fashion_pipeline

    return fashion_pipeline.build_pipeline(tmp_path_factory.mktemp("fashion"))


@pytest.mark.slow
def test_a_concept_is_erased_from_a_pipeline_that_can_draw_it(fashion, tmp_path):
    """Trousers from a pipeline that draws Fashion-MNIST on request, by the command line, judged on what users would draw."""
    import fashion_pipeline as f
    from expunge.cli import main

    def recognised(folder):
        drawn = f.draw(load(folder), [f.CAPTION.format(c) for c in f.CLASSES], 20)
        said = (
            fashion.judge.predict(drawn, torch.arange(10).repeat_interleave(20))
            .correct.double()
            .view(10, 20)
            .mean(1)
        )
        return 100 * said[1].item(), 100 * said[[k for k in range(10) if k != 1]].mean().item()

    concept, kept = recognised(fashion.folder)
    assert concept > 90 and kept > 70  # it was there before: else nothing can be erased
    keep = [c for c in f.CLASSES if c not in ("trouser", "dress")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main(
            [
                "erase",
                "salun",
                str(fashion.folder),
                "--concept",
                "trouser",
                "--anchor",
                "dress",
                "--keep",
                *keep,
                "--out",
                str(tmp_path / "out"),
                "--lr",
                "5e-4",
                "--epochs",
                "15",
                "--batch-size",
                "16",
                "--retain-weight",
                "3",
                "--per-prompt",
                "48",
                "--sample-steps",
                "20",
                "--guidance",
                "2",
                "--report",
                str(tmp_path / "report.html"),
            ]
        )
    assert code == 0
    concept_after, kept_after = recognised(tmp_path / "out")
    assert concept_after <= 5
    assert kept_after >= kept - 10
    assert "data:image/png;base64" in (tmp_path / "report.html").read_text()


# ---- words that differ where the conditions do not


@pytest.mark.parametrize("kind", ["unet", "xl"])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            Erasure(concept="Dress", anchor="dress", keep=("dress",)),
            "the concept 'Dress' and the anchor 'dress'",
        ),
        (Erasure(concept="dress", anchor="coat", keep=("dress ",)), "and the kept concept 'dress '"),
        (Erasure(concept=("coat", "Coat"), anchor="bag"), "'coat' and the concept 'Coat'"),
    ],
)
def test_words_with_equal_tokens_are_refused_before_the_run(folders, tmp_path, kind, what, words):
    """All of these "finished", wrote a folder and a record, and erased nothing."""
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="are the same to the pipeline") as error:
        erase(folders[kind], what, small("esd"), out=out, sampler=FEW, per_prompt=1)
    assert words in str(error.value) and not out.exists()


def test_one_class_of_a_dit_is_refused_under_two_names(folders):
    with pytest.raises(ModelError, match="are one class"):
        erase(folders["dit"], Erasure(concept="dress", anchor="3"), small("esd"), sampler=FEW, per_prompt=1)


def test_equal_embeddings_of_different_tokens_are_refused(folders):
    from expunge.generation.same_prompts import same_prompt_problems

    model = load(folders["unet"]).prompted(WHAT.prompts())
    assert not same_prompt_problems(model, WHAT)
    model.prompts[1] = model.prompts[0] * (1 + 1e-7)
    assert "have equal embeddings" in same_prompt_problems(model, WHAT)[0]
