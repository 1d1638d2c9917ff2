"""Labels that are no class numbers from 0 are named as the cause, before what follows from them."""

import pytest
import torch
from torch import nn

from expunge import Classification, ModelError, TensorData
from expunge.data.class_labels import begins_at_one, class_label_problems

X = torch.zeros(6, 4)
Y = torch.arange(6) % 3


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (nn.functional.one_hot(Y, 3), r"one-hot, of shape \(6, 3\).*labels\.argmax\(1\)"),
        (nn.functional.one_hot(Y, 3).float(), r"one-hot, of shape \(6, 3\).*labels\.argmax\(1\)"),
        (Y.float(), r"float32 of shape \(6,\).*labels\.long\(\)"),
        # not one-hot: several labels, none, or no whole numbers
        (torch.ones(6, 3), r"float32 of shape \(6, 3\); give one whole number per sample, its class, shape"),
        (torch.zeros(6, 3), r"float32 of shape \(6, 3\); give one whole number per sample, its class, shape"),
        (Y + 0.5, r"float32 of shape \(6,\); give one whole number per sample, its class, shape"),
    ],
)
def test_labels_that_are_no_class_numbers_come_first(labels, words):
    with pytest.raises(ModelError, match=words):
        Classification(3).check(nn.Linear(4, 3), TensorData(X, labels).samples())


def test_labels_from_1_on_are_the_cause_of_a_wrong_number_of_classes():
    data = TensorData(X, Y + 1)
    with pytest.raises(ModelError) as error:
        Classification(4).check(nn.Linear(4, 3), data.samples())
    assert (
        error.value.problems[0].startswith("labels begin at 1 and go up to 3")
        and len(error.value.problems) == 2
    )
    # a model may have a class 0 without samples
    Classification(4).check(nn.Linear(4, 4), data.samples())
    for other in (TensorData(X, Y), TensorData(X, Y + 1, classes=["a", "b", "c", "d"]), TensorData(X, Y + 2)):
        assert begins_at_one(other) == "" and class_label_problems(other) == []
