"""Test verdicts: each word, the figures that give it, and words that a verdict never uses."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.audit.evaluation import gaps
from expunge.audit.strong_findings import auc_noise
from expunge.audit.verdict import allowed_distance, verdict, within_gap
from expunge.errors import ExpungeError
from expunge.receipts.limits import Limits

SIZES = {"forget": 500, "retain": 5000, "test": 1000, "test_forgotten": 100}
SEEDS = [
    {"UA": 5.0 + d, "RA": 99.5 + d / 5, "TA": 94.0 + d / 2, "MIA": 13.0 + 2 * d} for d in (-0.4, 0.0, 0.4)
]
SAME = {"UA": 5.2, "RA": 99.5, "TA": 94.1, "MIA": 13.5}


def words(seeds=SEEDS, **changes):
    return verdict({**SAME, **changes}, seeds, sizes=SIZES, goal="untrain").words


def test_each_word():
    assert words() == ["indistinguishable"]
    assert words(UA=0.0, MIA=0.2) == ["under-forgotten"]
    assert words(UA=30.0, MIA=70.0) == ["over-forgotten"]
    assert words(TA=80.0) == ["utility lost"]
    assert words(UA=0.0, MIA=0.0, TA=60.0) == ["utility lost", "under-forgotten"]
    assert words(TA=99.0) == ["different"]


def test_the_sentence_names_the_figures_that_decide():
    result = verdict({**SAME, "MIA": 40.0}, SEEDS, sizes=SIZES)
    assert "MIA 40.00 against 13.00" in result.sentences[0] and "TA" not in result.sentences[0]
    assert result.figures["MIA"]["beyond"] and not result.figures["UA"]["beyond"]
    assert "3 retrained models" in verdict(SAME, SEEDS, sizes=SIZES).sentences[0]


def test_forgotten_test_samples_count_the_other_way_round():
    seeds = [{**s, "TFA": 0.0} for s in SEEDS]
    assert words(seeds, TFA=20.0) == ["under-forgotten"]


def relearned(sgd, adam):
    """Return the verdict on Retrain's scores with these relearning steps. Retrain needs 4 of SGD and 20 of Adam."""
    both = {
        k: {"steps": n, "steps_retrained": m, "delay": None if n is None else n / m}
        for k, n, m in (("sgd", sgd, 4), ("adam", adam, 20))
    }
    return verdict(SAME, SEEDS, sizes=SIZES, attacks={"relearning delay": {"goal": 90.0, **both}})


def test_much_faster_relearning_with_both_optimizers_is_residue():
    result = relearned(1, 9)
    assert result.words == ["under-forgotten"] and "1 / 9; the retrained model needs 4 / 20" in str(result)
    # one of the two is like Retrain's, within what seeds do
    for sgd, adam in ((2, 9), (1, 10), (1, 40), (8, 1)):
        assert relearned(sgd, adam).words == ["indistinguishable"]
    # Retrain never got there
    never = {"steps": 2, "steps_retrained": None, "delay": 0.01, "bound": "at most"}
    attacks = {"relearning delay": {"goal": 90.0, "sgd": never, "adam": never}}
    result = verdict(SAME, SEEDS, sizes=SIZES, attacks=attacks)
    assert result.words == ["under-forgotten"] and "not reached / not reached" in str(result)
    undecided = relearned(None, 9)  # without a delay there is no sentence
    assert undecided.words == ["indistinguishable"] and "relearn the forget set" not in str(undecided)


def test_allowed_distance_by_hand():
    width, measured = allowed_distance([10.0, 12.0, 14.0], 10_000)
    assert measured and width == pytest.approx(4.302652729911275 * 2 * math.sqrt(4 / 3))
    width, measured = allowed_distance([10.0], 400)
    # the share of 40 of 400 with two samples more of each kind, and half a sample
    share = 42 / 404
    assert not measured
    assert width == pytest.approx(100 * (1.96 * math.sqrt(2 * share * (1 - share) / 400) + 0.5 / 400))
    # 0 of 20 and 3 of 20 differ by chance, and 0 and 4 do not
    assert allowed_distance([0.0], 20)[0] == pytest.approx(
        100 * (1.96 * math.sqrt(2 * (2 * 22 / 24**2) / 20) + 0.5 / 20)
    )
    assert 15 < allowed_distance([0.0], 20)[0] < 20
    assert allowed_distance([0.0], 10**6)[0] == 0.5
    assert allowed_distance([0.0, 0.0, 0.0], 10**6)[0] == 0.5


def test_quantiles_of_many_seeds():
    from scipy.stats import t

    for n in (2, 3, 11, 12, 21, 22, 60):
        values = [float(k % 2) * 20 for k in range(n)]
        spread = math.sqrt(sum((v - sum(values) / n) ** 2 for v in values) / (n - 1))
        wanted = t.ppf(0.975, n - 1) * spread * math.sqrt(1 + 1 / n)
        assert allowed_distance(values, 10_000)[0] == pytest.approx(wanted, rel=1e-9)


def test_limits_say_that_there_is_one_retrained_model():
    result = verdict(SAME, SEEDS[:1], sizes=SIZES)
    assert any("Only one retrained model" in t for t in result.limits)
    assert not any("Only one retrained model" in t for t in verdict(SAME, SEEDS, sizes=SIZES).limits)


def test_limits_name_scores_that_one_retrained_model_has():
    some = [SEEDS[0], SEEDS[1], {**SEEDS[2], "TFA": 0.0}]
    limit = verdict({**SAME, "TFA": 0.0}, some, sizes=SIZES).limits[0]
    assert limit.startswith("Only one retrained model has TFA, so")
    some = [{k: v for k, v in s.items() if k != "UA"} for s in SEEDS[1:]]
    assert (
        verdict(SAME, [SEEDS[0], *some], sizes=SIZES).limits[0].startswith("Only one retrained model has UA")
    )


def test_contradicted_mia_takes_no_part():
    apart = {**SAME, "MIA": 100.0, "MIA_entropy": 14.0}
    result = verdict(apart, SEEDS, sizes=SIZES)
    assert result.words == ["indistinguishable"] and "MIA" not in result.figures
    assert result.limits[0].startswith("MIA takes no part") and "MIA" not in " ".join(result.sentences)
    assert words(MIA=100.0, MIA_entropy=60.0) == ["over-forgotten"]
    assert words([*SEEDS[1:], {**SEEDS[0], "MIA_entropy": 90.0}], MIA=40.0) == ["indistinguishable"]
    assert words(MIA=40.0, MIA_entropy=None) == ["over-forgotten"]


def test_limits_of_the_gap_leave_out_an_unreliable_mia():
    own = {"UA": 100.0, "RA": 99.0, "TA": 95.0, "MIA": 100.0, "MIA_entropy": 99.0}
    reference = {**own, "RA": 96.0, "MIA": 0.0}
    gap = gaps(own, reference)
    assert gap["avg"] == 25.75 and gap["reliable"] == 1.0
    assert within_gap({"gap": gap}, 5.0) and Limits().missing_audit({**own, "gap": gap}, "unknown") == []
    gap = gaps(own, {**reference, "MIA_entropy": 1.0})
    assert "reliable" not in gap and not within_gap({"gap": gap}, 5.0)
    assert Limits().missing_audit({**own, "gap": gap}, "unknown")


def test_verdict_is_unknown_without_a_reference():
    result = verdict(SAME, original={"UA": 0.0, "RA": 100.0, "TA": 95.0, "MIA": 0.1})
    assert result.words == ["unknown"] and "cannot tell" in result.limits[0] and "+5.20" in str(result)


def test_strong_figures_can_only_make_a_verdict_stricter():
    lira = {
        "U-LiRA": {
            "auc": 0.71,
            "auc_null": 0.5,
            "spread": 0.02,
            "shadows": 32,
            "margin_shift": 1.0,
            "auc_original": 0.8,
        }
    }
    result = verdict(SAME, SEEDS, sizes=SIZES, attacks=lira)
    assert result.words == ["under-forgotten"]
    assert (
        "indistinguishable" not in str(result)
        and "0.710" in str(result)
        and "0.800 without unlearning" in str(result)
    )
    lira["U-LiRA"]["margin_shift"] = -1.0
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=lira).words == ["over-forgotten"]
    lira["U-LiRA"]["auc"] = 0.505
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=lira).words == ["indistinguishable"]
    hidden = {"corrected_forgotten": {"original": 98.0, "unlearned": 97.0, "retrained": 60.0}}
    result = verdict(SAME, SEEDS, sizes=SIZES, features=hidden)
    assert result.words == ["under-forgotten"] and "below the head" in str(result)
    alike = {"corrected_forgotten": {"original": 98.0, "unlearned": 62.0, "retrained": 60.0}}
    assert verdict(SAME, SEEDS, sizes=SIZES, features=alike).words == ["indistinguishable"]


def test_figures_of_few_samples_need_a_larger_difference():
    two_of_37 = {"probe_forgotten": {"unlearned": 100.0, "retrained": 94.6}}
    few = {**SIZES, "test_forgotten": 37}
    assert verdict(SAME, SEEDS, sizes=few, features=two_of_37).words == ["indistinguishable"]
    assert verdict(SAME, SEEDS, sizes={**SIZES, "test_forgotten": 1000}, features=two_of_37).words == [
        "under-forgotten"
    ]


def test_mean_accuracy_after_bias_correction_decides_on_difference():
    """The shift trades one class for the others, differently for each seed of Retrain. Only the mean is stable."""

    def corrected(forgotten, retained):
        pairs = {"corrected_forgotten": forgotten, "corrected_retained": retained}
        shares = {k: {"unlearned": v[0], "retrained": v[1]} for k, v in pairs.items()}
        return verdict(SAME, SEEDS, sizes={**SIZES, "test_forgotten": 150, "test": 1350}, features=shares)

    # two seeds of Retrain: Fashion-MNIST, 1,500 samples, class 0
    for pair in (((90.7, 84.7), (52.7, 57.9)), ((84.7, 90.7), (57.9, 52.7))):
        assert corrected(*pair).words == ["indistinguishable"]
    result = corrected((89.2, 90.1), (61.5, 92.9))
    assert result.words == ["different"] and "A model that never saw the class does not mix" in str(result)
    assert "The means of both shares are 75.3 % and 91.5 %" in str(result)


def test_features_of_the_original_are_named():
    same = {"cka_original": {"original": 1.0, "unlearned": 1.0, "retrained": 0.97}}
    result = verdict(SAME, SEEDS, sizes=SIZES, features=same)
    assert result.words == ["under-forgotten"] and "nothing below the head" in str(result)
    moved = {"cka_original": {"original": 1.0, "unlearned": 0.98, "retrained": 0.97}}
    assert verdict(SAME, SEEDS, sizes=SIZES, features=moved).words == ["indistinguishable"]


def test_rmia_below_one_half_is_over_forgotten():
    low = {"RMIA": {"auc": 0.38, "auc_null": 0.51, "spread": 0.04, "shadows": 32}}
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=low).words == ["over-forgotten"]
    low["RMIA"]["auc"] = 0.62
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=low).words == ["under-forgotten"]


def test_noise_of_an_auc():
    # Student's t of 15 degrees of freedom at 97.5 %, times the standard error 0.1 / 4
    assert auc_noise({"spread": 0.1, "shadows": 16}) == pytest.approx(2.13145 * 0.025, rel=1e-5)
    assert auc_noise({"spread": 0.1, "shadows": 1}) == 0.02
    assert auc_noise({"spread": 0.01, "shadows": 16}) == auc_noise({}) == 0.02
    assert auc_noise({"spread": 0.01, "shadows": 16, "auc_null": 0.44}) == pytest.approx(0.06)


def test_sentences_do_not_contradict_the_words():
    low = {**SAME, "TA": SAME["TA"] + 20}
    assert "but not in forgetting" in str(verdict(low, SEEDS, sizes=SIZES))
    soon = {
        "relearning delay": {k: {"delay": 0.2, "steps": 2, "steps_retrained": 10} for k in ("sgd", "adam")}
    }
    result = verdict(low, SEEDS, sizes=SIZES, attacks=soon)
    assert str(result).startswith("Verdict: under-forgotten, different.")
    assert "but not in forgetting" not in str(result) and "had not forgotten it" in str(result)


def test_the_goal_names_its_reference():
    assert "exactly these samples" in str(verdict(SAME, SEEDS, goal="untrain"))
    assert "any sample of the concept" in str(verdict(SAME, SEEDS, goal="unlearn"))


@given(
    st.fixed_dictionaries({k: st.floats(0, 100) for k in ("UA", "RA", "TA", "MIA", "TFA")}), st.integers(0, 3)
)
def test_no_verdict_calls_figures_certified(scores, seeds):
    result = verdict(scores, SEEDS[:seeds], sizes=SIZES)
    text = str(result).lower()
    assert not any(w in text for w in ("certif", "guarantee", "proven", "safe"))
    assert result.words and result.sentences and result.to_dict()["words"] == result.words


def test_max_gap():
    assert within_gap({"gap": {"avg": 1.5}}, 1.5) and not within_gap({"gap": {"avg": 1.6}}, 1.5)
    for scores in ({}, {"gap": {"avg": None}}, {"gap": {"avg": math.nan}}):
        with pytest.raises(ExpungeError, match="retrained model"):
            within_gap(scores, 1)


# one retrained model: with 1000 test samples and 94 %, 2.13 points are allowed, and 0.5 with 5000 and 99.5 %
ONE = SEEDS[1:2]


def of_one(before, sizes=SIZES, **changes):
    return verdict({**SAME, **changes}, ONE, sizes=sizes, goal="untrain", original={**SAME, **before})


def test_accuracy_that_was_missing_before_the_run_is_not_its_loss():
    result = of_one({"TA": 91.0}, TA=90.5)
    assert result.words == ["different"]
    text = "TA 91.00 before unlearning, 90.50 after it, and 94.00 of Retrain. The run did not cost this accuracy."
    assert text in str(result) and "Utility lost" not in str(result)
    # the run took away more than the allowed 2.1 points
    result = of_one({"TA": 91.0}, TA=88.0)
    assert result.words == ["utility lost"] and "; 91.00 before unlearning)" in result.sentences[0]
    assert "did not cost" not in str(result)
    # the original was within the allowed distance
    result = of_one({"TA": 92.5}, TA=91.0)
    assert result.words == ["utility lost"] and "; 92.50 before unlearning)" in result.sentences[0]
    # one of two: only the other one counts, and other words stay
    result = of_one({"TA": 91.0, "RA": 99.5}, TA=90.5, RA=95.0, UA=0.0)
    assert result.words == ["utility lost", "under-forgotten"]
    assert result.sentences[0].startswith("Utility lost, accuracy is below Retrain's: RA 95.00")
    assert "TA" not in result.sentences[0] and "TA 91.00 before unlearning" in str(result)


def test_without_an_original_the_loss_counts():
    result = verdict({**SAME, "TA": 80.0}, ONE, sizes=SIZES)
    assert result.words == ["utility lost"] and "before unlearning" not in str(result)


@pytest.mark.parametrize(("count", "word"), [(1, "unknown"), (24, "unknown"), (25, "indistinguishable")])
def test_too_few_samples_are_no_agreement(count, word):
    """UA 5 %: the share counts as (0.05 n + 2) / (n + 4), and 1.96 sqrt(2 p q / n) + 0.5 / n is the allowed distance."""
    same = {**SAME, "UA": 5.0}
    result = verdict(same, ONE, sizes={**SIZES, "forget": count}, goal="untrain")
    assert result.words == [word]

    def allowed(n):
        share = (0.05 * n + 2) / (n + 4)
        return 100 * (1.96 * math.sqrt(2 * share * (1 - share) / n) + 0.5 / n)

    needed = next(n for n in range(1, 100) if allowed(n) <= 20)
    assert allowed(needed) <= 20 < allowed(needed - 1)
    told = f"{needed} samples would bring that down to 20 points" in str(result)
    assert told == (word == "unknown") and (allowed(count) > 20) == told
    assert str(result).startswith(f"Verdict: {word}.") and "is indistinguishable from Retrain within" not in (
        str(result) if told else ""
    )


def test_few_samples_that_differ_still_tell():
    few = {**SIZES, "forget": 10}
    assert verdict({**SAME, "UA": 100.0}, ONE, sizes=few).words == ["over-forgotten"]


def test_retrained_models_that_differ_much_are_no_agreement():
    apart = [{**SEEDS[0], "UA": 0.0, "MIA": 0.0}, {**SEEDS[1], "UA": 20.0, "MIA": 40.0}]
    result = verdict({**SAME, "UA": 10.0, "MIA": 20.0}, apart, sizes=SIZES)
    assert result.words == ["unknown"] and "Give more retrained models" in str(result)
