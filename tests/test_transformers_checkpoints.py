"""Checkpoints of transformers: every family goes in under the names that `save_pretrained` writes, and comes out the same."""

import json
import shutil

import pytest
import torch

from expunge import CheckpointError, ExpungeError
from expunge.cli import main
from expunge.masks.mask_file import Mask
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_form import complete_form, needs_model, read_form, write_form
from expunge.records.checkpoint_loading import load_into
from expunge.records.hashing import state_hash
from tiny_families import IMAGES, TEXTS, auto, tiny, transformers

# renamed (vit, dinov2, swin), tied (bart), joined (mixtral), and a plain one
USUAL = {"vit", "dinov2", "swin", "bert", "bart", "mixtral"}


def marked(family):
    return pytest.param(family, marks=[] if family in USUAL else pytest.mark.slow)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", [marked(f) for f in dict.fromkeys([*IMAGES, *TEXTS])])
def test_every_family_goes_in_and_comes_out(tmp_path, family):
    torch.manual_seed(0)
    original = tiny(family)
    original.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    read = read_checkpoint(file)
    names = set(read.state)
    fresh = type(original)(original.config).float()
    load_into(fresh, read)
    assert state_hash(fresh.state_dict()) == state_hash(original.state_dict())
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    out = write_checkpoint(tmp_path / "out.safetensors", fresh.state_dict(), like=read)
    # tied tensors may have all their names
    assert names <= set(read_checkpoint(out).state)
    shutil.move(out, file)
    loaded, report = auto(family).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    # as after the round trip of transformers itself, which resets a row of the embeddings of funnel
    fresh.save_pretrained(tmp_path / "theirs")
    theirs = auto(family).from_pretrained(tmp_path / "theirs")
    assert state_hash(loaded.float().state_dict()) == state_hash(theirs.float().state_dict())
    assert state_hash(theirs.float().state_dict()) != state_hash(original.state_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["bert", "vit", "mixtral"])
def test_the_form_of_a_folder_gives_the_same_output_as_the_folder(tmp_path, family):
    torch.manual_seed(0)
    original = tiny(family)
    original.save_pretrained(tmp_path / "mine")
    read, fresh = read_checkpoint(tmp_path / "mine"), type(original)(original.config).float()
    load_into(fresh, read)
    write_form(tmp_path / "form", read)
    size = sum(t.nbytes for t in read.state.values())
    assert (tmp_path / "form" / "form.pt").stat().st_size < size / 2
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    expected = write_checkpoint(tmp_path / "expected", fresh.state_dict(), like=read)
    form, other = read_form(tmp_path / "form"), type(original)(original.config).float()
    assert needs_model(form) == (family == "mixtral")
    if needs_model(form):
        complete_form(form, other)
    out = write_checkpoint(tmp_path / "out", fresh.state_dict(), like=form)
    assert sorted(f.name for f in out.iterdir()) == sorted(f.name for f in expected.iterdir())
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert json.loads((out / "config.json").read_text()) == json.loads((expected / "config.json").read_text())


def vit(folder, **options):
    torch.manual_seed(0)
    model = tiny("vit")
    model.save_pretrained(folder, **options)
    return model


@pytest.fixture
def sharded(tmp_path):
    model = vit(tmp_path / "vit", max_shard_size="8KB")
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{}")
    (tmp_path / "vit" / "training_args.bin").write_bytes(b"x")
    assert len(list((tmp_path / "vit").glob("*.safetensors"))) > 2
    return tmp_path / "vit", model


def test_a_sharded_folder_goes_in_and_comes_out(sharded, tmp_path):
    folder, model = sharded
    read = read_checkpoint(folder)
    fresh = type(model)(model.config)
    load_into(fresh, read)
    assert state_hash(fresh.state_dict()) == state_hash(model.state_dict())
    out = write_checkpoint(tmp_path / "out", fresh.state_dict(), like=read, metadata={"seed": "1"})
    assert {f.name for f in out.iterdir()} == {f.name for f in folder.iterdir()} - {"training_args.bin"}
    maps = [json.loads((d / "model.safetensors.index.json").read_text())["weight_map"] for d in (folder, out)]
    assert maps[0] == maps[1]
    loaded, report = auto("vit").from_pretrained(out, output_loading_info=True)
    assert not any(report.values()) and state_hash(loaded.state_dict()) == state_hash(model.state_dict())
    assert read_checkpoint(out).metadata["seed"] == "1"
    with pytest.raises(ExpungeError, match="exists; give a new folder"):
        write_checkpoint(out, fresh.state_dict(), like=read)
    one = write_checkpoint(tmp_path / "one.safetensors", fresh.state_dict(), like=read)
    assert set(read_checkpoint(one).state) == set(maps[0])
    assert not list(tmp_path.glob(".*"))


def test_broken_folders_are_refused(sharded, tmp_path):
    folder, model = sharded
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    for content, words in (
        ("[", "is no index of shards"),
        ("[]", "is no index of shards"),
        (json.dumps({"weight_map": {"a": "../x.safetensors"}}), "outside its folder"),
        (json.dumps({"weight_map": {**good["weight_map"], "a": "x.safetensors"}}), "1 missing shards"),
    ):
        index.write_text(content)
        with pytest.raises(CheckpointError, match=words):
            read_checkpoint(folder)
    index.unlink()
    with pytest.raises(CheckpointError, match=r"without model\.safetensors, pytorch_model\.bin, "):
        read_checkpoint(folder)
    # a shard alone lacks tensors: it is not filled up
    with pytest.raises(CheckpointError, match="lacks"):
        load_into(model, read_checkpoint(min(folder.glob("*.safetensors"))))


def test_a_vit_on_the_command_line(sharded, tmp_path):
    folder, model = sharded
    from PIL import Image

    for name, shade in (("cat", 0), ("dog", 120), ("owl", 240)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(6):
            Image.new("RGB", (32, 32), (shade, 20 * k, 0)).save(tmp_path / "data" / name / f"{k}.png")
    flags = ["--data", f"folder:{tmp_path / 'data'}?size=32", "--model", f"hf-config:{folder}"]
    out, mask = tmp_path / "unlearned", tmp_path / "mask.safetensors"
    assert main(["unlearn", "gradient_ascent", *flags, "--checkpoint", str(folder), "--validation", "0", "--epochs", "1", "--trials", "0",
                 "--forget-class", "cat", "--batch-size", "8", "--out", str(out), "--density", "0.5",
                 "--save-mask", str(mask)]) == 0  # fmt: skip
    loaded, report = auto("vit").from_pretrained(out, output_loading_info=True)
    assert not any(report.values()) and state_hash(loaded.state_dict()) != state_hash(model.state_dict())
    receipt = next(tmp_path.glob("*.receipt.json"))
    files = ["--model", str(out), "--original", str(folder)]
    assert main(["verify", str(receipt), *files, "--mask", str(mask)]) == 0


def test_verify_compares_a_file_with_other_names_than_the_model(tmp_path, capsys):
    """The names of a real ViT differ between file and model, and the mask has those of the model."""
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=10,
        num_channels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "vit")
    original, out = tmp_path / "vit" / "model.safetensors", tmp_path / "new.safetensors"
    names = set(read_checkpoint(original).state)
    assert names != set(model.state_dict()), "the control: the names differ"
    flags = [
        "--data",
        "digits?limit=200",
        "--model",
        f"hf-config:{tmp_path / 'vit'}",
        "--validation",
        "0",
        "--forget-class",
        "3",
    ]
    mask = tmp_path / "mask.safetensors"
    assert main(["unlearn", "salun", *flags, "--checkpoint", str(original), "--density", "0.3", "--epochs", "1", "--trials", "0",
                 "--lr", "0.05", "--save-mask", str(mask), "--out", str(out)]) in (0, 1)  # fmt: skip
    capsys.readouterr()
    command = [
        "verify",
        str(tmp_path / "new.receipt.json"),
        "--model",
        str(out),
        "--original",
        str(original),
        "--mask",
    ]
    assert main([*command, str(mask)]) == 0
    assert "ok     kept: no parameter outside the mask has changed" in capsys.readouterr().out
    (~Mask.load(mask)).save(tmp_path / "other.safetensors")
    assert main([*command, str(tmp_path / "other.safetensors")]) == 1
    assert "FAILED kept: parameters outside the mask that changed: " in capsys.readouterr().out
    # a mask without these names, as earlier versions wrote it
    Mask(Mask.load(mask)).save(tmp_path / "bare.safetensors")
    assert main([*command, str(tmp_path / "bare.safetensors")]) == 1
    assert "the model file has no tensor for" in capsys.readouterr().out
