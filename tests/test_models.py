"""Built-in models: their sizes as published, their inputs, and factories of the user's with their errors."""

import sys

import pytest
import torch
from torch import nn

from expunge import Classification, ModelError, Split, unlearn
from expunge.errors import MissingExtra
from expunge.methods.retrain import reset
from expunge.models import build, names
from expunge.training.registry import find

IMAGES = [n for n in names() if n != "text_transformer"]


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("resnet18", 10, 11_173_962),
        ("resnet18", 100, 11_220_132),
        ("resnet18", 200, 11_271_432),
        ("vgg16_bn", 10, 15_311_818),
        ("resnet20", 10, 272_474),
        # 2x2 convolution 312, six 3x3 ones 6,912 + 9,216 + 36,864 + 3 * 147,456, batch norm 2 * 576, head 1,290
        ("airbench", 10, 498_114),
        ("vit_tiny", 10, 1_205_642),
        ("text_transformer", 10, 1_454_858),
    ],
)
def test_parameter_counts(name, classes, count):
    shape = (64,) if name == "text_transformer" else (3, 32, 32)
    assert size(build(name, num_classes=classes, shape=shape)) == count


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", IMAGES)
def test_every_image_model_takes_every_image_size(name, shape):
    model = build(name, num_classes=7, shape=shape)
    logits = model(torch.rand(2, *shape))
    assert logits.shape == (2, 7) and logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert Classification(7).head(model)[1].out_features == 7


@pytest.mark.parametrize("name", IMAGES)
def test_images_stay_in_0_to_1_outside_the_model(name):
    """The channel constants are no part of a checkpoint, so a state dict of SalUn's layout has only weights."""
    assert not any("mean" in k and "running" not in k for k in build(name, num_classes=3).state_dict())


def test_normalize_gives_mean_0_and_deviation_1():
    layer = build("resnet20", num_classes=3).normalize
    x = layer.mean + layer.std * torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None]
    assert torch.allclose(layer(x)[:, :, 0, 0], torch.tensor([-1.0, 0, 1])[:, None].expand(3, 3), atol=1e-6)


def test_airbench_whitens_patches_with_fixed_filters():
    filters = build("airbench", num_classes=3).patches.weight.detach()
    # brightness: sqrt(3) * 4 / 2 for an image of ones, over its deviation of 3.16; the differences cancel
    response = torch.nn.functional.conv2d(torch.ones(1, 3, 2, 2), filters)[0, :, 0, 0]
    assert torch.allclose(response[0], torch.tensor(2 * 3**0.5 / 3.16), atol=1e-6)
    assert torch.allclose(response[1:12], torch.zeros(11), atol=1e-6)
    assert torch.equal(filters[12:], -filters[:12])
    gram = filters[:12].flatten(1) @ filters[:12].flatten(1).T
    assert torch.allclose(gram, torch.diag(gram.diag()), atol=1e-5)


def test_airbench_convolutions_begin_with_the_identity():
    group = build("airbench", num_classes=3).groups[1]
    x = torch.rand(2, 32, 6, 6)
    out = group.conv1(x)
    assert torch.equal(out[:, :32], x) and not torch.equal(out[:, 32:64], x)


def test_airbench_is_reset_like_a_new_model():
    model = build("airbench", num_classes=3)
    first = model.patches.weight.detach().clone()
    reset(model)
    assert torch.equal(model.patches.weight, first) and not model.patches.bias.any()
    assert torch.equal(model.groups[0].conv2.weight[:, :, 1, 1], torch.eye(32))


def test_airbench_uses_batch_statistics_in_train_mode_only():
    model = build("airbench", num_classes=3, shape=(3, 8, 8))
    x = torch.rand(4, 3, 8, 8)
    before = model.groups[0].bn1.running_mean.clone()
    alone, together = model.eval()(x[:1]), model.eval()(x)
    assert torch.allclose(alone, together[:1], atol=1e-5)
    assert torch.equal(model.groups[0].bn1.running_mean, before)
    model.train()(x)
    assert not torch.equal(model.groups[0].bn1.running_mean, before)


SHORT = {"epochs": 1, "max_drop": 100.0}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("salun", SHORT),
        ("ugradsl_plus", SHORT),
        ("nhle", SHORT),
        ("scrub", SHORT),
        ("l1_sparse", SHORT),
        # below the default, which dampens nothing in a network that was not trained
        ("ssd", {"alpha": 1.0}),
        ("bias_shift", {}),
    ],
)
def test_methods_change_airbench_and_nothing_that_was_passed_in(method, settings):
    torch.manual_seed(0)
    x, y = torch.rand(72, 3, 8, 8), torch.arange(72) % 3
    split = Split.by_class((x[:60], y[:60]), (x[60:], y[60:]), [1], validation=0.2)
    model, task = build("airbench", num_classes=3, shape=(3, 8, 8)), Classification(3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    after = unlearn(model, split, find(method)(**settings), task).state_dict()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(v.isfinite().all() for v in after.values())
    assert any(not torch.equal(v, before[k]) for k, v in after.items())


def test_padding_changes_nothing_for_a_text():
    torch.manual_seed(0)
    model = build("text_transformer", num_classes=4, shape=(12,), vocabulary=50).eval()
    text = torch.randint(1, 50, (3, 8))
    padded = torch.cat([text, torch.zeros(3, 4, dtype=torch.long)], 1)
    assert torch.allclose(model(text), model(padded), atol=1e-5)
    assert torch.allclose(model(input_ids=padded, attention_mask=padded != 0), model(padded))
    assert model(torch.zeros(2, 12, dtype=torch.long)).isfinite().all()


def test_shapes_that_do_not_fit_are_refused_all_at_once():
    with pytest.raises(ModelError) as caught:
        build("vit_tiny", num_classes=3, shape=(3, 30, 32), dim=10, heads=4)
    assert len(caught.value.problems) == 2
    with pytest.raises(ModelError, match="token numbers"):
        build("text_transformer", num_classes=3, shape=(3, 32, 32))
    with pytest.raises(ModelError, match="no model 'resnet50'"):
        build("resnet50", num_classes=3)


FACTORIES = """
from torch import nn
def plain(): return nn.Linear(4, 3)
def some(in_channels, num_classes): return nn.Linear(in_channels, num_classes)
def inner(num_classes): return nn.Linear(4, num_classes)
def every(*, weights=None, **given): return inner(**given)  # as torchvision's are
class Net(nn.Linear):
    def __init__(self, num_classes, shape): super().__init__(shape[0], num_classes)
ready = nn.Linear(4, 3)
number = 3
def text(): return "no model"
def fails(): raise RuntimeError("no weights here")
def needs(num_classes, depth): ...
def lazy(num_classes): return nn.LazyLinear(num_classes)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the user's, not on the path, holding a module of factories."""
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "my_broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield tmp_path
    sys.modules.pop("my_factories", None)


@pytest.mark.parametrize(
    ("name", "shape", "others"),
    [
        ("cnn", (5,), "mlp (anything of a fixed shape) or text_transformer (token numbers (T,)), or"),
        ("vit_tiny", (5, 6), "take mlp (anything of a fixed shape), or"),
        ("text_transformer", (1, 8, 8), "cnn (images (C, H, W)) or mlp"),
    ],
)
def test_a_model_that_cannot_take_the_data_names_those_that_can(name, shape, others):
    with pytest.raises(ModelError) as caught:
        build(name, num_classes=3, shape=shape)
    assert (
        str(caught.value).startswith(name) and str(shape) in str(caught.value) and others in str(caught.value)
    )
    assert isinstance(build("mlp", num_classes=3, shape=(5, 6)), nn.Module)


def test_a_factory_of_an_optional_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as where it is not installed
    with pytest.raises(MissingExtra, match=r"torchvision.models:resnet18 needs .*expunge\[vision\]"):
        build("torchvision.models:resnet18", num_classes=3)


@pytest.mark.parametrize("name", ["plain", "some", "every", "Net"])
def test_factories_get_what_they_take(here, name):
    model = build(f"my_factories:{name}", num_classes=3, shape=(4,))
    assert isinstance(model, nn.Module) and model(torch.rand(2, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my_factories:none", "cannot be imported"),
        ("not_there_at_all:f", "cannot be imported"),
        ("my_broken:f", "SyntaxError"),
        (":f", "cannot be imported"),
        ("my_factories:number", "is a int"),
        ("my_factories:ready", "is a Linear; name a function"),
        ("my_factories:text", "returned str"),
        ("my_factories:fails", "failed: RuntimeError: no weights here"),
        ("my_factories:needs", "needs the arguments depth"),
        ("my_factories:lazy", "no shape yet"),
    ],
)
def test_what_is_no_factory_is_told(here, spec, words):
    with pytest.raises(ModelError, match=words):
        build(spec, num_classes=3, shape=(4,))


def test_whole_numbers_where_the_weights_want_others_are_told_with_the_remedy():
    x, y = torch.randint(0, 9, (60, 5)), torch.arange(60) % 3
    split = Split.random((x[:50], y[:50]), (x[50:], y[50:]))
    with pytest.raises(
        ModelError, match=r"the inputs are torch.int64, the parameters torch.float32: convert one of them"
    ):
        Classification(3).check(build("mlp", num_classes=3, shape=(5,)), split.retain)
    beyond = torch.full_like(x, 10**6)  # tokens that the model does not have
    split = Split.random((beyond[:50], y[:50]), (x[50:], y[50:]))
    with pytest.raises(ModelError) as caught:
        Classification(3).check(build("text_transformer", num_classes=3, shape=(5,)), split.retain)
    assert "fails on a batch" in str(caught.value) and "alike" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "package"), [("timm:resnet18", "timm"), ("torchvision:resnet18", "torchvision")]
)
def test_models_by_name_need_the_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    with pytest.raises(MissingExtra, match=r"expunge\[vision\]"):
        build(name, num_classes=3, shape=(3, 32, 32))
