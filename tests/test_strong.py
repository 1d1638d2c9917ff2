"""Test attacks on one model, interclass confusion, and the whole strong audit, on small real digits."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from conftest import tiny
from expunge import Classification, ExpungeError, Split
from expunge.audit.evaluation import evaluate
from expunge.audit.interclass_confusion import confuse, confusion, interclass_confusion
from expunge.audit.label_only import label_only, robustness
from expunge.audit.relearning import _delay, relearning, relearning_delay
from expunge.audit.stacked_training import train_stacked
from expunge.audit.strong import StrongSettings, strong_audit, with_strong
from expunge.data.tensors import TensorData
from expunge.methods.finetune import FineTune
from expunge.methods.retrain import Retrain, reset
from expunge.models.cnn import MLP
from expunge.training.execute import execute
from expunge.training.method import Method

TASK = Classification(10)
RECIPE = Retrain(epochs=6, lr=0.1, lr_schedule="one_cycle", batch_size=32)


@dataclass(frozen=True, kw_only=True)
class Untouched(Method):
    """Forget nothing."""

    def apply(self, run):
        pass


class Line(nn.Module):
    """Two classes on a line, separated at 0. The distance to 0 is the robustness of a sample."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(x)


def fresh(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return reset(tiny())


@pytest.fixture(scope="module")
def retrained(classifier):
    return execute(classifier.model, classifier.by_class, RECIPE, TASK).model


# ---- label-only


def test_label_only_sees_the_distance_to_the_boundary():
    generator = torch.Generator().manual_seed(0)
    sign = torch.where(torch.arange(300) % 2 == 0, -1.0, 1.0)
    far, near = (
        sign * (2 + torch.rand(300, generator=generator)),
        sign * 0.3 * torch.rand(300, generator=generator),
    )
    y = (sign > 0).long()
    test = (near[:, None] + 1e-6, y)
    members = Split.by_ids(
        (torch.cat([far, far])[:, None], torch.cat([y, y])), test, range(100), validation=0
    )
    strangers = Split.by_ids(
        (torch.cat([near, far])[:, None], torch.cat([y, y])), test, range(300), validation=0
    )
    task = Classification(2)
    known, unknown = label_only(Line(), members, task), label_only(Line(), strangers, task)
    assert known["auc"] > 0.95 and known["nonmember"] < 5
    assert unknown["auc"] == pytest.approx(0.5, abs=0.02) and unknown["nonmember"] > 95


def test_robustness_by_hand_and_inputs_it_refuses():
    data = TensorData(torch.tensor([[-100.0], [100.0], [100.0]]), torch.tensor([0, 1, 0])).samples()
    assert robustness(Line(), data, Classification(2), noises=(0.01,)).tolist() == [1, 1, 0]
    tokens = TensorData(torch.ones(2, 4, dtype=torch.long), torch.zeros(2, dtype=torch.long)).samples()
    with pytest.raises(ExpungeError, match="noise"):
        robustness(Line(), tokens, Classification(2))


# ---- relearning


def test_relearning_is_faster_with_residue(classifier, retrained):
    split = classifier.by_class
    hidden = copy.deepcopy(classifier.model)
    with torch.no_grad():
        TASK.head(hidden)[1].bias[3] -= 5
    before = {n: p.clone() for n, p in hidden.state_dict().items()}
    result = relearning_delay(hidden, retrained, classifier.model, split, TASK, most=60)
    for name in ("sgd", "adam"):
        assert result[name]["delay"] < 0.9 and result[name]["area"] > result[name]["area_retrained"]
    assert all(torch.equal(v, hidden.state_dict()[n]) for n, v in before.items())


def test_delays_by_hand():
    assert _delay(5, 10, 100) == (0.5, None) and _delay(7, 7, 100) == (1, None)
    assert _delay(5, None, 100) == (0.05, "at most")
    assert _delay(None, 10, 100) == (10, "at least")
    assert _delay(None, None, 100) == _delay(5, 0, 100) == _delay(None, 0, 100) == (None, None)


def test_relearning_counts_steps(classifier):
    known = relearning(classifier.model, classifier.by_class, TASK, goal=50, most=5)
    assert (
        known["steps"] == 0
        and len(known["curve"]) == 6
        and known["area"] == pytest.approx(np.mean(known["curve"]))
    )
    never = relearning(classifier.model, classifier.by_class, TASK, goal=101, most=3)
    assert never["steps"] is None


# ---- interclass confusion


def test_confuse_exchanges_only_labels(classifier):
    split = classifier.at_random
    confused = confuse(split, (4, 9), 20)
    true = split.train.data.labels
    assert len(confused.forget) == 20 and len(confused.train) == len(split.train)
    assert (confused.forget.labels + true[confused.forget.index] == 13).all()
    assert (confused.forget.labels != true[confused.forget.index]).all()
    assert torch.equal(confused.retain.labels, true[confused.retain.index])
    assert torch.equal(split.train.labels, true[split.train.index]) and confused.hash != split.hash
    batch = next(confused.forget.batches(4))
    assert torch.equal(batch.y, confused.forget.labels[:4])
    with pytest.raises(ExpungeError) as caught:
        confuse(split, (4, 9), 5000)
    assert len(caught.value.problems) == 2


def test_interclass_confusion_of_no_unlearning_and_of_retraining(classifier):
    recipe = Retrain(epochs=12, lr=0.1, lr_schedule="one_cycle", batch_size=32)
    options = {"pair": (4, 9), "count": 60, "fresh": fresh}
    nothing = interclass_confusion(
        classifier.model, classifier.at_random, TASK, Untouched(), recipe, **options
    )
    assert nothing["unlearned"] == nothing["original"]
    assert nothing["original"]["test"] > nothing["retrained"]["test"] + 10
    assert nothing["original"]["forget"] > nothing["retrained"]["forget"] + 30
    again = interclass_confusion(classifier.model, classifier.at_random, TASK, recipe, recipe, **options)
    assert abs(again["unlearned"]["test"] - again["retrained"]["test"]) <= 10
    assert confusion(classifier.model, classifier.at_random.test, (4, 9), TASK) < 15


# ---- all of it


def test_strong_audit_end_to_end(classifier, retrained, tmp_path):
    split = classifier.by_class
    settings = StrongSettings(shadows=4, folder=tmp_path, relearn_steps=20)
    before = {n: p.clone() for n, p in classifier.model.state_dict().items()}
    steps = []
    result = strong_audit(
        classifier.model,
        split,
        TASK,
        original=classifier.model,
        retrained=retrained,
        method=Untouched(),
        recipe=RECIPE,
        settings=settings,
        on_step=lambda *s: steps.append(s),
    )
    of = {"original": classifier.model, "unlearned": classifier.model, "retrained": retrained}
    from_evaluations = strong_audit(
        classifier.model,
        split,
        TASK,
        original=classifier.model,
        retrained=retrained,
        settings=replace(settings, attacks=("features",)),
        evaluations={name: evaluate(m, split, TASK) for name, m in of.items()},
    )
    assert (
        from_evaluations.features == result.features
        and from_evaluations.verdict.figures == result.verdict.figures
    )
    assert set(result.attacks) == {
        "U-LiRA",
        "RMIA",
        "forgetting score",
        "KLOM",
        "KLOM of data-unlearning-bench",
        "IAM",
        "RULI efficacy",
        "RULI privacy",
        "label-only",
        "relearning delay",
        "interclass confusion",
    }
    assert (
        result.attacks["U-LiRA"]["auc"] > 0.95
        and result.attacks["U-LiRA"]["auc"] == result.attacks["U-LiRA"]["auc_original"]
    )
    for form in ("KLOM", "KLOM of data-unlearning-bench"):
        assert result.attacks[form]["forget"] >= result.attacks[form]["forget_null"]
    # a method that does nothing leaves the originals as they were
    ruli, iam = result.attacks["RULI efficacy"], result.attacks["IAM"]
    assert ruli["auc"] == ruli["auc_original"] > 0.9 and result.attacks["RULI privacy"]["auc"] > 0.9
    assert iam["completeness"] == iam["completeness_original"] < 0.3 < iam["completeness_null"]
    assert "under-forgotten" in result.verdict.words and not result.limits
    assert {s[0] for s in steps} == {"original", "retrained", "unlearned"}
    assert all(torch.equal(v, classifier.model.state_dict()[n]) for n, v in before.items())
    details = with_strong({"limits": ["a"]}, result)
    from expunge.records.atomic_files import write_json
    from expunge.records.record import plain

    write_json(tmp_path / "details.json", plain(details))
    assert details["limits"] == ["a"] and details["verdict"]["words"] == result.verdict.words


def test_limits_name_attacks_that_cannot_run(classifier):
    result = strong_audit(classifier.model, classifier.at_random, TASK)
    assert set(result.attacks) == {"label-only"} and result.features and len(result.limits) == 2
    assert result.verdict.words == ["unknown"]
    assert all(any(word in t for t in result.limits) for word in ("lira", "klom", "confusion", "relearning"))


def test_settings_report_every_problem(classifier):
    with pytest.raises(ExpungeError) as caught:
        strong_audit(
            classifier.model,
            classifier.by_class,
            TASK,
            settings=StrongSettings(shadows=2, share=1.5, relearn_steps=0, attacks=("lira", "magic")),
        )
    assert len(caught.value.problems) == 4
    with pytest.raises(ExpungeError, match="the seed is -1"):
        StrongSettings(seed=-1).check()


def test_command_checks_settings_before_it_reads_files(capsys):
    from expunge.cli import main

    command = ["audit", "--data", "digits", "--model", "mlp", "--checkpoint", "none", "--original", "none"]
    assert main([*command, "--level", "strong", "--strong.share", "0", "--strong.shadows", "3"]) == 2
    errors = capsys.readouterr().err
    assert "share is 0" in errors and "shadows is 3" in errors


def test_limits_explain_skipped_attacks(classifier):
    one = StrongSettings(attacks=("lira",))
    (limit,) = strong_audit(classifier.model, classifier.at_random, TASK, settings=one).limits
    assert limit.startswith("Left out: lira. These attacks repeat") and "metadata of checkpoints" in limit
    two = StrongSettings(attacks=("confusion", "lira"))
    (limit,) = strong_audit(classifier.model, classifier.at_random, TASK, settings=two).limits
    assert limit.startswith("Left out: lira, confusion. These attacks repeat")


@pytest.mark.slow
def test_u_lira_between_never_seen_and_never_forgotten(tmp_path):
    """Compare three methods with 16 shadows on digits with some wrong labels, which a model must memorise.

    U-LiRA does not separate retraining from retraining. It separates the untouched model fully, and fine-tuning between.
    """
    digits = load_digits()
    x, y = torch.from_numpy(digits.images).float().div(16)[:, None], torch.from_numpy(digits.target).long()
    generator = torch.Generator().manual_seed(0)
    wrong = torch.randperm(800, generator=generator)[:80]
    labels = y[:800].clone()
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (80,), generator=generator)) % 10
    split = Split.by_ids((x[:800], labels), (x[800:1300], y[800:1300]), wrong.tolist(), validation=0)
    recipe = Retrain(epochs=30, lr=0.1, lr_schedule="one_cycle", batch_size=32)
    net = MLP(10, (1, 8, 8), 64)
    original = train_stacked([net], [split.train], recipe, TASK, [0], vectorised=False)[0]
    settings = StrongSettings(shadows=16, folder=tmp_path, attacks=("lira", "rmia", "challenge", "klom"))
    attacks_of = {}
    for name, method in (
        ("retrain", recipe),
        ("untouched", Untouched()),
        ("finetune", FineTune(epochs=5, lr=0.05)),
    ):
        after = execute(original, split, method, TASK).model
        attacks_of[name] = strong_audit(
            after, split, TASK, original=original, method=method, recipe=recipe, settings=settings
        ).attacks
    print({n: {a: {k: v for k, v in row.items()} for a, row in t.items()} for n, t in attacks_of.items()})
    assert attacks_of["retrain"]["U-LiRA"]["auc"] == pytest.approx(0.5, abs=0.03)
    assert attacks_of["retrain"]["RMIA"]["auc"] == pytest.approx(0.5, abs=0.05)
    assert attacks_of["untouched"]["U-LiRA"]["auc"] == attacks_of["untouched"]["U-LiRA"]["auc_original"] > 0.9
    assert 0.53 < attacks_of["finetune"]["U-LiRA"]["auc"] <= attacks_of["untouched"]["U-LiRA"]["auc"]
    assert (
        attacks_of["retrain"]["forgetting score"]["forgetting"]
        > 2 * attacks_of["untouched"]["forgetting score"]["forgetting"]
    )
    klom = attacks_of["untouched"]["KLOM"]
    assert klom["forget"] > 3 * klom["forget_null"] and klom["test"] < klom["forget"]
