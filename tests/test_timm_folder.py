"""Folders that timm wrote: what their `config.json` says, without timm. tests/compat loads them with it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from expunge import CheckpointError, ModelError
from expunge.data.timm_folder import folder_problem, timm_config, timm_labels
from expunge.models.preparation import ordered_spec
from expunge.models.timm_models import read_spec
from expunge.projects.setting_paths import fixed_paths
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.sources.class_order import model_classes

CONFIG = {
    "architecture": "resnet10t",
    "num_classes": 3,
    "label_names": ["dog", "cat", "ant"],
    "model_args": {"global_pool": "max"},
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]},
}


def folder(path, **changes):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return path


def test_only_a_config_of_timm_counts(tmp_path):
    assert timm_config(folder(tmp_path / "timm")) == CONFIG
    assert timm_config(tmp_path / "none") == {}
    assert timm_config(folder(tmp_path / "hf", architecture=None)) == {}
    assert timm_config(folder(tmp_path / "other", pretrained_cfg="x")) == {}
    (tmp_path / "timm" / "config.json").write_text("{")
    assert timm_config(tmp_path / "timm") == {}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (CONFIG, ["dog", "cat", "ant"]),
        ({"num_classes": 2, "label_names": {"1": "b", "0": "a"}}, ["a", "b"]),
        ({"num_classes": 2, "pretrained_cfg": {"label_names": ["x", "y"]}}, ["x", "y"]),
        ({"num_classes": 3, "label_names": ["x", "y"]}, []),
        ({"num_classes": 2, "label_names": {"0": "a", "2": "b"}}, []),
        ({"num_classes": 2}, []),
    ],
)
def test_label_names_are_in_the_order_of_their_numbers(config, names):
    assert timm_labels(config) == names


def test_the_classes_of_a_folder_have_its_order(tmp_path):
    place = folder(tmp_path / "timm")
    assert model_classes(place) == ["dog", "cat", "ant"]
    assert (
        ordered_spec("folder:pictures", f"timm:{place}?act_layer=silu") == f"folder:pictures?classes={place}"
    )
    assert ordered_spec("folder:pictures", "timm:resnet10t") == "folder:pictures"
    assert ordered_spec("folder:pictures?classes=other", f"timm:{place}") == "folder:pictures?classes=other"


def test_a_checkpoint_of_another_folder_than_the_model_is_refused(tmp_path):
    place, other = folder(tmp_path / "timm"), folder(tmp_path / "other", model_args={"global_pool": "avg"})
    same = folder(tmp_path / "unlearned")
    assert folder_problem(place, f"timm:{place}") == "" and folder_problem(same, f"timm:{place}?x=1") == ""
    assert folder_problem(tmp_path, "timm:resnet10t") == "" and folder_problem(place, "") == ""
    assert "does not use it; give the model as timm:" in folder_problem(place, "timm:resnet10t")
    assert f"timm:{place} has other values (model_args)" in folder_problem(other, f"timm:{place}")


@pytest.mark.parametrize("name", ["timm", "timm/model.safetensors"])
def test_a_model_by_name_does_not_take_a_folder_as_bare_parameters(tmp_path, name):
    place = folder(tmp_path / "timm")
    model = torch.nn.Linear(3, 2)
    save_file(model.state_dict(), place / "model.safetensors")
    # a model of the user's own is the user's business
    load_into(model, read_checkpoint(tmp_path / name))
    model.made_by = "timm:resnet10t"
    with pytest.raises(CheckpointError, match="give the model as timm:"):
        load_into(model, read_checkpoint(tmp_path / name))


def test_arguments_of_a_model_follow_a_question_mark():
    assert read_spec("resnet18") == ("resnet18", {})
    spec = read_spec("vit?global_pool=avg&img_size=64&dynamic_img_size=True&drop=0.5&qkv_bias=false")
    assert spec.place == "vit" and spec.folder is None
    assert spec.arguments == {
        "global_pool": "avg",
        "img_size": 64,
        "dynamic_img_size": True,
        "drop": 0.5,
        "qkv_bias": False,
    }
    for wrong in ("resnet18?", "resnet18?global_pool", "resnet18?a-b=1"):
        with pytest.raises(ModelError, match="write timm:NAME"):
            read_spec(wrong)
    for taken in ("num_classes", "in_chans", "pretrained"):
        with pytest.raises(ModelError, match=f"sets {taken}: classes and channels are those of the data"):
            read_spec(f"resnet18?{taken}=3")


def test_a_project_keeps_the_absolute_path_of_a_folder(tmp_path):
    folder(tmp_path / "timm")
    assert fixed_paths({"model": "timm:timm?a=1"}, tmp_path)["model"] == f"timm:{tmp_path / 'timm'}?a=1"
    (tmp_path / "resnet18").mkdir()
    assert fixed_paths({"model": "timm:resnet18"}, tmp_path)["model"] == "timm:resnet18"
