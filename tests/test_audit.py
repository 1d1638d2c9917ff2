"""Test the standard audit on models with known behaviour: scores, gaps and limits."""

import importlib
import pkgutil
import types

import pytest
import torch
from torch import nn

from expunge import Classification, Compute, ExpungeError, Split, audit
from expunge.audit import evaluate, gaps
from expunge.data.tensors import TensorData


class Table(nn.Module):
    """A classifier that reads its logits from a table, so that every prediction is known."""

    def __init__(self, logits):
        super().__init__()
        self.table = nn.Parameter(logits)

    def forward(self, x):
        return self.table[x[:, 0].long()]


@pytest.fixture(scope="module")
def split():
    y = torch.arange(100) % 4
    return Split.by_class(
        (torch.arange(100).float()[:, None], y), (torch.arange(100, 140).float()[:, None], y[:40]), forget=2
    )


def table(split, wrong=()):
    y = torch.cat([split.forget.data.labels, split.test.data.labels])
    logits = 4.0 * nn.functional.one_hot(y, 4)
    for samples in wrong:
        offset = 0 if samples.data is split.forget.data else 100
        logits[samples.index + offset] = 4.0 * nn.functional.one_hot((y[samples.index + offset] + 1) % 4, 4)
    return Table(logits)


def test_scores_by_hand(split):
    task = Classification(4)
    result = audit(table(split, [split.forget]), split, task)
    assert (result.scores["UA"], result.scores["RA"], result.scores["TA"], result.scores["TFA"]) == (
        100,
        100,
        100,
        100,
    )
    assert "gap" not in result.scores and any("No retrained model" in t for t in result.limits)
    assert result.details["redistribution"]["unlearned"] == [0, 0, 0, 1]


def test_gap_to_retrain_and_worst_class(split):
    task = Classification(4)
    original = table(split)
    retrained = table(split, [split.forget, split.test_forgotten])
    changed = split.test.take((split.test.labels == 3).nonzero()[:4, 0])
    result = audit(table(split, [split.forget, changed]), split, task, original=original, retrained=retrained)
    assert result.scores["gap"]["UA"] == 0 and result.scores["gap"]["TA"] == pytest.approx(100 * 4 / 30)
    assert result.scores["gap"]["avg"] == pytest.approx(
        sum(result.scores["gap"][k] for k in ("UA", "RA", "TA", "MIA")) / 4
    )
    assert result.details["worst_class"] == {"class": 3, "drop": pytest.approx(40)}
    assert result.details["per_class"]["retrained"][2] == 0
    assert sum(result.details["histograms"]["unlearned"]["forget"]) == len(split.forget)


def test_retrain_has_no_gap_to_itself(split):
    task = Classification(4)
    model = table(split, [split.forget])
    assert audit(model, split, task, retrained=model).scores["gap"]["avg"] == 0
    assert gaps({"UA": 1, "RA": 2, "TA": 3, "MIA": 4}, {"UA": 2, "RA": 0, "TA": 3, "MIA": 8}) == {
        "UA": 1,
        "RA": 2,
        "TA": 0,
        "MIA": 4,
        "avg": 7 / 4,
    }


def test_limits_name_each_model_with_contradicting_attacks(split):
    from expunge.audit.standard import summarize

    task = Classification(4)
    models = {n: evaluate(table(split), split, task) for n in ("evaluation", "original", "retrained")}
    for one in models.values():
        one.__dict__["scores"] = {**one.scores, "MIA": 100.0, "MIA_entropy": 20.0}
    models["original"].__dict__["scores"] |= {"MIA_entropy": 70.0}
    limits = [t for t in summarize(models.pop("evaluation"), **models).limits if "contradict" in t]
    assert len(limits) == 2 and "MIA_entropy (20) contradict" in limits[0]
    assert "MIA_entropy (20) of the retrained model contradict" in limits[1]


def test_a_reference_of_another_split_is_refused(split):
    task = Classification(4)
    other = Split.by_class(split.forget.data, split.test.data, forget=1)
    with pytest.raises(ExpungeError, match="another split"):
        audit(table(split), split, task, retrained=evaluate(table(other), other, task))


def test_details_have_example_images_and_a_feature_plane():
    torch.manual_seed(0)
    x, y = torch.randint(0, 256, (80, 1, 8, 8), dtype=torch.uint8), torch.arange(80) % 4
    split = Split.random((x[:60], y[:60]), (x[60:], y[60:]), 0.2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    result = audit(model, split, Classification(4), original=model)
    assert len(result.examples) == min(12, len(split.forget)) and "examples" not in result.details
    assert all(e["png"] and e["original"] == e["unlearned"] for e in result.examples)
    plane = result.details["embedding"]
    assert len(plane["unlearned"]["x"]) == len(plane["set"]) == len(plane["label"])


def test_no_module_of_the_audit_has_the_name_of_a_function():
    """Importing a module sets it as an attribute of the package. `expunge.audit.evaluate` must stay the function."""
    package = importlib.import_module("expunge.audit")
    files = {m.name for m in pkgutil.iter_modules(package.__path__)}
    assert not files & set(package.__all__)
    for name in ("expunge.generation.runs", *(f"expunge.audit.{f}" for f in files)):
        importlib.import_module(name)
    assert isinstance(package.evaluate, types.FunctionType) and package.evaluate is evaluate


def test_shares_of_no_samples_keep_their_shape():
    task, model = Classification(4), nn.Sequential(nn.Flatten(), nn.Linear(3, 5), nn.Linear(5, 4))
    data = TensorData(torch.rand(6, 3), torch.arange(6) % 4)
    nothing = task.predict(model, data.samples(torch.arange(0)), features=True)
    assert nothing.logits.shape == (0, 4) and nothing.features.shape == (0, 5)
    some = task.predict(model, data.samples(), features=True)
    assert (
        some.features.shape == (6, 5) and some.shares.sum() == pytest.approx(1) and some.shares.shape == (4,)
    )


def test_an_audit_in_half_precision_agrees_up_to_rounding(classifier):
    model, split, task = classifier.model, classifier.by_class, classifier.task
    full, half = (audit(model, split, task, compute=c).scores for c in (None, Compute(amp="bf16")))
    assert all(abs(full[k] - half[k]) < 3 for k in ("UA", "RA", "TA"))
