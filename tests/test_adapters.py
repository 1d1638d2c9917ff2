"""Adapters of peft: the base model stays, the adapter is unlearned, and the output is what peft loads."""

import copy
import json
import warnings

import pytest
import torch
from safetensors.torch import load_file

peft = pytest.importorskip("peft", reason="peft is not installed")
from expunge import CheckpointError, Classification, ModelError, Split, TensorData  # noqa: E402
from expunge.cli import main  # noqa: E402
from expunge.masks import Mask  # noqa: E402
from expunge.methods._fresh import from_factory  # noqa: E402
from expunge.models import build  # noqa: E402
from expunge.pipeline.factory import seeded_factory  # noqa: E402
from expunge.records.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from expunge.records.checkpoint_loading import load_into  # noqa: E402
from expunge.training.run import Run  # noqa: E402
from tiny_families import auto, tiny  # noqa: E402

SHAPE = (3, 32, 32)


@pytest.fixture
def adapter(tmp_path):
    """A folder with a ViT in `base` and a LoRA in `adapter`, and the model of both."""
    torch.manual_seed(0)
    tiny("vit").save_pretrained(tmp_path / "base")
    targets = [n for n, m in base(tmp_path).named_modules() if n.endswith("q_proj")]
    config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=["classifier"])
    model = peft.get_peft_model(base(tmp_path), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path, model.eval()


def base(folder):
    return auto("vit").from_pretrained(folder / "base")


def test_the_base_stays_and_the_adapter_is_read_and_written(adapter):
    folder, original = adapter
    model = build(f"peft:{folder / 'adapter'}", num_classes=3, shape=SHAPE).eval()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in original.named_parameters() if p.requires_grad}
    x = torch.rand(2, *SHAPE)
    assert not torch.equal(model(x).logits, original(x).logits)
    read = read_checkpoint(folder / "adapter")
    load_into(model, read)
    assert torch.equal(model(x).logits, original(x).logits)
    assert any("the base model stays as it is" in notice for notice in read.notices)
    out = write_checkpoint(folder / "out", model.state_dict(), like=read)
    assert load_file(out / "adapter_model.safetensors").keys() == read_names(folder / "adapter")
    assert torch.equal(peft.PeftModel.from_pretrained(base(folder), out).eval()(x).logits, original(x).logits)


def read_names(folder):
    return load_file(folder / "adapter_model.safetensors").keys()


def test_an_adapter_of_another_model_is_refused(adapter):
    folder, _ = adapter
    other = peft.get_peft_model(base(folder), peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj"]))
    before = {n: p.clone() for n, p in other.named_parameters()}
    with pytest.raises(CheckpointError, match="tensors that the model does not have"):
        load_into(other, read_checkpoint(folder / "adapter"))
    assert all(torch.equal(p, before[n]) for n, p in other.named_parameters())
    # an adapter is no whole model
    with pytest.raises(CheckpointError, match="lacks"):
        load_into(base(folder), read_checkpoint(folder / "adapter"))


def test_folders_without_base_or_adapter_are_refused(adapter):
    folder, _ = adapter
    file = folder / "adapter" / "adapter_config.json"
    config = json.loads(file.read_text())
    for content, words in (
        (
            json.dumps({**config, "base_model_name_or_path": "google/vit"}),
            "'google/vit', which is no local folder",
        ),
        (json.dumps({**config, "base_model_name_or_path": None}), "'', which is no local folder"),
        ("[]", "no readable adapter_config.json"),
        ("{", "no readable adapter_config.json"),
    ):
        file.write_text(content)
        with pytest.raises(ModelError, match=words):
            build(f"peft:{folder / 'adapter'}", num_classes=3, shape=SHAPE)
    file.write_text(json.dumps({**config, "base_model_name_or_path": "google/vit"}))
    assert build(f"peft:{folder / 'adapter'}?base={folder / 'base'}", num_classes=3, shape=SHAPE)
    # a base beside the adapter
    file.write_text(json.dumps({**config, "base_model_name_or_path": "base"}))
    assert build(f"peft:{folder / 'adapter'}", num_classes=3, shape=SHAPE)
    file.write_text(json.dumps({**config, "peft_type": "NOPE"}))
    with pytest.raises(ModelError, match="holds no adapter"):
        build(f"peft:{folder / 'adapter'}", num_classes=3, shape=SHAPE)
    with pytest.raises(ModelError, match=r"no readable adapter_config\.json"):
        build(f"peft:{folder}", num_classes=3, shape=SHAPE)


def test_an_adapter_on_the_command_line(adapter):
    folder, _ = adapter
    from PIL import Image

    for name, shade in (("cat", 0), ("dog", 120), ("owl", 240)):
        (folder / "data" / name).mkdir(parents=True)
        for k in range(6):
            Image.new("RGB", (32, 32), (shade, 20 * k, 0)).save(folder / "data" / name / f"{k}.png")
    flags = ["--data", f"folder:{folder / 'data'}?size=32", "--model", f"peft:{folder / 'adapter'}", "--validation", "0",
             "--forget-class", "cat"]  # fmt: skip
    out, mask = folder / "out", folder / "mask.safetensors"
    assert main(["unlearn", "gradient_ascent", *flags, "--checkpoint", str(folder / "adapter"), "--epochs", "1", "--density", "0.5",
                 "--batch-size", "8", "--out", str(out), "--save-mask", str(mask)]) == 0  # fmt: skip
    assert {f.name for f in out.iterdir()} == {f.name for f in (folder / "adapter").iterdir()}
    before, after = (load_file(d / "adapter_model.safetensors") for d in (folder / "adapter", out))
    assert before.keys() == after.keys() and any(not torch.equal(before[k], after[k]) for k in before)
    peft.PeftModel.from_pretrained(base(folder), out)
    receipt = next(folder.glob("*.receipt.json"))
    files = ["--model", str(out), "--original", str(folder / "adapter")]
    assert main(["verify", str(receipt), *files, "--mask", str(mask)]) == 0
    # the mask leaves out the base model, which the files do not hold
    assert len(Mask.load(mask)) == len(before) and 0.3 < Mask.load(mask).density < 0.7
    (~Mask.load(mask)).save(folder / "other.safetensors")
    assert main(["verify", str(receipt), *files, "--mask", str(folder / "other.safetensors")]) == 1


def first_model(model, spec, classes=3):
    """The model that a retraining without class 0 starts from, if `spec` makes it and `model` is to be unlearned."""
    data = TensorData(torch.rand(8 * classes, *SHAPE), torch.arange(8 * classes) % classes)
    test = TensorData(torch.rand(classes, *SHAPE), torch.arange(classes))
    split = Split.by_class(data, test, 0, validation=0)
    factory = seeded_factory(lambda: build(spec, num_classes=classes, shape=SHAPE), 0)
    run = Run(copy.deepcopy(model), split, Classification(classes), factory=factory, source=model)
    return from_factory(run)


def moved(model, part=""):
    """A copy of a model whose trainable parameters with this in their names are trained."""
    model = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and part in name:
            parameter.data.add_(0.1)
    return model


def test_a_folder_with_the_trained_parameters_makes_no_fresh_model(adapter):
    folder, _ = adapter
    spec = f"hf-weights:{folder / 'base'}"
    pretrained = build(spec, num_classes=3, shape=SHAPE)
    with pytest.raises(ModelError, match=r"exactly the parameters.*use hf-config:DIR"):
        first_model(pretrained, spec)
    # its head is trained, and only the head
    with pytest.raises(ModelError, match="with the head of the model that was passed in"):
        first_model(moved(pretrained, "embeddings"), spec)
    with pytest.warns(RuntimeWarning, match="the same parameters for each seed"):
        first_model(moved(pretrained), spec)


def test_a_pretrained_body_with_a_fresh_head_is_taken(adapter):
    folder, _ = adapter
    base(folder).base_model.save_pretrained(folder / "body")
    spec = f"hf-weights:{folder / 'body'}"
    pretrained = build(spec, num_classes=3, shape=SHAPE)
    with pytest.warns(RuntimeWarning, match="A pretrained body that the training left as it was"):
        first_model(moved(pretrained, "classifier"), spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first_model(moved(pretrained), spec)


def test_a_fresh_adapter_is_taken(adapter):
    folder, _ = adapter
    spec = f"peft:{folder / 'adapter'}"
    trained = moved(build(spec, num_classes=3, shape=SHAPE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = first_model(trained, spec)
    assert not any(
        torch.equal(p, dict(trained.named_parameters())[n])
        for n, p in made.named_parameters()
        if p.requires_grad
    )
