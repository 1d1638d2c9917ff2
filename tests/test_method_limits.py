"""Every limit of a method's settings: the first values outside are refused by name, and those on the edge are taken."""

from __future__ import annotations

import math

import pytest

from expunge import find
from expunge.training.registry import METHODS

TINY = 1e-9
AT_LEAST_0 = (0.0, -TINY)
ABOVE_0 = (TINY, 0.0)
WHOLE_0, WHOLE_1 = (0, -1), (1, 0)
# the settings that every gradient method has
COMMON = [
    ("finetune", "epochs", *WHOLE_1),
    ("finetune", "batch_size", *WHOLE_1),
    ("finetune", "lr", *AT_LEAST_0),
    ("finetune", "momentum", *AT_LEAST_0),
    ("finetune", "weight_decay", *AT_LEAST_0),
    ("finetune", "probe_every", *WHOLE_0),
    ("finetune", "max_drop", *AT_LEAST_0),
    ("finetune", "density", *AT_LEAST_0),
    ("finetune", "density", 1.0, 1 + TINY),
    ("finetune", "clip", *ABOVE_0),
    ("finetune", "clip", None, -1.0),
    ("bad_teacher", "retain_part", *ABOVE_0),
    ("bad_teacher", "retain_part", 1.0, 1 + TINY),
    ("scrub_and_learn", "samples", *WHOLE_1),
]
# method, field, a value on the edge, the first value outside
LIMITS = [
    ("amun", "attack_steps", *WHOLE_1),
    ("amun", "radius", TINY, 0.0),
    ("assd", "dampening", *AT_LEAST_0),
    ("assd", "samples", *WHOLE_0),
    ("assd", "batch_size", *WHOLE_1),
    ("bad_teacher", "temperature", *ABOVE_0),
    ("boundary_shrink", "bound", *ABOVE_0),
    ("damp", "strength", *AT_LEAST_0),
    ("damp", "samples", *WHOLE_0),
    ("damp", "energy", *ABOVE_0),
    ("damp", "energy", 1.0, 1 + TINY),
    ("esd", "sample_steps", *WHOLE_1),
    ("fisher_forgetting", "alpha", *AT_LEAST_0),
    ("fisher_forgetting", "samples", *WHOLE_0),
    ("forsaken", "penalty", *AT_LEAST_0),
    ("gradient_ascent", "bound", *ABOVE_0),
    ("gradient_ascent", "bound", None, math.inf),
    ("ieu", "strength", *AT_LEAST_0),
    ("ieu", "noise", *AT_LEAST_0),
    ("influence", "damping", *ABOVE_0),
    ("influence", "tolerance", *ABOVE_0),
    ("influence", "samples", *WHOLE_0),
    ("influence", "iterations", *WHOLE_1),
    ("ipru", "epochs", *WHOLE_1),
    ("ipru", "batch_size", *WHOLE_1),
    ("ipru", "lr", *AT_LEAST_0),
    ("ipru", "forget_weight", *AT_LEAST_0),
    ("jit", "noise", *ABOVE_0),
    ("jit", "copies", *WHOLE_1),
    ("l1_sparse", "penalty", *AT_LEAST_0),
    ("l1_sparse", "free_epochs", *WHOLE_0),
    ("lotus", "alpha", *AT_LEAST_0),
    ("msg", "reinit", *AT_LEAST_0),
    ("msg", "reinit", 1.0, 1 + TINY),
    ("msg", "other_rate", *AT_LEAST_0),
    ("natmu", "delta", 1.0, 1 + TINY),
    ("natmu", "delta", -1.0, -1 - TINY),
    ("neg_grad_plus", "retain_share", *AT_LEAST_0),
    ("neg_grad_plus", "retain_share", 1.0, 1 + TINY),
    ("null_space", "energy", *ABOVE_0),
    ("null_space", "energy", 1.0, 1 + TINY),
    ("null_space", "samples", *WHOLE_0),
    ("retrain_ema", "ema", *AT_LEAST_0),
    ("retrain_ema", "ema", 1 - TINY, 1.0),
    ("rum", "middle_lr", *AT_LEAST_0),
    ("rum", "high_lr", *AT_LEAST_0),
    ("salun_soft", "ratio", *AT_LEAST_0),
    ("salun_soft", "ratio", 1.0, 1 + TINY),
    ("scissorhands", "reinit", *ABOVE_0),
    ("scissorhands", "reinit", 1.0, 1 + TINY),
    ("scissorhands", "ascent", *AT_LEAST_0),
    ("scissorhands", "margin", *AT_LEAST_0),
    ("scrub", "max_epochs", *WHOLE_0),
    ("scrub", "forget_batch_size", *WHOLE_1),
    ("scrub", "alpha", *AT_LEAST_0),
    ("scrub", "gamma", *AT_LEAST_0),
    ("scrub", "temperature", *ABOVE_0),
    ("selective_amnesia", "pool", *WHOLE_1),
    ("selective_amnesia", "fisher_samples", *WHOLE_1),
    ("selective_amnesia", "sample_steps", *WHOLE_1),
    ("sfron", "strength", *AT_LEAST_0),
    ("sfron", "exponent", *AT_LEAST_0),
    ("sfron", "every", *WHOLE_1),
    ("sfron", "threshold", *AT_LEAST_0),
    ("sfron", "samples", *WHOLE_0),
    ("sfron", "forget_clip", *ABOVE_0),
    ("sfron", "beta", *ABOVE_0),
    ("sfron", "beta", 1.0, 1 + TINY),
    ("sisa", "shards", *WHOLE_1),
    ("sisa", "slices", *WHOLE_1),
    ("sisa", "epochs", *WHOLE_1),
    ("sisa", "batch_size", *WHOLE_1),
    ("ssd", "alpha", *ABOVE_0),
    ("ssd", "batch_size", *WHOLE_1),
    ("ssd", "dampening", *AT_LEAST_0),
    ("ssd", "samples", *WHOLE_0),
    ("tarf", "strength", *AT_LEAST_0),
    ("tarf", "calm_epochs", *WHOLE_0),
    ("tarf", "find_epochs", *WHOLE_0),
    ("tarf", "beta", *AT_LEAST_0),
    ("ts_bgrm", "ascent_epochs", *WHOLE_0),
    ("ugradsl", "p", *AT_LEAST_0),
    ("ugradsl", "p", 1.0, 1 + TINY),
    ("ugradsl", "smoothing", 0.0, TINY),
    ("ugradsl", "max_rate", *AT_LEAST_0),
    ("wf_net", "epochs", *WHOLE_1),
    ("wf_net", "batch_size", *WHOLE_1),
    ("wf_net", "lr", *AT_LEAST_0),
    ("wf_net", "forget_weight", *AT_LEAST_0),
]


@pytest.mark.parametrize(("name", "field", "edge", "outside"), [*COMMON, *LIMITS])
def test_the_edge_is_taken_and_the_first_value_outside_is_refused(name, field, edge, outside):
    kind = find(name)
    assert kind(**{field: edge}).problems() == []
    (problem,) = kind(**{field: outside}).problems()
    assert problem.startswith(f"{field} is {outside}; ")


@pytest.mark.parametrize(
    ("name", "settings", "edge", "words"),
    [
        (
            "amun",
            {"radius": 0.5, "max_radius": 0.4},
            {"radius": 0.5, "max_radius": 0.5},
            "at most max_radius, 0.4",
        ),
        (
            "l1_sparse",
            {"epochs": 3, "free_epochs": 4},
            {"epochs": 3, "free_epochs": 3},
            "number of epochs, 3",
        ),
        (
            "nhle",
            {"loss_kind": "ce", "clip": None},
            {"loss_kind": "ce", "clip": 1.0},
            "is unbounded and needs clip",
        ),
        ("ugradsl", {"smoothing": 0.1}, {"smoothing": 0.1, "allow_positive": True}, "Set allow_positive"),
    ],
)
def test_limits_that_depend_on_another_setting(name, settings, edge, words):
    kind = find(name)
    assert kind(**edge).problems() == []
    (problem,) = kind(**settings).problems()
    assert words in problem


@pytest.mark.parametrize("name", sorted({row[0] for row in LIMITS}))
def test_all_wrong_settings_of_a_method_are_named_at_once(name):
    wrong = {field: outside for method, field, _, outside in LIMITS if method == name}
    assert len(find(name)(**wrong).problems()) == len(wrong)


def test_every_method_with_limits_of_its_own_is_listed():
    own = {name for name in METHODS.names() if "problems" in vars(find(name))}
    assert own <= {row[0] for row in LIMITS} | {"nhle"}
