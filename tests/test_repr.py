"""`repr` of what users print is short, and says what the object is."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

from expunge import (
    ExpungeError,
    Mask,
    Record,
    StreamData,
    TensorData,
    execute,
    experiment,
    find,
    saliency_mask,
)
from expunge.audit.result import AuditResult
from expunge.methods.finetune import FineTune
from expunge.pipeline.experiment import Outcome
from expunge.receipts.issue import issue
from expunge.receipts.receipt import Receipt
from expunge.summaries import score_html
from expunge.tasks.predictions import SampleScores


def checked(value):
    """The repr of `value`, after a check of its size."""
    text = repr(value)
    assert len(text.splitlines()) <= 12 and len(text) <= 2000, text
    return text


@pytest.fixture(scope="module")
def outcome(classifier):
    """A run of a method on digits, scored beside a stand-in for Retrain."""
    first = experiment(classifier.model, classifier.by_class, FineTune(epochs=1), classifier.task)
    return experiment(
        classifier.model, classifier.by_class, FineTune(epochs=1), classifier.task, retrained=first.evaluation
    )


def test_split_and_data(classifier):
    text = checked(classifier.by_class)
    assert "Split(class, goal unlearn, classes [3])" in text
    assert f"forget {len(classifier.by_class.forget)}" in text and "10 classes" in text
    data = classifier.by_class.forget.data
    assert "700 samples" in checked(data) and "(1, 8, 8)" in checked(data)
    assert f"Samples({len(classifier.by_class.forget)} of TensorData" in checked(classifier.by_class.forget)


def test_data_with_long_names_and_many_columns():
    x, y = torch.zeros(5, 3), torch.arange(5)
    groups = {f"column {k}": y.numpy() for k in range(500)}
    named = {f"input {k}": x for k in range(500)}
    text = checked(TensorData(named, y, groups=groups, ids=list("abcde"), name="n" * 5000, read_as="size=8"))
    assert "ids" in text and "column 0" in text
    assert "TensorDataset" in checked(StreamData(TensorDataset(x, y)))
    assert "labels (4,)" in checked(TensorData(x, torch.zeros(5, 4)))


def test_evaluation_predictions_and_batch(classifier, outcome):
    evaluation = outcome.evaluation
    assert "forget" in checked(evaluation) and "UA" in checked(evaluation)
    assert ".scores" in checked(replace(evaluation))
    assert "logits (" in checked(evaluation.forget)
    batch = next(classifier.by_class.retain.batches(4))
    assert "Batch(4 samples, x (4, 1, 8, 8), y (4,)" in checked(batch)
    assert "accuracy 50.00 %" in checked(SampleScores(torch.tensor([0.0, 1.0]), torch.ones(2), torch.ones(2)))


def test_a_near_name_is_suggested(classifier):
    with pytest.raises(ExpungeError, match="there is no method 'SalUn'; did you mean 'salun'"):
        find("SalUn")
    with pytest.raises(ExpungeError, match=r"there is no method 'zzzz'; known: "):
        find("zzzz")
    with pytest.raises(ExpungeError) as refusal:
        find(classifier.by_class)
    assert len(str(refusal.value)) < 200


def test_run_and_mask(classifier):
    mask = saliency_mask(classifier.model, classifier.by_class.forget, classifier.task)
    run = execute(classifier.model, classifier.by_class, FineTune(epochs=1), classifier.task, mask=mask)
    assert "Run(finished)" in checked(run) and "50.00 % of the parameters may move" in checked(run)
    assert "epoch 1 of 1" in checked(run)
    assert "50.00 %" in checked(mask) and "0.weight (6, 1, 3, 3)" in checked(mask)
    many = Mask(
        {f"{k} " + "n" * 300: torch.ones(2, dtype=torch.bool) for k in range(100)}, {"split": "a" * 64}
    )
    assert "and 92 more tensors" in checked(many)
    assert "0 of 0 parameters" in checked(Mask())


def test_audit_result_and_outcome(outcome):
    assert isinstance(outcome, Outcome)
    for value in (outcome.audit, outcome, outcome.record):
        text = checked(value)
        lines = {line.split()[0]: line for line in text.splitlines()}
        assert f"{outcome.record.scores['UA']:.2f}" in lines["UA"]
        assert "gap to Retrain" in text and "average gap" in text
    assert "Outcome(unlearn finetune, seed 0, finished)" in repr(outcome)
    many = AuditResult({f"score {k}": 1.0 for k in range(100)}, limits=["none"] * 50)
    assert "and 93 more in .scores" in checked(many) and "limits: 50" in repr(many)
    assert "no scores" in checked(AuditResult({}))


def test_outcome_without_scores(generator):
    text = checked(experiment(generator.model, generator.by_class, FineTune(epochs=1), generator.task))
    assert "no scores" in text


def test_record_from_an_edited_file(outcome):
    odd = replace(outcome.record, model=None, data=[], scores=[1], seconds="x" * 5000, status="y\n" * 5000)
    assert "Record(unlearn finetune" in checked(odd)
    assert "no scores" in checked(Record("unlearn", "salun" * 500))
    scores = {"UA": float("nan"), "RA": 10**400, "TA": True, "gap": {"UA": "high", "avg": None}}
    assert "average gap" in checked(replace(outcome.record, scores=scores))


def test_receipt(outcome, classifier):
    split = classifier.by_class
    issued, _ = issue(outcome.record, split.forget.ids, before=classifier.model, after=outcome.model)
    text = checked(issued)
    assert "unsigned" in text and "unlearn by finetune" in text and "ul-" in text
    assert "no canonical form" in checked(Receipt({"seed": 0.5, "run": "x" * 5000}, {}))


def test_html_is_a_table_with_escaped_texts(outcome):
    for value in (outcome, outcome.audit):
        html = value._repr_html_()
        assert html.startswith("<table>") and html.endswith("</table>")
        assert f"<td>{outcome.record.scores['UA']:.2f}</td>" in html and "average gap" in html
        assert "src=" not in html and "href=" not in html
    html = score_html("<b>", {"<script>": 1.0, "gap": {"<script>": 0.5, "avg": 0.5}})
    assert "<script>" not in html and "&lt;script&gt;" in html and "<b>" not in html
