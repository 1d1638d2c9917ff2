"""Concept erasure on pipelines of the real classes: structure on random weights at once, the whole job on a trained one."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import tiny_pipelines as tiny
from expunge.audit.erasure import audit_erasure
from expunge.audit.generation_attacks import LearnedCondition, table_of
from expunge.audit.image_judge import Judge
from expunge.classification import Classification
from expunge.concepts import Erasure, picture, split_of
from expunge.data import Batch
from expunge.erase import erase, settings
from expunge.errors import CheckpointError, ExpungeError, ModelError
from expunge.forget_me_not import ForgetMeNot, attention_maps
from expunge.pipelines import choose_weights, load, save
from expunge.run import Compute, Run
from expunge.sampling import Sampler

FEW = Sampler(steps=2, guidance=2.0, batch_size=32)
WHAT = Erasure(concept="dress", anchor="coat", keep=("sandal",))
SMALL = {"epochs": 1, "lr": 1e-3, "batch_size": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines")
    made = {"unet": tiny.stable_diffusion(place), "xl": tiny.stable_diffusion_xl(place), "dit": tiny.dit()}
    return {kind: tiny.save(p, place / kind) for kind, p in made.items()}


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
                    prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
                )
                more = (
                    {"text_embeds": words[2], "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]])}
                    if kind == "xl"
                    else None
                )
                one = loaded.denoiser(x[k : k + 1], t[k : k + 1], words[0], added_cond_kwargs=more).sample
            torch.testing.assert_close(found[k : k + 1], one, rtol=1e-4, atol=1e-5)
    assert loaded.task(2).predict(model, x, t, torch.tensor([0, 1])).shape == x.shape


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


def test_schedulers_that_cannot_be_served_are_named(folders, tmp_path):
    loaded = load(folders["unet"])
    loaded.pipeline.scheduler.register_to_config(prediction_type="flow_prediction", beta_schedule="odd")
    with pytest.raises(ModelError) as caught:
        loaded.task(2)
    assert len(caught.value.problems) == 2


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="can't be opened"):
        load(tmp_path)


# ---- erasing


@pytest.mark.parametrize(("kind", "method"), [("unet", "salun"), ("xl", "esd"), ("dit", "concept_ablation")])
def test_folders_come_out_that_any_user_can_load(folders, tmp_path, kind, method):
    from diffusers import DiffusionPipeline

    more = {"sample_steps": 2} if method == "esd" else {}
    done = erase(folders[kind], WHAT, small(method, **more), out=tmp_path / "out", per_prompt=8, sampler=FEW)
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
    assert json.loads((tmp_path / "out" / "expunge.json").read_text())["method"] == method


def test_the_folder_handed_in_stays_as_it_was(folders, tmp_path):
    read = lambda: {p.name: p.read_bytes() for p in sorted(folders["unet"].rglob("*")) if p.is_file()}  # noqa: E731
    before = read()
    erase(folders["unet"], WHAT, small("salun"), out=tmp_path / "out", per_prompt=8, sampler=FEW)
    assert read() == before
    with pytest.raises(ExpungeError, match="not replaced"):
        erase(folders["unet"], WHAT, small("salun"), out=tmp_path / "out", per_prompt=8, sampler=FEW)


@pytest.mark.parametrize(("weights", "inside"), [("cross_attention", True), ("not_cross_attention", False)])
def test_only_the_chosen_weights_move(folders, tmp_path, weights, inside):
    erase(
        folders["unet"],
        WHAT,
        small("salun", density=1.0),
        out=tmp_path / "out",
        per_prompt=8,
        sampler=FEW,
        weights=weights,
    )
    moved = changed(*states(folders["unet"], tmp_path / "out"))
    assert moved and all((".attn2." in name) == inside for name in moved)


def test_weights_outside_the_mask_are_bit_identical(folders, tmp_path):
    done = erase(
        folders["unet"], WHAT, small("salun", density=0.1), out=tmp_path / "out", per_prompt=8, sampler=FEW
    )
    before, after = states(folders["unet"], tmp_path / "out")
    mask = {n.removeprefix("denoiser."): m for n, m in done.run.mask.items()}
    total = sum(m.numel() for m in mask.values())
    assert sum(int(m.sum()) for m in mask.values()) == round(0.1 * total)
    for name, free in mask.items():
        assert torch.equal(before[name][~free], after[name][~free])


def test_lora_is_loaded_by_the_pipeline(folders, tmp_path):
    done = erase(
        folders["unet"],
        WHAT,
        small("salun", density=1.0, lr=0.05),
        out=tmp_path / "lora",
        per_prompt=8,
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
            per_prompt=8,
            sampler=FEW,
            lora=2,
        )


def test_frozen_weights_may_be_halves_beside_lora(folders, tmp_path):
    method = small("random_label", lr=0.05)
    done = erase(
        folders["unet"], WHAT, method, out=tmp_path / "lora", per_prompt=4, sampler=FEW, lora=2, half=True,
        compute=Compute(amp="bf16", accumulate=2), gradient_checkpointing=True,
    )  # fmt: skip
    assert done.run.status == "finished"
    kinds = {n: p.dtype for n, p in done.model.named_parameters()}
    assert all((kind == torch.float32) == ("lora" in name) for name, kind in kinds.items())
    load(folders["unet"]).pipeline.load_lora_weights(str(tmp_path / "lora"))
    with pytest.raises(ExpungeError) as caught:
        erase(folders["unet"], WHAT, method, out=tmp_path, half=True)
    assert len(caught.value.problems) == 2


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
    found = picture(tmp_path / "x.png", 10)
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
    from expunge.data import TensorData

    return TensorData(torch.zeros(2, 4, 8, 8), torch.ones(2, dtype=torch.int64))


def test_a_dit_has_no_cross_attention_and_only_its_classes(folders, tmp_path):
    with pytest.raises(ModelError, match="no cross attention"):
        choose_weights(load(folders["dit"]).prompted(["dress"]), "cross_attention")
    with pytest.raises(ExpungeError, match="boot"):
        load(folders["dit"]).prompted(["boot", "5"])
    with pytest.raises(ExpungeError, match="no place for LoRA"):
        erase(folders["dit"], WHAT, small("random_label"), lora=2)


def test_nothing_is_left_when_writing_fails(folders, tmp_path):
    loaded = load(folders["unet"])
    model = loaded.prompted(["a"])
    loaded.pipeline.save_pretrained = lambda place: 1 / 0
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


def test_forget_me_not_takes_attention_away(folders):
    done = erase(
        folders["unet"],
        WHAT,
        settings("forget_me_not", lr=5e-3, epochs=6, batch_size=4),
        per_prompt=8,
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
        erase(folders["dit"], WHAT, settings("forget_me_not", **SMALL), per_prompt=8, sampler=FEW)
    assert len(caught.value.problems) == 2


def test_a_prompts_embedding_can_be_learned(folders):
    model = load(folders["unet"]).prompted(["a photo of a dress", "a photo of a coat"])
    assert table_of(model, 3) == "prompts"
    changed_model = LearnedCondition(model, 3, 0)
    batch = Batch(torch.randn(2, 4, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    load(folders["unet"]).task(2).loss(changed_model.eval(), batch).mean().backward()
    assert changed_model.row.grad.shape == (77, 32) and changed_model.row.grad.abs().sum() > 0


def test_audit_of_an_erasure(folders):
    done = erase(folders["unet"], WHAT, small("salun"), per_prompt=8, sampler=FEW)
    judge = Judge(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 3)), Classification(3), 90.0)
    classes = {"dress": 0, "coat": 1, "sandal": 2}
    found = audit_erasure(done, judge, classes, sampler=FEW, count=3)
    assert set(found.scores) == {"UA", "RA", "composition"} and set(found.details["before"]) == set(
        found.scores
    )
    assert found.scores["UA"] == 100 - found.details["prompts"]["dress"]["after"]
    with pytest.raises(ExpungeError, match="sandal"):
        audit_erasure(done, judge, {"dress": 0, "coat": 1}, sampler=FEW)


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
