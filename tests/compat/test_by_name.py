"""Models of timm and torchvision by name: the images are those of the library's own transforms."""

import json
import random

import pytest
import torch

timm = pytest.importorskip(
    "timm", reason="timm is not installed; run make test-compat", exc_type=(ImportError, RuntimeError)
)
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed; run make test-compat")
from PIL import Image  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402

from expunge import CheckpointError, ModelError  # noqa: E402
from expunge.cli import main  # noqa: E402
from expunge.models import build, check_name  # noqa: E402
from expunge.models.by_name import data_options  # noqa: E402
from expunge.models.preparation import prepared_spec  # noqa: E402
from expunge.records.checkpoint import read_checkpoint  # noqa: E402
from expunge.records.checkpoint_loading import load_into  # noqa: E402
from expunge.sources.loading import load  # noqa: E402

VIT = "timm:vit_tiny_patch16_224"


@pytest.fixture
def pictures(tmp_path):
    """Twelve images of odd sizes in three classes."""
    draw = random.Random(0)
    for k in range(12):
        width, height = draw.randrange(30, 400), draw.randrange(30, 400)
        path = tmp_path / "pictures" / ("cat", "dog", "owl")[k % 3] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (width, height), draw.randbytes(3 * width * height)).save(path)
    return tmp_path / "pictures"


def transform_of(name):
    kind, _, model = name.partition(":")
    if kind == "timm":
        return create_transform(
            **resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(model).to_dict())
        )
    model, _, weights = model.partition("@")
    known = torchvision.models.get_model_weights(model)
    return (known[weights] if weights else known.DEFAULT).transforms()


@pytest.mark.parametrize(
    "name",
    [
        VIT,
        "timm:resnet18",
        "timm:resnet18.tv_in1k",
        "timm:tf_efficientnet_b0",
        "torchvision:resnet50",
        "torchvision:resnet50@IMAGENET1K_V1",
        "torchvision:efficientnet_b0",
        "torchvision:vit_b_16@IMAGENET1K_SWAG_LINEAR_V1",
    ],
)
def test_images_are_those_of_the_library(name, pictures):
    source = load(prepared_spec(f"folder:{pictures}", name))
    transform = transform_of(name)
    samples = source.train.samples()
    for batch in samples.batches(1):
        with Image.open(pictures / samples.ids[int(batch.index)]) as image:
            assert torch.allclose(batch.x[0], transform(image.convert("RGB")), atol=1e-5)


def test_every_model_of_both_libraries_has_options():
    names = [f"timm:{n}" for n in timm.list_models()[::40]]
    names += [f"torchvision:{n}" for n in torchvision.models.list_models(module=torchvision.models)]
    for name in names:
        spec = prepared_spec("folder:pictures", name)
        assert "mean=" in spec and "std=" in spec, name
        assert "size=" in spec or name.startswith("timm:"), name


def test_options_of_the_user_stay():
    assert prepared_spec("folder:x?size=64", VIT) == "folder:x?size=64&mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    assert (
        prepared_spec("folder:x?mean=0,0,0&std=1,1,1", VIT)
        == "folder:x?mean=0,0,0&std=1,1,1&size=248&crop=224"
    )
    assert prepared_spec("folder:x?channels=1", VIT) == "folder:x?channels=1&size=248&crop=224"
    assert prepared_spec("cifar10:x", VIT) == "cifar10:x?mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    assert prepared_spec("digits", VIT) == "digits" and prepared_spec("folder:x", "cnn") == "folder:x"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnt18", "no classifier 'resnt18'; the nearest names are resnet18"),
        ("timm:resnet18.nope", "its tags are a1_in1k"),
        ("timm:", "no classifier ''"),
        ("torchvision:resnet5", "the nearest names are resnet50"),
        ("torchvision:resnet50@V1", "they are IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:fcn_resnet50", "no classifier"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, words):
    with pytest.raises(ModelError, match=words):
        check_name(name)
    with pytest.raises(ModelError, match=words):
        build(name, num_classes=3, shape=(3, 32, 32))


def test_shapes():
    assert build(VIT, num_classes=3, shape=(1, 32, 32))(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(ModelError, match="takes images"):
        build(VIT, num_classes=3, shape=(5,))
    assert data_options("timm:test_vit")["crop"] == "160"


def test_a_model_of_timm_on_the_command_line(pictures, tmp_path, capsys):
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "vit.pth")
    out = tmp_path / "out.pth"
    flags = [
        "--data",
        f"folder:{pictures}",
        "--model",
        "timm:test_vit",
        "--validation",
        "0",
        "--forget-class",
        "cat",
    ]
    assert main(["unlearn", "gradient_ascent", *flags, "--checkpoint", str(tmp_path / "vit.pth"), "--epochs", "1", "--trials", "0",
                 "--batch-size", "8", "--out", str(out)]) == 0  # fmt: skip
    assert "size=168&crop=160" in capsys.readouterr().err.replace("\n", "")
    timm.create_model("test_vit", num_classes=3, checkpoint_path=str(out))
    metadata = read_checkpoint(out).metadata
    assert metadata["inputs"] == "size=168&crop=160&mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    assert json.loads(out.with_suffix(".json").read_text())["model"]["name"] == "timm:test_vit"
    # a project keeps the options in its file
    assert (
        main(["init", str(tmp_path / "office"), *flags[:6], "--checkpoint", str(tmp_path / "vit.pth")]) == 0
    )
    assert "size=168&crop=160" in (tmp_path / "office" / "expunge.toml").read_text()


# ---- arguments and folders of timm


@pytest.mark.parametrize(
    "arguments",
    [{"global_pool": "max"}, {"output_stride": 16}, {"act_layer": "silu"}, {"global_pool": "avgmax"}],
)
def test_arguments_make_the_function_of_the_library(arguments):
    torch.manual_seed(0)
    theirs = timm.create_model("resnet10t", num_classes=3, **arguments).eval()
    text = "&".join(f"{k}={v}" for k, v in arguments.items())
    ours, plain = (
        build(f"timm:{n}", num_classes=3, shape=(3, 64, 64)).eval()
        for n in (f"resnet10t?{text}", "resnet10t")
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for model in (ours, plain):
            model.load_state_dict(theirs.state_dict())
        assert torch.equal(ours(x), theirs(x)) and not torch.equal(plain(x), theirs(x))
    with pytest.raises(ModelError, match="no_such_argument"):
        build("timm:resnet10t?no_such_argument=1", num_classes=3, shape=(3, 64, 64))


@pytest.fixture
def saved(tmp_path):
    """A folder of timm whose pooling, preparation and order of classes are not those of the architecture."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=3, global_pool="max")
    model.pretrained_cfg.update(
        mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), input_size=(3, 32, 32), crop_pct=1.0
    )
    labels = {"label_names": ["owl", "cat", "dog"]}
    timm.models.save_for_hf(model, tmp_path / "saved", model_config=labels, safe_serialization=True)
    return tmp_path / "saved"


def test_a_folder_of_timm_brings_pooling_preparation_and_classes(saved, pictures):
    spec = prepared_spec(f"folder:{pictures}", f"timm:{saved}")
    for part in ("mean=0.1,0.2,0.3", "std=0.5,0.5,0.5", "size=32", "crop=32", f"classes={saved}"):
        assert part in spec
    source = load(spec)
    assert list(source.classes) == ["owl", "cat", "dog"]
    model = build(f"timm:{saved}", num_classes=3, shape=source.shape).eval()
    load_into(model, read_checkpoint(saved))
    theirs = timm.create_model(f"local-dir:{saved}", pretrained=True).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))
    assert model.pretrained_cfg["mean"] == [0.1, 0.2, 0.3] or model.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)
    with pytest.raises(ModelError, match="describes 3 classes, but the data has 2"):
        build(f"timm:{saved}", num_classes=2, shape=source.shape)


def test_a_folder_of_timm_is_no_bare_parameters_of_a_model_by_name(saved):
    model = build("timm:resnet10t", num_classes=3, shape=(3, 32, 32))
    with pytest.raises(CheckpointError, match="give the model as timm:"):
        load_into(model, read_checkpoint(saved))
    with pytest.raises(ModelError, match=r"has no config\.json of timm"):
        check_name(f"timm:{saved.parent}/none")
