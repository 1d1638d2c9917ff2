"""Test the audit of generators on models and judges with known answers."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from torch import nn

from expunge.audit.generators import JudgedImages, audit_generator, generate_and_judge
from expunge.audit.image_distances import distances, network_distances
from expunge.audit.image_judge import Judge, train_judge
from expunge.audit.learned_condition import LearnedCondition, condition_tables
from expunge.audit.pictures import png
from expunge.audit.recovery_attacks import Recovery, RecoveryAttack, RecoveryGoal
from expunge.cli.erase_audit import attack_line
from expunge.cli.terminal import print_attack
from expunge.data.split import Split
from expunge.data.tensors import TensorData
from expunge.data.transforms import CropFlip
from expunge.errors import ExpungeError, ModelError
from expunge.generation.runs import Generation, without_crops
from expunge.methods.retrain import Retrain
from expunge.sources.loading import load
from expunge.tasks.classification import Classification
from expunge.tasks.diffusion import Diffusion
from expunge.tasks.sampling import Sampler

SHAPE = (1, 4, 4)


def images(y, seed=0):
    """Return images. Class k has the brightness 0.1 + 0.3 k and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    return (0.1 + 0.3 * y.float())[:, None, None, None].expand(-1, *SHAPE) + 0.02 * torch.rand(
        len(y), *SHAPE, generator=generator
    )


@pytest.fixture(scope="module")
def split():
    y = torch.arange(90) % 3
    return Split.by_class((images(y), y), (images(y[:30], 1), y[:30]), 1, validation=0.0)


class Nearest(nn.Module):
    """Classify by mean brightness, with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3)
        with torch.no_grad():  # logits -(m - c)^2 up to what all classes share: 2 c m - c^2
            centre = torch.tensor([0.11, 0.41, 0.71])
            self.head.weight.copy_(200 * centre[:, None])
            self.head.bias.copy_(-100 * centre**2)

    def forward(self, x):
        return self.head(x.flatten(1).mean(1, keepdim=True))


@pytest.fixture(scope="module")
def judge():
    return Judge(Nearest(), Classification(3), 100.0)


class Paints(nn.Module):
    """Predict the noise on a flat image with the brightness of class `shown[y]`. The null condition shows class 0."""

    def __init__(self, shown=(0, 1, 2, 0)):
        super().__init__()
        self.shades = nn.Embedding(4, 1)
        with torch.no_grad():
            self.shades.weight.copy_(0.11 + 0.3 * torch.tensor([float(s) for s in shown])[:, None])
        self.task = Diffusion(3)

    def forward(self, x, t, y):
        a = self.task.signal[t].view(-1, 1, 1, 1)
        return (x - a.sqrt() * (2 * self.shades(y)[:, :, None, None] - 1)) / (1 - a).sqrt()


def judged(model, split, judge):
    return generate_and_judge(
        model, split, Diffusion(3), judge, sampler=Sampler(steps=5, guidance=0.0), per_class=8
    )


def test_scores_of_known_generators(split, judge):
    faithful, forgot = judged(Paints(), split, judge), judged(Paints((0, 2, 2, 0)), split, judge)
    assert faithful.scores["UA"] == 0 and faithful.scores["RA"] == 100
    assert forgot.scores["UA"] == 100 and forgot.scores["RA"] == 100
    assert forgot.redistribution == [0, 0, 1] and faithful.redistribution == [0, 1, 0]
    assert forgot.per_class == [100, 0, 100]


def test_given_images_are_judged_without_generating(split, judge):
    first = judged(Paints(), split, judge)
    again = generate_and_judge(None, split, Diffusion(3), judge, per_class=8, images=first.images)
    assert again.scores == first.scores and torch.equal(again.images, first.images)


def test_generators_train_on_uncropped_images():
    y = torch.arange(60) % 3
    data = TensorData(torch.full((60, 1, 8, 8), 255, dtype=torch.uint8), y, augment=CropFlip(4))
    split = Split.by_class(data, (images(y, 1), y), 1, validation=0.0)
    whole, generator = without_crops(split), torch.Generator().manual_seed(0)
    assert whole.hash == split.hash and split.forget.data.augment == CropFlip(4)
    for samples in (whole.forget, whole.retain, whole.train):
        assert samples.data.augment == CropFlip(0)
        assert all((b.x == 1).all() for b in samples.batches(20, augment=generator))
    assert not all((b.x == 1).all() for b in split.train.batches(20, augment=generator))
    plain = Split.by_class((images(y), y), (images(y, 1), y), 1, validation=0.0)
    assert without_crops(plain) is plain


def test_black_images_do_not_count_as_unlearning(split, judge):
    black = judged(Paints((0, 0, 0, 0)), split, judge).scores
    assert black["UA"] == 100 and black["RA"] == 50
    assert black["FID_judge"] > 10 * judged(Paints(), split, judge).scores["FID_judge"]


def test_scores_equal_their_definitions(split, judge):
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])
    predictions = judge.predict(images(torch.tensor([0, 1, 1, 2, 0, 0, 2, 2])), labels)
    real = judge.predict(images(torch.tensor([0, 0, 2, 2])), torch.tensor([0, 0, 2, 2]))
    generated = JudgedImages(
        torch.zeros(8, *SHAPE), labels, predictions, split, real.features, torch.tensor([0, 0, 2, 2])
    )
    assert generated.scores["UA"] == 75 and generated.scores["RA"] == 75
    p = predictions.logits[2:6].double().softmax(1)
    assert generated.scores["confidence"] == pytest.approx(100 * p[:, 1].mean().item())
    assert generated.scores["entropy"] == pytest.approx(
        -(p * p.log()).nan_to_num().sum(1).mean().item(), abs=1e-6
    )
    f, r = predictions.features[:, 0].double(), real.features[:, 0].double()
    spread = lambda a, b: (a.var() + b.var()) / 2  # noqa: E731
    assert generated.scores["diversity"] == pytest.approx(
        100 * (spread(f[:2], f[6:]) / spread(r[:2], r[2:])).item(), rel=1e-5
    )


def test_frechet_and_kernel_distance_equal_their_formulas():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 4)), rng.normal(0.3, 1.4, size=(300, 4))
    result = distances(torch.tensor(a), torch.tensor(b), subsets=200, subset_size=300)
    ca, cb = np.cov(a.T), np.cov(b.T)
    fid = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert result["FID_judge"] == pytest.approx(fid, rel=1e-3)
    kernel = lambda x, y: (x @ y.T / 4 + 1) ** 3  # noqa: E731
    within = lambda x: (kernel(x, x).sum() - np.trace(kernel(x, x))) / (300 * 299)  # noqa: E731
    assert result["KID_judge"] == pytest.approx(within(a) + within(b) - 2 * kernel(a, b).mean(), rel=1e-3)
    assert distances(torch.tensor(a), torch.tensor(a))["FID_judge"] == pytest.approx(0, abs=1e-3)
    with pytest.raises(ExpungeError, match="at least two"):
        distances(torch.zeros(1, 4), torch.zeros(5, 4))


def test_distances_in_the_features_of_a_user_network():
    real, generated = torch.rand(40, *SHAPE), torch.rand(40, *SHAPE) * 0.5
    result = network_distances(
        real, generated, nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).eval(), "mine", subset_size=20
    )
    assert set(result) == {"FID_mine", "KID_mine"} and result["FID_mine"] > 0
    flat = network_distances(
        real, generated, nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(16, 16)), "x", batch_size=7
    )
    assert set(flat) == {"FID_x", "KID_x"}


def test_audit_compares_models_and_states_limits(split, judge):
    before, after, reference = (
        judged(Paints(s), split, judge) for s in ((0, 1, 2, 0), (0, 2, 2, 0), (0, 0, 2, 0))
    )
    result = audit_generator(after, judge, original=before, retrained=reference)
    assert [i["title"] for i in result.details["images"]] == [
        "before",
        "after",
        "retrained without the class",
    ]
    assert result.scores["gap"] == {"UA": 0, "RA": 0, "avg": 0}
    assert result.details["worst_class"]["drop"] == 0
    assert "gap" not in audit_generator(after, judge).scores
    assert any("retrained" in text for text in audit_generator(after, judge).limits)


def test_pictures_keep_contrast():
    from PIL import Image

    grey = torch.full((6, 1, 4, 4), 0.25)
    sheet = Image.open(io.BytesIO(base64.b64decode(png(grey, 3))))
    assert sheet.size == (3 * 5 - 1, 2 * 5 - 1)
    assert np.asarray(sheet)[:4, :4].max() == np.asarray(sheet)[:4, :4].min() == 64
    assert Image.open(io.BytesIO(base64.b64decode(png(grey.expand(-1, 3, -1, -1), 2)))).mode == "RGB"


def test_weak_judge_is_refused(split):
    with pytest.raises(ExpungeError, match="below 80"):
        train_judge(split, lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), Retrain(epochs=1, lr=1e-6))


def test_good_judge_is_accepted(split):
    judge = train_judge(
        split,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3)),
        Retrain(epochs=60, lr=0.05, lr_schedule="constant", batch_size=30),
    )
    assert judge.accuracy > 95


# ---- attacks


def test_learned_condition_changes_one_row_and_no_parameter():
    model = Paints((0, 2, 2, 0))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    changed = LearnedCondition(model, 4, 1)
    x, t = torch.randn(4, *SHAPE), torch.full((4,), 500)
    with torch.no_grad():
        changed.rows[0].fill_(0.9)
    for condition in (0, 2, 3):
        y = torch.full((4,), condition)
        torch.testing.assert_close(changed(x, t, y), model(x, t, y))
    y = torch.ones(4, dtype=torch.int64)
    assert not torch.allclose(changed(x, t, y), model(x, t, y))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [n for n, p in changed.named_parameters() if p.requires_grad] == ["rows.0"]


def test_models_without_a_table_are_refused():
    with pytest.raises(ModelError, match="no embedding of 4"):
        condition_tables(nn.Linear(3, 3), 4)


def test_both_attacks_bring_a_hidden_class_back(split, judge):
    attack = RecoveryAttack(
        steps=60,
        every=10,
        lr=0.05,
        relearn_lr=0.02,
        count=8,
        batch_size=16,
        sampler=Sampler(steps=4, guidance=0.0),
    )
    goal = RecoveryGoal(task=Diffusion(3), samples=split.forget, judge=judge, target=1)
    hidden = Paints((0, 2, 2, 0))  # the model can still generate class 1, but condition 1 shows class 2
    for run in (attack.learned_condition, attack.relearn):
        result = run(hidden, goal)
        assert result.curve[0] == (0, 0.0)
        assert result.steps is not None and 0 < result.steps <= 60
        assert result.to_dict()["highest"] >= 50
    assert attack.relearn(Paints(), goal).steps == 0


def test_each_attack_tells_how_far_it_is(split, judge, capsys):
    said = []
    attack = RecoveryAttack(
        steps=2, every=1, count=4, batch_size=4, sampler=Sampler(steps=2, guidance=0.0), label=" of “x”",
        on_progress=lambda *what: said.append(what),
    )  # fmt: skip
    goal = RecoveryGoal(task=Diffusion(3), samples=split.forget, judge=judge, target=1)
    result = attack.both({"original": Paints(), "unlearned": Paints((0, 2, 2, 0))}, goal)
    last = [(what, step) for what, step, _, ended in said if ended]
    assert last == [("learned condition of “x”, original", 2), ("learned condition of “x”, unlearned", 2),
                    ("relearning of “x”, original", 0), ("relearning of “x”, unlearned", 2)]  # fmt: skip
    assert len(said) == 10, "also each evaluation before the last"
    back = (
        "relearning: original back after 0 steps, unlearned not back within 2 steps (at most 0 % recognised)"
    )
    assert attack_line("relearning", result["relearning"]) == back
    for what in said:
        print_attack(*what)
    shown = capsys.readouterr().err.splitlines()
    # the first line of each attack is shown at once, and its last one; one attack ended with its first
    assert len(shown) == 7
    assert "relearning of “x”, original: step 0, 100 % of the images recognised" in shown
    assert [line.partition(":")[0] for line in shown] == [
        what for what, _ in last for _ in range(1 if what == "relearning of “x”, original" else 2)
    ]


def test_the_help_names_the_cost_of_the_attacks():
    from expunge.cli.erase_flags import JudgeFlags

    attack = RecoveryAttack()
    assert f"{4 * attack.steps} training steps ({attack.steps} steps, 2 attacks" in " ".join(
        JudgeFlags.__doc__.split()
    )
    assert f"every {attack.every} steps" in " ".join(JudgeFlags.__doc__.split())


def test_recovery_counts_steps_to_the_threshold():
    assert Recovery([(0, 0.0), (25, 40.0), (50, 50.0), (75, 100.0)]).steps == 50
    assert Recovery([(0, 10.0)]).steps is None
    assert Recovery().to_dict() == {"curve": [], "threshold": 50.0, "steps": None, "highest": None}
    assert Recovery([(0, 10.0), (5, 80.0)], threshold=90).to_dict() == {
        "curve": [(0, 10.0), (5, 80.0)],
        "threshold": 90,
        "steps": None,
        "highest": 80.0,
    }


def test_network_name_must_not_be_judge():
    from expunge.cli.feature_network import feature_network

    with pytest.raises(ExpungeError, match="FID_judge"):
        feature_network("tiny_pipelines:judge", "cpu")


def test_a_generation_forgets_from_the_training_set():
    source = load("digits")
    generation = Generation.of(source, "digits", 3, validation=0.2)
    split = generation.split
    assert len(split.train) + len(split.validation) <= len(source.train) and len(split.test.data) == len(
        source.test
    )
    # all of the class: what is requested is never held out
    assert split.sizes["forget"] == int((source.train.labels == 3).sum()) == 146
