"""Class names in a checkpoint are compared with those of the data, and a JSON file numbers the classes of data."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from expunge import Classification, ExpungeError, ModelError, Split, TensorData, execute, find
from expunge.cli import main
from expunge.data.class_lists import class_notices, stored_classes
from expunge.models import build
from expunge.projects import Project
from expunge.projects.settings import checked
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.sources import load

ORDER = ["ship", "airplane", "cat"]
NUMBERS = {"ship": 0, "airplane": 1, "cat": 2}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"class_to_idx": NUMBERS}, "class_to_idx"),
        ({"idx_to_class": {0: "ship", 2: "cat", 1: "airplane"}}, "idx_to_class"),
        ({"id2label": {"0": "ship", "2": "cat", "1": "airplane"}}, "id2label"),
        ({"hyper_parameters": {"data": {"label2id": NUMBERS}}}, "hyper_parameters.data.label2id"),
        ({"label_names": ORDER}, "label_names"),
        ({"class_names": tuple(ORDER)}, "class_names"),
        # texts, as metadata of safetensors have them
        ({"classes": "ship, airplane,cat"}, "classes"),
        ({"classes": json.dumps(ORDER)}, "classes"),
    ],
)
def test_entries_that_number_classes(content, place):
    assert stored_classes(content) == {place: ORDER}


@pytest.mark.parametrize(
    "value",
    [3, None, "ship", [0, 1, 2], {"ship": 0, "cat": 2}, {"ship", "cat"}, ["cat", "Cat"], torch.arange(3), [["a"], ["b"]],
     {"a": True, "b": False}, {}, "[", "10"],
)  # fmt: skip
def test_entries_that_number_no_classes(value):
    assert stored_classes({"classes": value, "ship": 0, 3: NUMBERS}) == {}


def test_names_that_are_none_of_the_data_get_a_note():
    stored = {"class_to_idx": ORDER}
    assert class_notices("a.pt", stored, ["Airplane", "CAT", "ship"]) == []
    # the data has no names, or another number of classes
    for data in (None, ["0", "1", "2"], ["airplane", "cat"]):
        assert class_notices("a.pt", stored, data) == []
    (note,) = class_notices("a.pt", stored, ["Schiff", "Flugzeug", "Katze"])
    assert "class_to_idx of a.pt numbers the classes 0 = ship, 1 = airplane" in note and "0 = Schiff" in note


@pytest.fixture
def pictures(tmp_path):
    for name, shade in (("airplane", 10), ("cat", 120), ("ship", 240)):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for k in range(10):
            Image.new("RGB", (8, 8), (shade, 20 * k, 0)).save(tmp_path / "pics" / name / f"{k}.png")
    return tmp_path / "pics"


def saved(path, **entries):
    torch.manual_seed(0)
    state = build("mlp", num_classes=3, shape=(3, 8, 8)).state_dict()
    torch.save({"state_dict": state, **entries}, path)
    return path


def flags(data, checkpoint, out):
    return ["unlearn", "gradient_ascent", "--data", data, "--model", "mlp", "--checkpoint", str(checkpoint), "--forget-class", "cat",
            "--validation", "0", "--trials", "0", "--epochs", "1", "--batch-size", "8", "--out", str(out)]  # fmt: skip


def test_a_checkpoint_with_another_order_is_refused_and_a_file_of_names_helps(pictures, tmp_path, capsys):
    checkpoint = saved(tmp_path / "a.pt", class_to_idx=NUMBERS)
    data, out = f"folder:{pictures}?size=8", tmp_path / "out.pt"
    assert main(flags(data, checkpoint, out)) == 2 and not out.exists()
    text = " ".join(capsys.readouterr().err.split())
    assert "numbers its classes 0 = ship, 1 = airplane, 2 = cat (class_to_idx of a.pt)" in text
    assert "the data 0 = airplane, 1 = cat, 2 = ship" in text
    with pytest.raises(ExpungeError, match=r"class_to_idx of a\.pt"):
        Project.create(tmp_path / "office", checked({"data": data, "model": "mlp"}), checkpoint)
    (tmp_path / "order.json").write_text(json.dumps(NUMBERS))
    assert main(flags(f"{data}&classes={tmp_path / 'order.json'}", checkpoint, out)) in (0, 1)
    assert torch.load(out)["class_to_idx"] == NUMBERS
    assert json.loads(out.with_suffix(".json").read_text())["data"]["classes"] == ORDER


def test_the_order_of_the_data_and_other_names_are_taken(pictures, tmp_path, capsys):
    data = f"folder:{pictures}?size=8"
    same = saved(tmp_path / "same.pt", classes=["airplane", "cat", "ship"])
    assert main(flags(data, same, tmp_path / "one.pt")) in (0, 1)
    assert "classes of same.pt" not in capsys.readouterr().err
    other = saved(tmp_path / "other.pt", classes=["Flugzeug", "Katze", "Schiff"])
    assert main(flags(data, other, tmp_path / "two.pt")) in (0, 1)
    assert "classes of other.pt numbers the classes 0 = Flugzeug" in " ".join(capsys.readouterr().err.split())


def test_metadata_of_safetensors_count_in_python_too(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    save_file(model.state_dict(), tmp_path / "a.safetensors", {"classes": ",".join(ORDER)})
    load_into(model, read_checkpoint(tmp_path / "a.safetensors"))

    def unlearn(classes):
        x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
        data = [TensorData(x + k, y, classes=classes) for k in range(2)]
        split = Split.by_ids(*data, ["0"], validation=0)
        return execute(model, split, find("finetune")(epochs=1), Classification(3))

    with pytest.raises(ModelError, match=r"\(classes of a\.safetensors\), and the data 0 = cat"):
        unlearn(["cat", "ship", "airplane"])
    assert unlearn(ORDER).has_result and unlearn(None).has_result


@pytest.mark.parametrize("content", ["[", "3", '["ship"]', '{"ship": 1, "cat": 2}'])
def test_files_that_number_no_classes_are_refused(pictures, tmp_path, content):
    (tmp_path / "order.json").write_text(content)
    with pytest.raises(ExpungeError, match=r"order\.json (cannot be read|does not number class names)"):
        load(f"folder:{pictures}?size=8&classes={tmp_path / 'order.json'}")
