"""Verdicts from figures: each word from the figures that must give it, and what may never be said."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.audit.residue import noise
from expunge.audit.verdict import allowed, verdict, within_gap
from expunge.errors import ExpungeError

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
    found = verdict({**SAME, "MIA": 40.0}, SEEDS, sizes=SIZES)
    assert "MIA 40.00 against 13.00" in found.sentences[0] and "TA" not in found.sentences[0]
    assert found.figures["MIA"]["beyond"] and not found.figures["UA"]["beyond"]
    assert "3 retrained models" in verdict(SAME, SEEDS, sizes=SIZES).sentences[0]


def test_forgotten_test_samples_count_the_other_way_round():
    seeds = [{**s, "TFA": 0.0} for s in SEEDS]
    assert words(seeds, TFA=20.0) == ["under-forgotten"]


def relearned(sgd, adam):
    """A verdict on scores like Retrain's, where relearning took these steps, and Retrain 4 of SGD and 20 of Adam."""
    both = {
        k: {"steps": n, "steps_retrained": m, "delay": None if n is None else n / m}
        for k, n, m in (("sgd", sgd, 4), ("adam", adam, 20))
    }
    return verdict(SAME, SEEDS, sizes=SIZES, attacks={"relearning delay": {"goal": 90.0, **both}})


def test_relearning_much_sooner_than_retrain_by_both_optimizers_is_residue():
    found = relearned(1, 9)
    assert found.words == ["under-forgotten"] and "1 / 9, in the retrained model 4 / 20" in str(found)
    # one of the two is like Retrain's, within what seeds do
    for sgd, adam in ((2, 9), (1, 10), (1, 40), (8, 1)):
        assert relearned(sgd, adam).words == ["indistinguishable"]
    # Retrain never got there
    never = {"steps": 2, "steps_retrained": None, "delay": 0.01, "bound": "at most"}
    told = {"relearning delay": {"goal": 90.0, "sgd": never, "adam": never}}
    found = verdict(SAME, SEEDS, sizes=SIZES, attacks=told)
    assert found.words == ["under-forgotten"] and "not reached / not reached" in str(found)
    nothing = relearned(None, 9)  # no delay: nothing is said
    assert nothing.words == ["indistinguishable"] and "learned again" not in str(nothing)


def test_what_is_allowed_by_hand():
    width, measured = allowed([10.0, 12.0, 14.0], 10_000)
    assert measured and width == pytest.approx(4.30 * 2 * math.sqrt(4 / 3))
    width, measured = allowed([10.0], 400)
    assert not measured and width == pytest.approx(100 * 1.96 * math.sqrt(2 * 0.09 / 400))
    assert allowed([0.0], 20)[0] == 5  # one sample of twenty
    assert allowed([0.0, 0.0, 0.0], 10**6)[0] == 0.5


def test_quantiles_of_many_seeds():
    from scipy.stats import t

    for n in (2, 3, 11, 12, 21, 22, 60):
        values = [float(k % 2) * 20 for k in range(n)]
        spread = math.sqrt(sum((v - sum(values) / n) ** 2 for v in values) / (n - 1))
        wanted = t.ppf(0.975, n - 1) * spread * math.sqrt(1 + 1 / n)
        assert allowed(values, 10_000)[0] == pytest.approx(wanted, rel=0.05)


def test_one_retrained_model_is_said_to_be_one():
    found = verdict(SAME, SEEDS[:1], sizes=SIZES)
    assert any("Only one retrained model" in t for t in found.limits)
    assert not any("Only one retrained model" in t for t in verdict(SAME, SEEDS, sizes=SIZES).limits)


def test_every_score_that_one_retrained_model_has_is_said_to_be_of_one():
    some = [SEEDS[0], SEEDS[1], {**SEEDS[2], "TFA": 0.0}]
    told = verdict({**SAME, "TFA": 0.0}, some, sizes=SIZES).limits[0]
    assert told.startswith("Only one retrained model has TFA, so")
    some = [{k: v for k, v in s.items() if k != "UA"} for s in SEEDS[1:]]
    assert (
        verdict(SAME, [SEEDS[0], *some], sizes=SIZES).limits[0].startswith("Only one retrained model has UA")
    )


def test_a_contradicted_mia_takes_no_part():
    apart = {**SAME, "MIA": 100.0, "MIA_entropy": 14.0}
    found = verdict(apart, SEEDS, sizes=SIZES)
    assert found.words == ["indistinguishable"] and "MIA" not in found.figures
    assert found.limits[0].startswith("MIA takes no part") and "MIA" not in " ".join(found.sentences)
    assert words(MIA=100.0, MIA_entropy=60.0) == ["over-forgotten"]
    assert words([*SEEDS[1:], {**SEEDS[0], "MIA_entropy": 90.0}], MIA=40.0) == ["indistinguishable"]
    assert words(MIA=40.0, MIA_entropy=None) == ["over-forgotten"]


def test_without_a_reference_nothing_is_judged():
    found = verdict(SAME, original={"UA": 0.0, "RA": 100.0, "TA": 95.0, "MIA": 0.1})
    assert found.words == ["unknown"] and "cannot be said" in found.limits[0] and "+5.20" in str(found)


def test_strong_figures_can_only_make_it_stricter():
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
    found = verdict(SAME, SEEDS, sizes=SIZES, attacks=lira)
    assert found.words == ["under-forgotten"]
    assert (
        "indistinguishable" not in str(found)
        and "0.710" in str(found)
        and "0.800 without unlearning" in str(found)
    )
    lira["U-LiRA"]["margin_shift"] = -1.0
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=lira).words == ["over-forgotten"]
    lira["U-LiRA"]["auc"] = 0.505
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=lira).words == ["indistinguishable"]
    hidden = {"corrected_forgotten": {"original": 98.0, "unlearned": 97.0, "retrained": 60.0}}
    found = verdict(SAME, SEEDS, sizes=SIZES, features=hidden)
    assert found.words == ["under-forgotten"] and "below the head" in str(found)
    alike = {"corrected_forgotten": {"original": 98.0, "unlearned": 62.0, "retrained": 60.0}}
    assert verdict(SAME, SEEDS, sizes=SIZES, features=alike).words == ["indistinguishable"]


def test_figures_of_few_samples_need_more():
    two_of_37 = {"probe_forgotten": {"unlearned": 100.0, "retrained": 94.6}}
    few = {**SIZES, "test_forgotten": 37}
    assert verdict(SAME, SEEDS, sizes=few, features=two_of_37).words == ["indistinguishable"]
    assert verdict(SAME, SEEDS, sizes={**SIZES, "test_forgotten": 1000}, features=two_of_37).words == [
        "under-forgotten"
    ]


def test_a_class_that_lies_elsewhere_among_the_others_is_a_difference():
    """The shift trades one class for the others, in each seed of Retrain differently: their mean decides."""

    def said(forgotten, retained):
        told = {"corrected_forgotten": forgotten, "corrected_retained": retained}
        shares = {k: {"unlearned": v[0], "retrained": v[1]} for k, v in told.items()}
        return verdict(SAME, SEEDS, sizes={**SIZES, "test_forgotten": 150, "test": 1350}, features=shares)

    # two seeds of Retrain: Fashion-MNIST, 1,500 samples, class 0
    for pair in (((90.7, 84.7), (52.7, 57.9)), ((84.7, 90.7), (57.9, 52.7))):
        assert said(*pair).words == ["indistinguishable"]
    found = said((89.2, 90.1), (61.5, 92.9))
    assert found.words == ["different"] and "in no model that never saw it" in str(found)
    assert "the mean of both shares is 75.3 % and 91.5 %" in str(found)


def test_features_of_the_original_are_named():
    same = {"cka_original": {"original": 1.0, "unlearned": 1.0, "retrained": 0.97}}
    found = verdict(SAME, SEEDS, sizes=SIZES, features=same)
    assert found.words == ["under-forgotten"] and "nothing below the head" in str(found)
    moved = {"cka_original": {"original": 1.0, "unlearned": 0.98, "retrained": 0.97}}
    assert verdict(SAME, SEEDS, sizes=SIZES, features=moved).words == ["indistinguishable"]


def test_rmia_below_one_half_is_too_much():
    low = {"RMIA": {"auc": 0.38, "auc_null": 0.51, "spread": 0.04, "shadows": 32}}
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=low).words == ["over-forgotten"]
    low["RMIA"]["auc"] = 0.62
    assert verdict(SAME, SEEDS, sizes=SIZES, attacks=low).words == ["under-forgotten"]


def test_noise_of_an_auc():
    assert noise({"spread": 0.1, "shadows": 16}) == pytest.approx(0.05)
    assert noise({"spread": 0.01, "shadows": 16}) == noise({}) == 0.02
    assert noise({"spread": 0.01, "shadows": 16, "auc_null": 0.44}) == pytest.approx(0.06)


def test_words_come_first_and_contradict_nothing():
    low = {**SAME, "TA": SAME["TA"] + 20}
    assert "though not in forgetting" in str(verdict(low, SEEDS, sizes=SIZES))
    soon = {
        "relearning delay": {k: {"delay": 0.2, "steps": 2, "steps_retrained": 10} for k in ("sgd", "adam")}
    }
    found = verdict(low, SEEDS, sizes=SIZES, attacks=soon)
    assert str(found).startswith("Verdict: under-forgotten, different.")
    assert "though not in forgetting" not in str(found) and "it had not been forgotten" in str(found)


def test_the_goal_names_its_reference():
    assert "exactly these samples" in str(verdict(SAME, SEEDS, goal="untrain"))
    assert "any sample of the concept" in str(verdict(SAME, SEEDS, goal="unlearn"))


@given(
    st.fixed_dictionaries({k: st.floats(0, 100) for k in ("UA", "RA", "TA", "MIA", "TFA")}), st.integers(0, 3)
)
def test_no_figures_are_ever_called_certified(scores, seeds):
    found = verdict(scores, SEEDS[:seeds], sizes=SIZES)
    text = str(found).lower()
    assert not any(w in text for w in ("certif", "guarantee", "proven", "safe"))
    assert found.words and found.sentences and found.to_dict()["words"] == found.words


def test_max_gap():
    assert within_gap({"gap": {"avg": 1.5}}, 1.5) and not within_gap({"gap": {"avg": 1.6}}, 1.5)
    for scores in ({}, {"gap": {"avg": None}}, {"gap": {"avg": math.nan}}):
        with pytest.raises(ExpungeError, match="retrained model"):
            within_gap(scores, 1)
