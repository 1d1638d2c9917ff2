"""Pipeline folders of every form: refused before anything is loaded, or written back as they were."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import torch

import tiny_pipelines as tiny
from expunge.cli.erase_start import check_folder
from expunge.errors import CheckpointError, ExpungeError, UnlearningFailed
from expunge.generation.concepts import Erasure
from expunge.generation.cross_attention import text_layers
from expunge.generation.erase import erase
from expunge.generation.erase_checks import inside_problems
from expunge.generation.erase_presets import settings
from expunge.generation.options import EraseOptions
from expunge.generation.pipeline_index import read_index
from expunge.generation.pipelines import load, save
from expunge.generation.prompted import Prompted
from expunge.generation.schedulers import SCHEDULERS, few_step_doubt, scheduler_problems
from expunge.generation.trainable import add_lora, choose_weights
from expunge.generation.weight_files import stored, variants
from expunge.records.hashing import state_hash
from expunge.tasks.sampling import Sampler

FEW = Sampler(steps=1, guidance=2.0, batch_size=32)
WHAT = Erasure(concept="dress", anchor="coat")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    return tiny.save(tiny.stable_diffusion(place), place / "unet")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "pipeline")


@pytest.fixture
def no_diffusers(monkeypatch):
    """Let every import of diffusers fail, which takes seconds."""
    monkeypatch.setitem(sys.modules, "diffusers", None)


def files(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def change(file, **entries):
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.fixture
def no_pictures(monkeypatch):
    """Sample no pictures of before and after."""
    monkeypatch.setattr("expunge.generation.erase.grids", lambda *_, **__: iter(()))


def run(folder, out=None, *, lr=1e-3, **options):
    method = settings("random_label", epochs=1, lr=lr, batch_size=4)
    return erase(folder, WHAT, method, EraseOptions(per_prompt=2, sampler=FEW, **options), out=out)


# ---- refused


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (
            {"_class_name": "FluxPipeline"},
            "is a FluxPipeline, which is not supported; known: StableDiffusionPipeline",
        ),
        (
            {"_class_name": "StableDiffusion3Pipeline"},
            "is a StableDiffusion3Pipeline, which is not supported",
        ),
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "takes a mask and an image"),
        ({"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "open it as a text-to-image pipeline"),
        ({"_class_name": "LatentConsistencyModelPipeline"}, "distilled to a few steps"),
        ({"_class_name": ["mine", "Pipeline"]}, "names code of its own"),
        ({}, "cannot be opened: model_index.json names no class"),
        ([], "holds no JSON object"),
        (None, "cannot be read as JSON"),
    ],
)
def test_other_kinds_are_refused_by_their_index_alone(tmp_path, no_diffusers, index, words):
    (tmp_path / "model_index.json").write_text("{" if index is None else json.dumps(index))
    with pytest.raises(CheckpointError) as error:
        load(tmp_path)
    assert words in str(error.value)
    with pytest.raises(CheckpointError):
        erase(tmp_path, WHAT, settings("esd"), EraseOptions(images=tmp_path / "none"))


BROKEN = {
    "tokenizer lost": (lambda f: shutil.rmtree(f / "tokenizer"), "lacks the folder tokenizer"),
    "no words": (lambda f: (f / "tokenizer/tokenizer.json").unlink(), "has no words"),
    "encoder lost": (lambda f: shutil.rmtree(f / "text_encoder"), "lacks the folder text_encoder"),
    "encoder empty": (
        lambda f: change(f / "model_index.json", text_encoder=[None, None]),
        "has no text_encoder: model_index.json does not name one",
    ),
    "own code": (lambda f: change(f / "model_index.json", vae=["mine", "VAE"]), "is code of its own (mine.VAE)"),
    "no parameters": (
        lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(),
        "vae has no complete file of parameters",
    ),
    "cut": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"12345678"),
        "cannot be read: SafetensorError",
    ),
    "inpainting": (lambda f: change(f / "unet/config.json", in_channels=9), "takes 9 channels, but latents have 4"),
    "consistency": (lambda f: change(f / "unet/config.json", time_cond_proj_dim=8), "takes the guidance as an input"),
    "size 0": (lambda f: change(f / "unet/config.json", sample_size=0), "sample_size in"),
    "size of a side": (lambda f: change(f / "unet/config.json", sample_size=[8, True]), "is [8, True]; it must be"),
    "no size by default": (lambda f: drop(f / "unet/config.json", "sample_size"), "has no sample_size"),
    "no size": (lambda f: change(f / "unet/config.json", sample_size=None), "has no sample_size"),
    "inputs": (
        lambda f: change(f / "unet/config.json", addition_embed_type="image"),
        "inputs that Stable Diffusion 1.x and 2.x have not",
    ),
    "other class": (lambda f: change(f / "unet/config.json", _class_name="UNet3D"), "is a UNet3D; known"),
    "adapter of the encoder": (lambda f: change_text(f / "text_encoder/adapter_config.json"), "LoRA attached"),
    "two variants": (
        lambda f: [
            shutil.copy(f / "unet/diffusion_pytorch_model.safetensors", f / f"unet/diffusion_pytorch_model.{v}.safetensors")
            for v in ("fp16", "bf16")
        ]
        and (f / "unet/diffusion_pytorch_model.safetensors").unlink(),
        "has only variants, and more than one: bf16, fp16",
    ),
    "a shard lost": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").rename(
            f / "unet/diffusion_pytorch_model-00001-of-00002.safetensors"
        ),
        "unet has no complete file of parameters",
    ),
}  # fmt: skip


def change_text(file):
    file.write_text("{}")


def drop(file, name):
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != name}))


def change_scheduler(folder, name, **config):
    """Write another scheduler, as `pipeline.scheduler = ...` and `save_pretrained` do."""
    change(folder / "scheduler/scheduler_config.json", _class_name=name, **config)
    change(folder / "model_index.json", scheduler=["diffusers", name])


@pytest.mark.parametrize("case", BROKEN)
def test_folders_that_cannot_work_are_refused_before_the_import(folder, no_diffusers, case):
    break_it, words = BROKEN[case]
    break_it(folder)
    with pytest.raises(CheckpointError) as error:
        read_index(folder)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("LCMScheduler", {}, "is a LCMScheduler, so the denoiser is distilled to a few steps"),
        ("TCDScheduler", {}, "attach the LoRA of few steps to the result"),
        ("FlowMatchEulerDiscreteScheduler", {}, "(flow matching); known: DDIMScheduler"),
        ("EDMEulerScheduler", {}, "(unknown noise levels); known"),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True}, "is set to flow matching"),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}, "is set to flow matching"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "continuous noise levels"),
    ],
)
def test_schedulers_of_other_losses_are_refused(folder, no_diffusers, name, config, words):
    """Each of these was erased from: old entries of betas stay in a saved configuration."""
    change_scheduler(folder, name, **config)
    with pytest.raises(CheckpointError) as error:
        read_index(folder)
    assert words in str(error.value)


def test_every_scheduler_that_is_served_has_noise_levels():
    import diffusers

    for name in SCHEDULERS:
        # this one needs a further package
        if name != "DPMSolverSDEScheduler":
            assert "beta_schedule" in signature(getattr(diffusers, name)).parameters
        assert not scheduler_problems(Path("s"), name, {"_class_name": name}, ())


def test_a_model_of_few_steps_is_refused_by_its_name_and_doubted_by_its_spacing(folder, monkeypatch):
    change_scheduler(folder, "EulerDiscreteScheduler", timestep_spacing="trailing")
    monkeypatch.setattr("expunge.generation.erase.open_pipeline", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="timestep_spacing is trailing"), pytest.raises(ZeroDivisionError):
        run(folder)
    config = folder / "scheduler/scheduler_config.json"
    assert few_step_doubt(folder, json.loads(config.read_text()))
    # ordinary models that predict v have this spacing
    assert not few_step_doubt(
        folder, {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    ) and not few_step_doubt(folder, {"timestep_spacing": "leading"})
    change(folder / "model_index.json", _name_or_path="stabilityai/sd-turbo")
    with pytest.raises(CheckpointError, match=r"the model is stabilityai/sd-turbo: it is distilled"):
        read_index(folder)


def test_the_command_refuses_a_folder_before_torch_is_imported(folder, tmp_path):
    """In a fresh interpreter: torch and diffusers are not imported when the refusal is raised."""
    change_scheduler(folder, "LCMScheduler")
    code = (
        "import sys; from expunge.cli.app import main; "
        "code = main(sys.argv[1:]); print(code, {'torch', 'diffusers', 'numpy'} & set(sys.modules))"
    )
    words = ["erase", "salun", str(folder), "--concept", "dress", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 set()" and "is a LCMScheduler" in done.stderr
    check_folder(["salun", str(folder), "--help"])
    check_folder(["salun", "--concept", "dress"])
    check_folder(["salun"])


def test_nothing_is_written_into_a_folder_that_is_read(folder, tmp_path, monkeypatch):
    from expunge.cli import main

    before = files(folder)
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for place in (folder / "inside", folder / "new/deep", link / "inside", folder / "unet/../inside"):
        with pytest.raises(ExpungeError, match="which is only read; name a place outside it"):
            run(folder, place)
    (tmp_path / "images").mkdir()
    with pytest.raises(ExpungeError, match=r"lies inside .*images, which is only read"):
        erase(
            folder,
            WHAT,
            settings("esd"),
            EraseOptions(images=tmp_path / "images"),
            out=tmp_path / "images/out",
        )
    with pytest.raises(ExpungeError, match="pipeline is only read; name another folder"):
        run(folder, tmp_path / "out", spill=link)
    assert not inside_problems(folder / "../out", folder)
    words = ["erase", "salun", str(folder), "--concept", "dress", "--out"]
    assert main([*words, str(folder / "inside")]) == 2
    assert main([*words, str(tmp_path / "out"), "--report", str(link / "report.html")]) == 2
    assert main([*words, str(tmp_path / "out"), "--spill", str(folder / "spill")]) == 2
    assert files(folder) == before and sorted(p.name for p in folder.iterdir()) == sorted(
        {name.partition("/")[0] for name in before}
    )


def test_an_attached_adapter_and_foreign_parameters_are_refused(folder, tmp_path):
    loaded = load(folder)
    model = loaded.prompted(["a photo of a dress"])
    add_lora(model, 2)
    loaded.pipeline.save_pretrained(str(tmp_path / "lora"))
    with pytest.raises(CheckpointError, match=r"LoRA attached.* load the base pipeline, attach"):
        load(tmp_path / "lora")
    # a neighbour: the files of another network
    from safetensors.torch import load_file, save_file

    file = folder / "unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["conv_out.bias"]
    save_file({**state, "conv_last.bias": torch.zeros(4)}, file)
    with pytest.raises(CheckpointError) as error:
        load(folder)
    assert len(error.value.problems) == 2 and "conv_out.bias" in str(error.value)


def test_the_remedy_for_an_attached_adapter_gives_a_folder_that_loads(folder, tmp_path):
    """What the refusal says, with diffusers itself."""
    from diffusers import StableDiffusionPipeline

    loaded = load(folder)
    model = loaded.prompted(["a photo of a dress"])
    add_lora(model, 2)
    with torch.no_grad():
        for name, p in model.denoiser.named_parameters():
            p.add_(0.1 * ("lora_B" in name))
    save(loaded, model, tmp_path / "lora", lora=True)
    base = StableDiffusionPipeline.from_pretrained(str(folder))
    base.load_lora_weights(str(tmp_path / "lora"))
    base.fuse_lora()
    base.unload_lora_weights()
    base.save_pretrained(str(tmp_path / "merged"))
    merged = load(tmp_path / "merged").denoiser.state_dict()
    before = load(folder).denoiser.state_dict()
    assert merged.keys() == before.keys()
    assert any(not torch.equal(merged[k], before[k]) for k in merged)


def test_opening_a_pipeline_shows_no_bars_and_leaves_the_settings(folder, capsys):
    from diffusers.utils import logging

    assert logging.is_progress_bar_enabled()
    load(folder)
    assert "Loading" not in capsys.readouterr().err and logging.is_progress_bar_enabled()


def test_a_tokenizer_without_a_limit_gets_that_of_its_encoder(folder):
    (folder / "tokenizer/tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    loaded = load(folder)
    assert loaded.pipeline.tokenizer.model_max_length == 77
    assert loaded.prompted(["a photo of a dress"]).prompts.shape[:2] == (2, 77)


def test_variants_are_read_whatever_their_name(tmp_path):
    start = "diffusion_pytorch_model"
    for name in (".my-var", ".v1.0-00001-of-00001", "-00001-of-00001.late-1", ""):
        (tmp_path / f"{start}{name}.safetensors").touch()
    assert variants(tmp_path) == {"my-var", "v1.0", "late-1", None}
    assert [f.name for f in stored(tmp_path, "v1.0")] == [f"{start}.v1.0-00001-of-00001.safetensors"]


# ---- written as they were


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    "form", ["fp16 variant in shards", pytest.param("bfloat16", marks=pytest.mark.slow), "bin"]
)
def test_precision_variant_shards_and_other_files_stay(tmp_path, form):
    source, out = tmp_path / "source", tmp_path / "out"
    pipeline = tiny.stable_diffusion(tmp_path)
    if form == "fp16 variant in shards":
        pipeline.to(dtype=torch.float16).save_pretrained(
            str(source), variant="my-fp16", max_shard_size="150KB"
        )
        assert len(list((source / "unet").glob("*.my-fp16-*.safetensors"))) == 3
    elif form == "bfloat16":
        pipeline.to(dtype=torch.bfloat16).save_pretrained(str(source))
    else:
        pipeline.save_pretrained(str(source), safe_serialization=False)
    (source / "README.md").write_text("a card")
    (source / "model_index.json").write_text((source / "model_index.json").read_text() + "\n\n")
    (source / ".cache").mkdir()
    (source / ".cache" / "old").write_bytes(b"old parameters")
    done = run(source, out)
    before, after = files(source), files(out)
    assert set(before) - {".cache/old"} == set(after) - {"expunge.json"}
    changed = {name for name in before if name in after and before[name] != after[name]}
    assert changed and all(
        name.startswith("unet/") and name.endswith((".bin", ".safetensors")) for name in changed
    )
    assert all(len(before[name]) == len(after[name]) for name in changed if form != "bin")
    index = read_index(out)
    assert index == type(index)(
        out, **{k: getattr(read_index(source), k) for k in ("class_name", "kind", "parts", "variant")}
    )
    reopened = load(out)
    # the audit saw the rounded model
    assert state_hash(reopened.denoiser.state_dict()) == done.record.model["hash_after"]
    kind = {"bin": "float32", "bfloat16": "bfloat16"}.get(form, "float16")
    assert done.record.details["trained"]["stored"] == [kind]
    assert reopened.pipeline(
        "a photo of a coat", height=16, width=16, num_inference_steps=1, output_type="np"
    ).images.shape == (1, 16, 16, 3)


def test_a_change_that_vanishes_by_rounding_is_no_result(tmp_path):
    tiny.stable_diffusion(tmp_path).to(dtype=torch.float16).save_pretrained(str(tmp_path / "source"))
    with pytest.raises(UnlearningFailed, match=r"all changes vanish in the type of the files \(float16\)"):
        run(tmp_path / "source", tmp_path / "out", lr=1e-9)
    assert not (tmp_path / "out").exists()


# ---- sizes


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("kind", ["unet", "xl"])
def test_sizes_that_are_not_square(tmp_path, kind):
    from PIL import Image

    pipeline = (tiny.stable_diffusion if kind == "unet" else tiny.stable_diffusion_xl)(tmp_path)
    pipeline.unet.register_to_config(sample_size=[8, 12])
    tiny.save(pipeline, tmp_path / "wide")
    done = run(tmp_path / "wide", tmp_path / "out")
    assert done.run.split.forget.data.x.shape[1:] == (4, 8, 12)
    if kind == "xl":
        assert done.original.times.tolist() == [16, 24, 0, 0, 16, 24]
    for word, color in (("dress", "red"), ("coat", "blue")):
        (tmp_path / "in" / word).mkdir(parents=True)
        Image.new("RGB", (20, 30), color).save(tmp_path / "in" / word / "0.png")
    done = run_on_images(tmp_path)
    assert done.run.split.forget.data.x.shape == (2, 4, 8, 12)


def run_on_images(tmp_path):
    method = settings("random_label", epochs=1, lr=1e-3, batch_size=4)
    return erase(tmp_path / "wide", WHAT, method, EraseOptions(images=tmp_path / "in", sampler=FEW))


# ---- cross-attention


def test_cross_attention_is_what_attends_to_the_text(tmp_path):
    """With `only_cross_attention`, `attn1` attends to the text too. A layer's name would not tell."""
    loaded = load(tiny.save(tiny.stable_diffusion(tmp_path), tmp_path / "plain"))
    plain = loaded.prompted(["a photo of a dress"])
    layers = text_layers(plain)
    assert layers and all(name.endswith(".attn2") for name in layers)

    from diffusers import UNet2DConditionModel

    config = {**plain.denoiser.config, "only_cross_attention": True}
    config.pop("_use_default_values", None)
    both = Prompted(UNet2DConditionModel.from_config(config), prompts=plain.prompts)
    # the block in the middle has no such setting
    crossing = [n for n in text_layers(both) if n.endswith(".attn1")]
    assert crossing and "mid_block" not in "".join(crossing)
    choose_weights(both, "cross_attention")
    trained = {n for n, p in both.named_parameters() if p.requires_grad}
    assert any(".attn1." in n for n in trained)
    assert all(n.startswith(tuple(f"{layer}." for layer in text_layers(both))) for n in trained)
    choose_weights(both, "not_cross_attention")
    assert not trained & {n for n, p in both.named_parameters() if p.requires_grad}
    add_lora(both, 2, "cross_attention")
    assert any(".attn1." in n for n, _ in both.named_parameters() if "lora_" in n)


def test_a_long_prompt_is_refused_and_told_its_length(folder):
    long = Erasure(concept="dress", anchor="coat", templates=("a " * 90 + "{}",))
    with pytest.raises(ExpungeError, match=r"has 93 tokens, and the pipeline cuts it after 77"):
        erase(folder, long, settings("esd"), EraseOptions(sampler=FEW))
