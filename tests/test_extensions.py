"""Methods, measures, sources and models of a user: objects, `package.module:Class`, entry points, grids, commands, records."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import expunge
from expunge import (
    Classification,
    ExpungeError,
    Measure,
    Retrain,
    SalUn,
    Split,
    Task,
    audit,
    experiment,
    train,
)
from expunge.audit import evaluate, find_measure, measure_names
from expunge.audit.measure import RESERVED, compute_measures, make_measures
from expunge.audit.measures.redistribution_entropy import RedistributionEntropy
from expunge.audit.measures.tow import ToW
from expunge.bench.grid import read_grid
from expunge.cli.app import main
from expunge.errors import ModelError
from expunge.models import build
from expunge.own_code import source_of
from expunge.pipeline import Pipeline
from expunge.receipts.issue import issue
from expunge.receipts.verify import verify
from expunge.records.record import plain
from expunge.report import page
from expunge.report.glossary import CLASSIFIER
from expunge.sources import check_spec, load
from expunge.training.registry import METHODS

RECIPE = Retrain(epochs=2, lr=0.1, batch_size=64)
MODULE = """
from dataclasses import dataclass
import torch
from torch import nn
from expunge import GradientMethod, Measure
from expunge.methods.finetune import FineTune

@dataclass(frozen=True, kw_only=True)
class Keep(GradientMethod):
    \"\"\"Descend on the retain set.\"\"\"

    def loss(self, run, forget, retain):
        return run.task.loss(run.model, retain).mean()

class Confidence(Measure):
    name = "confidence"
    glossary = "Mean confidence in the labels of the forget set."

    def compute(self, unlearned, original, retrained, task):
        return 100 * unlearned.forget.confidence.mean().item()

class Noise(Measure):
    name = "noise"
    glossary = "Needs a diffusion model."
    needs = ("noise",)

    def compute(self, unlearned, original, retrained, task):
        return 0.0

def points(path="60", spec=""):
    n = int(path)
    return (torch.arange(4.0 * n).reshape(n, 4) % 7, torch.arange(n) % 3), (torch.ones(30, 4), torch.arange(30) % 3)

def network(num_classes, shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[-1] * shape[-2] if len(shape) > 1 else shape[0], num_classes))
"""
POINTS = """[expunge.methods]
keep = user_code:Keep
broken = no_such_module:Method
[expunge.measures]
sureness = user_code:Confidence
[expunge.sources]
points = user_code:points
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with entry points: a module, and the metadata that pip leaves of it."""
    (tmp_path / "user_code.py").write_text(MODULE)
    info = tmp_path / "user_code-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: user-code\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("user_code", None)


@pytest.fixture(scope="module")
def world():
    data = load("digits?limit=600")
    split, task = Split.by_class(data.train, data.test, 3), Classification(10)
    torch.manual_seed(0)
    model = train(build("mlp", num_classes=10, shape=data.shape), split, RECIPE, task).model
    gold = expunge.unlearn(model, split, RECIPE, task)
    original, retrained = evaluate(model, split, task), evaluate(gold, split, task)
    return SimpleNamespace(
        split=split, task=task, model=model, gold=gold, original=original, retrained=retrained, data=data
    )


def scored(**scores):
    return SimpleNamespace(scores=scores)


class Half(Measure):
    name = "half"
    glossary = "Always a half."

    def compute(self, unlearned, original, retrained, task):
        return 0.5


# ---- measures


def test_tow_is_the_product_worked_out_by_hand():
    own, reference = scored(UA=15.0, RA=99.0, TA=90.0), scored(UA=10.0, RA=100.0, TA=92.0)
    assert ToW().compute(own, None, reference, None) == pytest.approx(0.95 * 0.99 * 0.98)
    assert ToW().compute(own, None, own, None) == 1


def test_redistribution_entropy_is_that_of_the_shares():
    def value(*shares):
        forget = SimpleNamespace(shares=torch.tensor(shares, dtype=torch.float64))
        return RedistributionEntropy().compute(SimpleNamespace(forget=forget), None, None, None)

    assert value(1.0, 0.0, 0.0) == 0 and value(0.25, 0.25, 0.25, 0.25) == 2
    assert value(0.5, 0.25, 0.25) == 1.5


def test_every_builtin_measure_has_a_glossary_entry_and_the_name_of_its_file():
    for file in measure_names():
        measure = find_measure(file)
        assert measure.name.lower() == file and find_measure(measure.name) is measure
        assert measure.glossary.endswith(".") and 5 <= len(measure.glossary.split()) <= 25


def test_every_score_of_an_audit_has_a_glossary_entry(world):
    result = audit(world.model, world.split, world.task, retrained=world.retrained, measures=measure_names())
    entries = {*CLASSIFIER, *result.details["measures"]}
    assert set(result.scores) - {"gap"} <= entries
    assert all(m["glossary"] for m in result.details["measures"].values())
    assert set(CLASSIFIER) <= set(RESERVED)


def test_a_measure_without_glossary_or_with_the_name_of_a_score_is_refused():
    with pytest.raises(TypeError, match="NoGlossary has no `glossary`"):

        class NoGlossary(Measure):
            name = "x"

            def compute(self, *inputs): ...

    with pytest.raises(TypeError, match="a score of the standard audit"):

        class Stolen(Measure):
            name = "UA"
            glossary = "Something else."

            def compute(self, *inputs): ...


@pytest.mark.parametrize("form", [Half, Half(), f"{__name__}:Half"])
def test_names_classes_and_instances_are_measured_and_leave_the_gap(world, form):
    plain_audit = audit(world.model, world.split, world.task, retrained=world.retrained)
    result = audit(world.model, world.split, world.task, retrained=world.retrained, measures=[form])
    assert result.scores["half"] == 0.5 and result.scores["gap"] == plain_audit.scores["gap"]
    assert {k: v for k, v in result.scores.items() if k != "half"} == plain_audit.scores


def test_a_measure_sees_models_sets_and_task(world):
    seen = {}

    class Look(Measure):
        name = "look"
        glossary = "Looks at what it gets."

        def compute(self, unlearned, original, retrained, task):
            seen.update(model=unlearned.model, split=unlearned.split, gold=retrained.model, task=task)

    audit(world.model, world.split, world.task, retrained=world.gold, measures=[Look])
    assert seen["model"] is world.model and seen["gold"] is world.gold
    assert seen["split"] is world.split and seen["task"] is world.task


def test_what_cannot_be_measured_is_refused_before_anything_runs(world):
    class Never(nn.Linear):
        def forward(self, x):
            raise AssertionError("the model ran")

    never = Never(1, 1)

    class NeedsNoise(Half):
        name = "needs_noise"
        needs = ("noise",)

    with pytest.raises(ModelError, match=r"the measure needs_noise needs .* noise .*another measure"):
        audit(never, world.split, world.task, measures=[NeedsNoise])
    with pytest.raises(ModelError, match="the measure needs_noise"):
        Pipeline(split=world.split, task=world.task, measures=[NeedsNoise])
    with pytest.raises(ExpungeError, match="ToW compares with a retrained model"):
        experiment(never, world.split, "salun", world.task, measures=["ToW"])
    with pytest.raises(ExpungeError, match=r"no measure 'nope'; known: .*tow.*package.module:Class"):
        make_measures(["nope"])
    with pytest.raises(ExpungeError, match="two measures are called 'half'"):
        make_measures([Half, Half()])
    with pytest.raises(ExpungeError, match="give a list of measures"):
        make_measures("ToW")
    with pytest.raises(ExpungeError, match="is no measure"):
        make_measures([SalUn])


def test_a_measure_that_fails_has_no_value_and_is_named(world):
    class Fails(Half):
        name = "fails"

        def compute(self, *inputs):
            raise KeyError("column")

    class Infinite(Half):
        name = "infinite"

        def compute(self, *inputs):
            return float("inf")

    with pytest.warns(RuntimeWarning, match="The measure fails failed"):
        result = audit(world.model, world.split, world.task, measures=[Fails, Infinite, Half])
    assert result.scores["fails"] is None and result.scores["infinite"] is None
    assert result.scores["half"] == 0.5 and any("KeyError" in text for text in result.limits)
    assert compute_measures([ToW()], world.original, None, None, world.task) == ({"ToW": None}, [])


def test_every_outcome_of_a_pipeline_is_measured_and_the_report_explains_it(world):
    factory = lambda: build("mlp", num_classes=10, shape=world.data.shape)  # noqa: E731
    pipeline = Pipeline(
        split=world.split, task=world.task, factory=factory, recipe=RECIPE, measures=["ToW", Half]
    )
    outcomes = pipeline.run({"salun": SalUn(epochs=1, batch_size=64)})
    values = [o.record.scores["ToW"] for o in outcomes]
    assert values[1] == 1 and 0 <= values[0] <= 1 and 0 <= values[2] <= 1
    text = page([o.record for o in outcomes])
    assert ToW.glossary in text and "Always a half." in text


# ---- records and receipts


def test_record_and_receipt_name_the_code(world, tmp_path):
    outcome = experiment(world.model, world.split, SalUn(epochs=1, batch_size=64), world.task)
    stored = outcome.record.details["implementation"]
    source = Path(sys.modules["expunge.methods.salun"].__file__).read_bytes()
    assert stored == {
        "class": "expunge.methods.salun:SalUn",
        "source_sha256": hashlib.sha256(source).hexdigest(),
    }
    receipt, _ = issue(outcome.record, world.split.forget.ids)
    assert receipt.statement["implementation"] == stored
    path = receipt.save(tmp_path / "r.json")
    assert all(c.ok for c in verify(path))


@pytest.mark.parametrize(
    "wrong", [{"class": "a:B"}, {"class": 1, "source_sha256": None}, {"class": "a:B", "source_sha256": "x"}]
)
def test_a_receipt_with_a_wrong_implementation_does_not_hold(world, wrong):
    from dataclasses import replace

    outcome = experiment(world.model, world.split, SalUn(epochs=1, batch_size=64), world.task)
    receipt, _ = issue(outcome.record, world.split.forget.ids)
    changed = replace(receipt, statement={**receipt.statement, "implementation": wrong})
    assert not all(c.ok for c in verify(changed))
    old = {k: v for k, v in receipt.statement.items() if k != "implementation"}
    assert all(c.ok for c in verify(replace(receipt, statement=old)))


@pytest.mark.slow  # a process of its own
def test_a_method_of_a_script_is_named_by_the_script(package):
    (package / "script.py").write_text(
        MODULE + "from expunge.own_code import source_of\nprint(source_of(Keep)['class'])\n"
    )
    paths = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run(
        [sys.executable, "script.py"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "script:Keep", run.stderr


# ---- entry points


def test_entry_points_are_found_by_name(package, world):
    keep, sure = expunge.find("keep"), find_measure("sureness")
    assert keep.__module__ == sure.__module__ == "user_code"
    assert "keep" in expunge.names() and "sureness" in measure_names()
    outcome = experiment(world.model, world.split, "keep", world.task, measures=["sureness"])
    assert outcome.record.method == "user_code:Keep" and 0 <= outcome.record.scores["confidence"] <= 100
    assert outcome.record.details["measures"]["confidence"]["class"] == "user_code:Confidence"
    assert outcome.record.details["implementation"] == source_of(keep)


def test_sources_of_entry_points_take_path_and_options(package):
    assert len(load("points").train) == 60 and len(load("points:90").train) == 90
    assert len(load("points:90?limit=30&test_limit=3").train) == 30
    assert load("points").name == "points"
    with pytest.raises(ExpungeError, match="'color' is no option of points"):
        check_spec("points?color=red")
    with pytest.raises(ExpungeError, match=r"no data 'pints'; known: .*points"):
        check_spec("pints")


def test_a_broken_entry_point_names_its_package(package):
    with pytest.raises(
        ExpungeError, match=r"entry point 'broken' \(no_such_module:Method\) cannot be imported"
    ):
        expunge.find("broken")
    with pytest.warns(RuntimeWarning, match="repair or uninstall its package"):
        assert "keep" in METHODS.classes()


# ---- grids and commands

GRID = """
data = ["digits?limit=600"]
models = ["user_code:network"]
seeds = [0]
measures = ["ToW", "sureness"]
[recipe]
epochs = 1
[[split]]
forget_share = 0.1
[[method]]
name = "user_code:Keep"
settings = { epochs = 1 }
"""


@pytest.mark.filterwarnings("ignore:the entry point 'broken'")
def test_a_grid_runs_code_of_the_user_again_when_it_changes(package, capsys):
    (package / "g.toml").write_text(GRID)
    arguments = ["bench", "g.toml", "--jobs", "1", "--out", "cache", "--results", "results"]
    assert main(arguments) == 0, capsys.readouterr().err
    runs = json.loads((package / "results/g.json").read_text())["runs"]
    assert [r["label"] for r in runs] == ["Original", "Retrain", "user_code:Keep"]
    assert all({"ToW", "confidence"} <= set(r["scores"]) for r in runs) and runs[1]["scores"]["ToW"] == 1
    before = read_grid(package / "g.toml").jobs[0].key()
    assert before == read_grid(package / "g.toml").jobs[0].key()
    (package / "user_code.py").write_text(MODULE + "# changed\n")
    # the code that runs is still that of the first import; a new process imports the changed file
    assert read_grid(package / "g.toml").jobs[0].key() == before
    sys.modules.pop("user_code")
    assert read_grid(package / "g.toml").jobs[0].key() != before


@pytest.mark.filterwarnings("ignore:the entry point 'broken'")
def test_a_grid_names_what_is_wrong_with_code_of_the_user(package):
    text = GRID.replace("user_code:Keep", "user_code:Confidence").replace("sureness", "user_code:Noise")
    (package / "g.toml").write_text(text)
    with pytest.raises(ExpungeError) as refusal:
        read_grid(package / "g.toml")
    assert "'user_code:Confidence' is no method" in str(refusal.value)
    assert "the measure noise needs" in str(refusal.value)


def test_commands_take_measures_and_refuse_early(package, capsys):
    model = ["--data", "digits?limit=600", "--model", "mlp"]
    forget = [*model, "--forget-class", "3"]
    train_flags = ["--epochs", "1", "--batch-size", "64"]
    assert main(["train", *model, *train_flags, "--out", "o.safetensors"]) == 0
    assert main(["train", *forget, *train_flags, "--without-forget", "--out", "r.safetensors"]) == 0
    start = ["--checkpoint", "o.safetensors", "--epochs", "1"]
    common = ["--measure", "ToW", "--measure", "sureness"]
    command = ["unlearn", "user_code:Keep", *forget, *start, *common]
    assert main(command) == 2
    assert "ToW compares with a retrained model" in capsys.readouterr().err
    assert main([*command, "--retrained", "r.safetensors"]) == 0
    assert "extra measures" in capsys.readouterr().out
    record = json.loads((package / "o-user_code.Keep.json").read_text())
    assert {"ToW", "confidence"} <= set(record["scores"])
    audited = [
        "audit",
        *forget,
        "--checkpoint",
        "o-user_code.Keep.safetensors",
        "--original",
        "o.safetensors",
    ]
    assert main([*audited, "--measure", "user_code:Noise"]) == 2
    assert "the measure noise needs" in capsys.readouterr().err
    assert main([*audited, "--measure", "sureness", "redistribution_entropy", "--out", "a.json"]) == 0
    assert "redistribution_entropy" in json.loads((package / "a.json").read_text())["scores"]


# ---- bench in Python


def test_bench_takes_objects_classes_and_names(package, world):
    from user_code import Keep

    calls = []
    result = expunge.bench(
        [Keep(epochs=1), "finetune"],
        data="points:90",
        model="user_code:network",
        forget=[1],
        seeds=[0, 1],
        recipe=Retrain(epochs=1),
        measures=["ToW", Half],
        on_outcome=lambda label, outcome: calls.append(label),
    )
    assert calls == ["Original", "Retrain", "Keep", "finetune"] * 2 and not result.failed
    assert [o.record.seed for o in result.of("Keep")] == [0, 1]
    assert all(o.record.scores["half"] == 0.5 for o in result.outcomes)
    lines = repr(result).splitlines()
    assert lines[0].split()[0] == "method" and "ToW" in lines[0] and len(lines) == 6
    assert result._repr_html_().count("<tr>") == 5
    assert page(result.records)


def test_bench_gives_what_the_pipeline_gives(world):
    method = SalUn(epochs=1, batch_size=64)
    result = expunge.bench([method], data=world.data, model="mlp", forget="3", recipe=RECIPE)
    alone = Pipeline(
        split=world.split,
        task=world.task,
        factory=expunge.pipeline.seeded_factory(
            lambda: build("mlp", num_classes=10, shape=world.data.shape), 0
        ),
        recipe=RECIPE,
    ).run({"salun": method})
    assert [o.record.model["hash_after"] for o in result.outcomes] == [
        o.record.model["hash_after"] for o in alone
    ]
    of_split = expunge.bench([method], data=world.split, model="mlp", recipe=RECIPE)
    assert plain(of_split.outcomes[2].record.scores) == plain(result.outcomes[2].record.scores)


def test_bench_takes_a_task_of_the_user():
    class Regression(Task):
        name = "regression"
        offers = ("scores",)

        def loss(self, model, batch):
            return (model(batch.x)[:, 0] - batch.y).square()

        def sample_scores(self, model, batch):
            return ((model(batch.x)[:, 0] - batch.y).abs() < 0.5).float()

    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    arguments = dict(
        data=((x[:150], x[:150].sum(1)), (x[150:], x[150:].sum(1))), model=lambda: nn.Linear(4, 1)
    )
    result = expunge.bench(
        {"tuned": "finetune"},
        forget=0.1,
        task=Regression(),
        recipe=Retrain(epochs=1),
        measures=["ToW"],
        **arguments,
    )
    assert [o.record.task for o in result.outcomes] == ["regression"] * 3 and result.of("tuned")
    with pytest.raises(ExpungeError, match="relabel"):
        expunge.bench(["salun"], forget=0.1, task=Regression(), **arguments)
    with pytest.raises(ModelError, match=r"redistribution_entropy needs .* logits"):
        expunge.bench(
            ["finetune"], forget=0.1, task=Regression(), measures=["redistribution_entropy"], **arguments
        )


def test_bench_lists_every_wrong_argument_and_a_failure_costs_nothing_else(world):
    with pytest.raises(ExpungeError) as refusal:
        expunge.bench(["esd"], data="no_data", model=nn.Linear(2, 2))
    text = str(refusal.value)
    assert "ESD needs" in text and "no data 'no_data'" in text and "model is a Linear" in text
    assert "forget says what to forget" in text
    with pytest.raises(ExpungeError, match="give one or more, each once"):
        expunge.bench(["salun"], data="digits", model="mlp", forget=0.1, seeds=[1, 1])
    with pytest.raises(ExpungeError, match="two methods are called 'salun'"):
        expunge.bench(["salun", SalUn()], data="digits", model="mlp", forget=0.1)
    with pytest.warns(RuntimeWarning, match="bias_shift failed"):
        result = expunge.bench(
            ["bias_shift", SalUn(epochs=1)], data=world.data, model="mlp", forget=0.1, recipe=RECIPE
        )
    assert list(result.failed) == ["bias_shift, seed 0"] and len(result.outcomes) == 3
    assert "failed: bias_shift" in repr(result)
