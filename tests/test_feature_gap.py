"""The feature gap: class-wise tables are sorted by the worse of average gap and feature gap, so a bias shift is not first."""

import copy
import json
import math

import pytest
import torch

from expunge import Classification, Retrain, Split
from expunge.audit import audit, evaluate
from expunge.audit.feature_gap import feature_figures, feature_gap
from expunge.audit.features import feature_audit
from expunge.bench import bench
from expunge.bench.results import entry
from expunge.bench.tables import markdown
from expunge.cli.table import by_method, result_table
from expunge.records.record import Record
from expunge.records.statistics import worse_gap
from expunge.report import page
from expunge.report.study import studies
from expunge.training.execute import execute

TASK = Classification(10)
FIGURES = ("probe_forgotten", "corrected_forgotten", "corrected_retained", "cka_original")


@pytest.fixture(scope="module")
def comparison():
    """A bias shift, and half of the training anew on the retain set, as a method that reaches the features."""
    recipe = Retrain(epochs=12, lr=0.1, batch_size=32)
    methods = {"shift": "bias_shift", "half": Retrain(epochs=6, lr=0.1, batch_size=32)}
    return bench(methods, data="digits?limit=700", model="mlp", forget=3, recipe=recipe, trials=0)


def test_the_gap_by_hand():
    own = {
        "probe_forgotten": 100.0,
        "corrected_forgotten": 80.0,
        "corrected_retained": 90.0,
        "cka_original": 1.0,
    }
    reference = {
        "probe_forgotten": 94.0,
        "corrected_forgotten": 90.0,
        "corrected_retained": 70.0,
        "cka_original": 0.7,
    }
    # a probe 6 points away, means of 85 and 80, and 30 points of CKA
    assert feature_gap(own, reference) == pytest.approx((6 + 5 + 30) / 3)
    assert feature_gap(own, own) == 0 and feature_gap({}, reference) is None
    assert feature_gap({"cka_original": 0.6}, reference) == pytest.approx(10)
    assert worse_gap({"gap": {"avg": 2.0, "features": 1.0}}) == 2 and worse_gap({"gap": {"avg": 2.0}}) == 2
    assert worse_gap({}) is None and worse_gap({"gap": {"features": 3.0}}) is None


def test_the_figures_are_those_of_the_full_feature_audit(classifier):
    split, model = classifier.by_class, classifier.model
    gold = execute(model, split, Retrain(epochs=2), TASK).model
    full = feature_audit({"original": model, "unlearned": gold}, split, TASK)
    figures = feature_figures(evaluate(gold, split, TASK), evaluate(model, split, TASK))
    assert tuple(figures) == FIGURES
    for name, value in figures.items():
        assert value == pytest.approx(full[name]["unlearned"])


def test_no_class_no_head_and_broken_outputs_have_no_figures(classifier):
    assert feature_figures(evaluate(classifier.model, classifier.at_random, TASK)) == {}
    broken = copy.deepcopy(classifier.model)
    with torch.no_grad():
        TASK.head(broken)[1].weight.fill_(math.nan)
    assert feature_figures(evaluate(broken, classifier.by_class, TASK)) == {}
    result = audit(
        classifier.model,
        classifier.at_random,
        TASK,
        retrained=evaluate(classifier.model, classifier.at_random, TASK),
    )
    assert "features" not in result.scores.get("gap", {}) and "features" not in result.details


def test_without_unseen_samples_of_the_class_only_cka_is_compared(classifier):
    split, keep = classifier.by_class, classifier.by_class.test
    lone = Split.by_class(split.forget.data, (keep.data.x[keep.index], keep.labels), forget=3)
    evaluation = evaluate(classifier.model, lone, TASK)
    assert feature_figures(evaluation, evaluation) == {"cka_original": pytest.approx(1)}


def test_a_bias_shift_is_not_first_in_any_class_wise_table(comparison, tmp_path):
    """The negative control: by the average gap alone it is first, or level with the best."""
    records = comparison.records
    shift, half = (comparison.of(name)[0].record.scores["gap"] for name in ("shift", "half"))
    assert shift["avg"] <= half["avg"] and max(half.values()) < shift["features"]
    original = comparison.of("Original")[0].record.scores["gap"]
    assert shift["features"] == pytest.approx(original["features"], abs=1e-6)
    assert comparison.of("Retrain")[0].record.scores["gap"]["features"] == 0

    lines = [line.split(" | ")[0].strip("| ") for line in comparison.table().splitlines()]
    assert lines[2:] == ["Original", "Retrain", "half", "shift"]
    assert "feature gap" in comparison.table().splitlines()[0]
    assert [g[0].method for g in by_method(records)][2:] == ["retrain", "bias_shift"]
    (study,) = studies(records)
    assert [g.runs[0].method for g in study.methods] == ["retrain", "bias_shift"]
    html = page(records)
    assert "Feature gap" in html and "worse of both" in html


def test_details_keep_each_figure_beside_retrain(comparison):
    details = comparison.of("shift")[0].record.details["features"]
    assert tuple(details) == FIGURES
    assert all(set(row) == {"original", "unlearned", "retrained"} for row in details.values())
    assert details["probe_forgotten"]["unlearned"] == details["probe_forgotten"]["original"]
    kept = entry(comparison.of("shift")[0].record, "shift", {})
    assert kept["details"]["features"] == details


def test_old_results_without_it_keep_their_table(comparison):
    records = [Record(**json.loads(json.dumps(vars(r)))) for r in comparison.records]
    for record in records:
        record.details.pop("features")
        record.scores["gap"].pop("features")
    table = markdown([entry(r, r.details["label"], r.split) for r in records])
    assert "feature gap" not in table and table.splitlines()[2].startswith("| Original ")
    assert [c.header for c in result_table(records).columns].count("feature gap") == 0
    assert "Feature gap" not in page(records)


def test_one_old_row_has_a_dash(comparison):
    records = [Record(**json.loads(json.dumps(vars(r)))) for r in comparison.records]
    records[-1].scores["gap"].pop("features")
    row = next(
        line
        for line in markdown([entry(r, r.details["label"], {}) for r in records]).splitlines()
        if "half" in line
    )
    assert "**–**" in row


def test_the_standard_audit_prints_it(comparison):
    outcome = comparison.of("shift")[0]
    assert f"feature gap {outcome.record.scores['gap']['features']:.2f}" in str(outcome.audit)
