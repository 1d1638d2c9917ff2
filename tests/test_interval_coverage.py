"""Every interval and every error rate that Expunge reports, simulated from a known truth (table in docs/audit.md).

An interval must hold the truth at least as often as it says, and a finding "beyond chance" must be no more frequent than it says where
only chance is at work, within three standard errors of the simulation itself.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from expunge.audit.confidence_change import SIGNIFICANCE as PERMUTATION
from expunge.audit.confidence_change import confidence_change
from expunge.audit.earlier_requests import SIGNIFICANCE as CAME_BACK
from expunge.audit.earlier_requests import _better_than_chance
from expunge.audit.over_forgotten import _compare, _sentence
from expunge.audit.strong_findings import auc_noise, sampling_error
from expunge.audit.tolerances import Tolerances
from expunge.audit.verdict import allowed_distance
from expunge.data.likeness import Likeness, Target, effective_size, standard_error
from expunge.projects.effect import SIGNIFICANCE as REMEMBERED
from expunge.projects.effect import _lost_accuracy, remembered
from expunge.records.statistics import stat
from expunge.tuning.caution import _error_of_gap, excess_distance, gap_error

SIZES = (5, 20, 100, 1000)
SHARES = (0.002, 0.02, 0.1, 0.3, 0.5, 0.9, 0.99)


def slack(rate, runs):
    """Three standard errors of a rate from a simulation of `runs` runs, and one run."""
    return 3 * math.sqrt(rate * (1 - rate) / runs) + 1 / runs


def holds(hits, nominal):
    """Whether an interval that holds the truth in `hits` (bool, one per run) has the coverage that it says."""
    return float(np.mean(hits)) >= nominal - slack(nominal, len(hits))


def rare(alarms, nominal):
    """Whether false alarms (bool, one per run) are as rare as they should be."""
    return float(np.mean(alarms)) <= nominal + slack(nominal, len(alarms))


def test_the_check_itself_finds_intervals_that_are_too_narrow():
    errors = np.random.default_rng(0).standard_normal(4000)
    assert holds(np.abs(errors) <= 1.96, 0.95) and not holds(np.abs(errors) <= 0.9 * 1.96, 0.95)
    assert rare(np.abs(errors) > 1.96, 0.05) and not rare(np.abs(errors) > 0.9 * 1.96, 0.05)


# ---- shares of samples


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARES)
def test_two_equal_shares_differ_by_at_most_the_sampling_error(n, share):
    rng = np.random.default_rng(n)
    a, b = 100 * rng.binomial(n, share, (2, 4000)) / n
    close = np.abs(a - b) <= [sampling_error((x + y) / 2, n) + 1e-9 for x, y in zip(a, b, strict=True)]
    assert holds(close, 0.95)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARES)
def test_a_model_like_one_retrained_model_lies_in_the_allowed_distance(n, share):
    rng = np.random.default_rng(n)
    a, b = 100 * rng.binomial(n, share, (2, 4000)) / n
    assert holds(np.abs(a - b) <= [allowed_distance([x], n)[0] + 1e-9 for x in b], 0.95)


def test_the_plain_error_of_two_shares_would_be_too_narrow():
    rng = np.random.default_rng(0)
    a, b = 100 * rng.binomial(100, 0.02, (2, 4000)) / 100
    plain = 100 * 1.96 * np.sqrt(2 * b / 100 * (1 - b / 100) / 100)
    assert not holds(np.abs(a - b) <= np.maximum(plain, 1), 0.95)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_one_more_retrained_model_lies_in_the_prediction_interval(count):
    rng = np.random.default_rng(count)
    # the level of a seed, and the samples of the test set
    level = np.clip(rng.normal(0.9, 0.02, (3000, count + 1)), 0, 1)
    scores = 100 * rng.binomial(1000, level) / 1000
    inside = [abs(s[0] - s[1:].mean()) <= allowed_distance(s[1:].tolist(), 1000)[0] for s in scores]
    assert holds(inside, 0.95)


def test_the_spread_is_the_standard_deviation_over_runs_and_no_interval():
    values = np.random.default_rng(0).normal(50, 3, (4000, 3))
    variances = [stat(v.tolist()).spread ** 2 for v in values]
    assert np.mean(variances) == pytest.approx(9, abs=3 * np.std(variances) / math.sqrt(len(values)))


# ---- standard errors of estimated targets


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 30, 100, 1000])
def test_a_target_holds_the_true_share_as_often_as_one_standard_error_does(n):
    rng = np.random.default_rng(n)
    # over all true shares alike: at a single one, the few possible values of a small sample jump across the limit
    truth = rng.uniform(0, 1, 6000)
    found = 100 * rng.binomial(n, truth) / n
    errors = np.array([standard_error(x, n) for x in found])
    assert holds(np.abs(found - 100 * truth) <= errors, 0.683)
    assert holds(np.abs(found - 100 * truth) <= 1.96 * errors, 0.95)
    # and at each true share, the mean squared error is at most the mean square of the standard error; of 1 to 5 samples with a share
    # near one half, it may be an eighth above it
    for share in SHARES:
        found = 100 * rng.binomial(n, share, 4000) / n
        squares, said = (found - 100 * share) ** 2, [standard_error(x, n) ** 2 for x in found]
        assert squares.mean() <= (1 if n > 5 else 1.125) * np.mean(said) + 3 * squares.std() / math.sqrt(
            len(found)
        )


def test_weighted_samples_count_by_their_effective_size():
    rng = np.random.default_rng(0)
    weights = torch.tensor(rng.choice([0.2, 1.0, 3.0], 60))
    like = Likeness(weights / weights.mean(), 60, effective_size(weights))
    hits = []
    for truth in rng.uniform(0, 1, 3000):
        target = Target.of(torch.tensor(rng.random(60) < truth), like)
        hits.append(abs(target.percent - 100 * truth) <= target.error)
    assert holds(hits, 0.683)


@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_the_error_of_an_estimated_gap_holds_however_UA_and_MIA_hang_together(together):
    rng = np.random.default_rng(0)
    n, share, hits = 25, 0.2, []
    like = Likeness(torch.ones(n), n, float(n))
    for wrong, missed in rng.uniform(0, 1, (4000, 2)):
        first = rng.random(n)
        second = np.where(rng.random(n) < together, first, rng.random(n))
        found = [100 * np.mean(first < wrong), 100 * np.mean(second < missed)]
        expected = {k: 100 * share + (1 - share) * v for k, v in zip(("UA", "MIA"), found, strict=True)}
        true = (1 - share) * (100 * wrong + 100 * missed) / 4
        hits.append(abs((1 - share) * sum(found) / 4 - true) <= gap_error(expected, share, like))
    assert holds(hits, 0.683)


# ---- gaps


@pytest.mark.slow  # thousands of simulated audits
@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [50, 1000])
def test_equal_average_gaps_differ_by_at_most_the_error_of_the_gap(size, together):
    """Model, original and Retrain on the same sets. Where all gaps have one sign, the difference of two gaps is that of the scores."""
    rng = np.random.default_rng(size)
    alarms = []
    for _ in range(3000):
        level = {"UA": 0.1, "RA": 0.95, "TA": 0.9, "MIA": 0.3}
        draws = {k: rng.random((3, size)) for k in level}
        draws["MIA"] = np.where(rng.random((3, size)) < together, draws["UA"], draws["MIA"])
        own, before, again = ({k: 100 * np.mean(draws[k][i] < p) for k, p in level.items()} for i in range(3))
        labels = SimpleNamespace(labels=range(size))
        retrained = SimpleNamespace(scores=again, forget=labels, retain=labels, test=labels)
        # both lie 20 points from Retrain in truth
        gap, other = (np.mean([abs(s[k] + 20 - again[k]) for k in level]) for s in (own, before))
        alarms.append(abs(gap - other) > _error_of_gap(retrained))
    assert rare(alarms, 0.05)


# ---- findings beyond chance


@pytest.mark.parametrize(("n", "m"), [(5, 200), (30, 30), (100, 400), (300, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_distributions_of_confidences_seldom_exceed_the_critical_distance(n, m, weighted):
    generator = torch.Generator().manual_seed(n)
    weights = torch.ones(m, dtype=torch.float64)
    if weighted:
        weights = 0.2 + 3 * torch.rand(m, generator=generator, dtype=torch.float64)
    alarms = [
        excess_distance(torch.rand(n, generator=generator), torch.rand(m, generator=generator), weights) > 0
        for _ in range(1500)
    ]
    assert rare(alarms, 0.05)


@pytest.mark.parametrize(("n", "m"), [(5, 200), (100, 300)])
def test_samples_like_unseen_ones_are_seldom_called_remembered(n, m):
    generator = torch.Generator().manual_seed(n)
    alarms = []
    for _ in range(1500):
        labels = torch.arange(n) % 2
        sets = [(labels, torch.rand(n, generator=generator))]
        # the test set has the classes in another proportion
        sets += [((torch.arange(m) % 5 == 0).long(), torch.rand(m, generator=generator))]
        sets += [(torch.zeros(0, dtype=torch.long), torch.zeros(0))]
        forget, test, gone = (SimpleNamespace(labels=k, confidence=c) for k, c in sets)
        split = SimpleNamespace(forget=SimpleNamespace(data=SimpleNamespace(has_classes=True)))
        alarms.append(
            remembered(SimpleNamespace(forget=forget, test=test, test_forgotten=gone, split=split)) > 0
        )
    assert rare(alarms, REMEMBERED)


@pytest.mark.parametrize("changed", [0.02, 0.2])
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_a_run_that_costs_no_accuracy_seldom_counts_as_harm(n, changed):
    """Half of the changed predictions become right and half wrong."""
    rng = np.random.default_rng(n)
    alarms = []
    for _ in range(3000):
        right, flips = rng.random(n) < 0.8, rng.random(n)
        worse, better = flips < changed / 2, (flips >= changed / 2) & (flips < changed)
        first, second = (torch.tensor(np.where(worse | better, w, right)) for w in (worse, better))
        split = SimpleNamespace(forget=SimpleNamespace(data=SimpleNamespace(has_classes=False)))
        tests = [SimpleNamespace(test=SimpleNamespace(correct=c), split=split) for c in (first, second)]
        part = SimpleNamespace(original=tests[0], own=tests[1], retrained=None)
        alarms.append(_lost_accuracy(part, 0.0) != "")
    assert rare(alarms, 0.025)


@pytest.mark.slow  # thousands of simulated audits
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize(("n", "m"), [(5, 50), (20, 20), (50, 500), (500, 100)])
def test_samples_like_unseen_ones_are_seldom_called_over_forgotten(n, m, share):
    generator = torch.Generator().manual_seed(n)
    alarms = []
    for _ in range(2000):
        levels = (share, min(1.0, share + 0.02))
        pairs = [
            (
                (torch.rand(n, generator=generator) < p).double(),
                (torch.rand(m, generator=generator) < p).double(),
            )
            for p in levels
        ]
        alarms.append(_sentence(*_compare(pairs), Tolerances(forget=0), 2 * n, 2 * m) != "")
    assert rare(alarms, 0.025)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize(("n", "m"), [(10, 1000), (100, 10_000), (1000, 10_000), (1000, 300)])
def test_requests_that_stayed_forgotten_seldom_come_back(n, m, share):
    """The accuracy on the test set is all that a model without the samples would have."""
    rng = np.random.default_rng(n)
    now, test = 100 * rng.binomial(n, share, 4000) / n, 100 * rng.binomial(m, share, 4000) / m
    alarms = []
    for found, level in zip(now, test, strict=True):
        entry = {"UA": 100 - found, "UA_then": None, "UA_retrained": None, "samples": n, "goal": "untrain"}
        alarms.append(bool(_better_than_chance([entry], level, m, 2.0)))
    assert rare(alarms, CAME_BACK)


@pytest.mark.parametrize("shadows", [2, 4, 8, 16])
def test_an_attack_without_power_seldom_exceeds_the_noise_of_its_models(shadows):
    values = 0.5 + 0.1 * np.random.default_rng(shadows).standard_normal((4000, shadows))
    alarms = [
        abs(v.mean() - 0.5) > auc_noise({"auc_null": 0.5, "spread": float(v.std(ddof=1)), "shadows": shadows})
        for v in values
    ]
    assert rare(alarms, 0.05)


@pytest.mark.slow  # 1,500 permutation tests of 499 draws
def test_the_permutation_test_is_as_rare_as_it_says():
    generator = torch.Generator().manual_seed(0)

    def predictions(count):
        return SimpleNamespace(
            labels=torch.arange(count) % 3, confidence=torch.rand(count, generator=generator)
        )

    alarms = []
    for _ in range(1500):
        sides = [
            SimpleNamespace(
                split=SimpleNamespace(forget=SimpleNamespace(data=SimpleNamespace(has_classes=True))),
                **{name: predictions(n) for name, n in sizes.items()},
            )
            for sizes in [{"forget": 12, "retain": 90, "test": 40, "test_forgotten": 0}] * 2
        ]
        change = confidence_change(*sides)
        alarms += [change.retained.above <= PERMUTATION, change.after.below <= PERMUTATION]
    assert rare(alarms, PERMUTATION)


def test_the_page_lists_every_function_that_is_simulated_here():
    page = (Path(__file__).resolve().parents[1] / "docs" / "audit.md").read_text()
    section = page[page.index("## Intervals") :].partition("\n## ")[0]
    tests = {name for name in globals() if name.startswith("test_")} - {
        "test_the_check_itself_finds_intervals_that_are_too_narrow",
        "test_the_plain_error_of_two_shares_would_be_too_narrow",
        "test_the_page_lists_every_function_that_is_simulated_here",
    }
    assert {name for name in tests if f"`{name}`" not in section} == set()
