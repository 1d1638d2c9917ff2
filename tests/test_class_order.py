"""Classes have the numbers that the model was trained with: `id2label` of transformers, for every source and entry point."""

import json
import warnings

import pytest
import torch
from torch import nn

from expunge import Classification, ExpungeError, ModelError, Split, TensorData, audit, execute, find
from expunge.audit.chance import chance_limits
from expunge.audit.evaluation import evaluate
from expunge.models.preparation import ordered_spec, prepared_spec
from expunge.sources import load
from expunge.sources.class_order import spelled_as
from expunge.sources.source import Source, with_classes


def folder_of(place, *names):
    """A folder of transformers as far as its class names go."""
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({"id2label": {str(k): n for k, n in enumerate(names)}}))
    return place


@pytest.fixture
def pictures(tmp_path):
    from PIL import Image

    for name, shade in (("cat", 10), ("dog", 240)):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for k in range(10):
            Image.new("RGB", (8, 8), (shade, 20 * k, 0)).save(tmp_path / "pics" / name / f"{k}.png")
    return tmp_path / "pics"


def means(data):
    """The first channel of all samples and their labels, as a batch has them."""
    batch = next(data.samples().batches(100))
    return sorted({(round(float(x[0].mean() * 255)), int(y)) for x, y in zip(batch.x, batch.y, strict=True)})


@pytest.mark.parametrize("hold", ["0", "1"])
def test_a_folder_of_images_gets_the_numbers_of_the_model(tmp_path, pictures, hold):
    spec = f"folder:{pictures}?size=8&hold={hold}"
    assert load(spec).classes == ["cat", "dog"] and means(load(spec).train) == [(10, 0), (240, 1)]
    model = f"hf-config:{folder_of(tmp_path / 'vit', 'dog', 'cat')}"
    source = load(prepared_spec(spec, model))
    assert source.classes == source.train.classes == source.test.classes == ["dog", "cat"]
    for data in (source.train, source.test):
        assert means(data) == [(10, 1), (240, 0)]
    split = Split.by_class(source.train, source.test, "cat", validation=0)
    assert {str(i)[:3] for i in split.forget.ids} == {"cat"}


def test_classes_that_the_data_lacks_keep_their_numbers(tmp_path, pictures):
    place = folder_of(tmp_path / "vit", "owl", "Dog", "CAT")
    source = load(f"folder:{pictures}?size=8&classes={place}")
    assert source.classes == ["owl", "dog", "cat"] and source.train.num_classes == 3
    assert means(source.train) == [(10, 2), (240, 1)]


def test_a_list_of_images_and_an_archive_get_the_numbers_of_the_model(tmp_path, pictures):
    place = folder_of(tmp_path / "vit", "dog", "cat")
    rows = [f"{name}/{k}.png,{name}" for name in ("cat", "dog") for k in range(10)]
    (pictures / "list.csv").write_text("\n".join(["image,label", *rows]))
    listed = load(f"images:{pictures / 'list.csv'}?size=8&classes={place}")
    assert listed.classes == ["dog", "cat"] and means(listed.train) == [(10, 1), (240, 0)]
    import numpy as np

    y = np.array(["cat", "dog"] * 4)
    np.savez(tmp_path / "a.npz", x_train=np.eye(8), y_train=y, x_test=np.eye(8), y_test=y)
    archive = load(f"npz:{tmp_path / 'a.npz'}?classes={place}")
    assert archive.train.labels.tolist() == archive.test.labels.tolist() == [1, 0] * 4
    # the batch that told the shape of an input held the old labels
    assert next(archive.train.samples().batches(8)).y.tolist() == [1, 0] * 4


def test_labels_that_are_numbers_are_the_numbers_of_the_classes(tmp_path):
    import numpy as np

    place = folder_of(tmp_path / "vit", "dog", "cat", "owl")
    y = np.array([0, 1] * 4)
    np.savez(tmp_path / "a.npz", x_train=np.eye(8), y_train=y, x_test=np.eye(8), y_test=y)
    source = load(f"npz:{tmp_path / 'a.npz'}?classes={place}")
    assert source.train.labels.tolist() == [0, 1] * 4 and len(source.classes) == 3


def test_labels_that_are_only_in_part_names_of_the_model_are_refused(tmp_path, pictures):
    with pytest.raises(ExpungeError, match=r"the labels \['dog'\]; write the labels as the model names"):
        load(f"folder:{pictures}?size=8&classes={folder_of(tmp_path / 'vit', 'hound', 'cat')}")
    with pytest.raises(ExpungeError, match="names no classes"):
        load(f"folder:{pictures}?size=8&classes={tmp_path}")


def test_labels_that_are_no_names_of_the_model_get_a_warning(tmp_path, pictures):
    with pytest.warns(UserWarning, match=r"no label of the data is one of them.*0 = cat, 1 = dog"):
        source = load(f"folder:{pictures}?size=8&classes={folder_of(tmp_path / 'vit', 'Hund', 'Katze')}")
    assert source.classes == ["cat", "dog"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(f"folder:{pictures}?size=8&classes={folder_of(tmp_path / 'vit', 'LABEL_0', 'LABEL_1')}")


def test_known_classes_of_a_project_keep_their_numbers(tmp_path, pictures):
    place = folder_of(tmp_path / "vit", "dog", "cat")
    assert load(f"folder:{pictures}?size=8&classes={place}", ["cat", "dog"]).classes == ["cat", "dog"]


def test_the_spec_names_the_folder_where_it_decides(tmp_path):
    named, unnamed = folder_of(tmp_path / "a", "dog", "cat"), folder_of(tmp_path / "b", "LABEL_0", "LABEL_1")
    assert ordered_spec("folder:x?size=8", f"hf-config:{named}") == f"folder:x?size=8&classes={named}"
    assert ordered_spec("folder:x", f"hf-config:{unnamed}") == "folder:x"
    assert ordered_spec("folder:x?classes=y", f"hf-config:{named}") == "folder:x?classes=y"
    # the reader of texts takes the order from there
    assert (
        ordered_spec(f"text:x.csv?tokenizer={named}", f"hf-config:{named}") == f"text:x.csv?tokenizer={named}"
    )
    assert ordered_spec("folder:x", "resnet18") == "folder:x"


def test_labels_may_differ_in_case_where_only_one_name_is_meant():
    assert spelled_as(["negative"], ["POSITIVE", "NEGATIVE"]) == ["POSITIVE", "negative"]
    assert spelled_as(["A"], ["a", "A"]) == ["a", "A"]
    assert spelled_as(["a ", "a"], ["A", "B"]) is None
    assert spelled_as(["b"], ["a", "A"]) is None


def test_texts_get_the_numbers_of_the_model_whatever_the_case(tmp_path):
    place = folder_of(tmp_path / "bert", "POSITIVE", "NEGATIVE")
    (tmp_path / "r.csv").write_text("text,label\n" + "fine,positive\npoor,negative\n" * 10)
    source = load(f"text:{tmp_path / 'r.csv'}?classes={place}&length=4")
    assert source.classes == ["positive", "negative"]
    assert source.train.labels.tolist()[:2] == [0, 1]
    from expunge.sources.texts import _classes

    # by the folder of the tokenizer
    assert _classes(["positive", "negative"], place, None, ()) == (
        ["positive", "negative"],
        {"positive": 0, "negative": 1},
    )


def test_known_classes_reach_the_batches_of_data_that_was_read_before():
    data = [TensorData(torch.eye(4), ["a", "b"] * 2) for _ in range(2)]
    for one in data:
        assert next(one.samples().batches(4)).y.tolist() == [0, 1, 0, 1]
        before = one.fingerprint()
    other = with_classes(Source(*data, ["a", "b"], (4,), "x"), ["b", "a"])
    assert (
        next(other.train.samples().batches(4)).y.tolist() == [1, 0, 1, 0]
        and other.train.fingerprint() != before
    )
    assert next(data[0].samples().batches(4)).y.tolist() == [0, 1, 0, 1]


class TinyForImageClassification(nn.Module):
    """A classifier with the attributes of one of transformers."""

    def __init__(self, names):
        super().__init__()
        self.config = type("Config", (), {"id2label": dict(enumerate(names))})()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x)


def data_of(classes):
    x, y = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    return Split.by_ids(
        TensorData(x, y, classes=classes), TensorData(x + 1, y, classes=classes), ["0", "2"], validation=0
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_with_its_classes_in_another_order_is_refused(wrapped):
    model = TinyForImageClassification(["dog", "Cat"])
    model = nn.Sequential(model) if wrapped else model
    wrong = data_of(["cat", "dog"])
    for call in (
        lambda: execute(model, wrong, find("finetune")(epochs=1), Classification(2)),
        lambda: audit(model, wrong, Classification(2)),
    ):
        with pytest.raises(
            ModelError,
            match=r"the model numbers its classes 0 = dog, 1 = Cat .*and the data 0 = cat, 1 = dog",
        ):
            call()
    for classes in (["dog", "cat"], ["a", "b"], None):
        Classification(2).check(model, data_of(classes).retain)


def test_a_trained_model_at_chance_is_named():
    split = data_of(None)
    right, task = nn.Linear(4, 2), Classification(2)
    other = nn.Linear(4, 2)
    with torch.no_grad():
        for model in (right, other):
            model.weight.zero_()
            model.bias.copy_(torch.tensor([1.0, 0.0]))
    evaluation = evaluate(right, split, task)
    text = "The original model classifies 50.00 % of its 40 training samples correctly, and chance is 50.00 % (2 classes)."
    (sentence,) = chance_limits({"original": evaluation, "unlearned": evaluation})
    assert sentence.startswith(text)
    assert chance_limits({"unlearned": evaluation}) == []
    assert any(line.startswith(text) for line in audit(other, split, task, original=evaluation).limits)
    # the control: a model that classifies every retained sample correctly
    evaluation.retain.logits[:] = nn.functional.one_hot(evaluation.retain.labels, 2)
    assert chance_limits({"retrained": evaluation}) == []
