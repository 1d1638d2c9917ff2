"""Test grids: problems of a file, finished runs, interrupted and parallel runs, the results page, and tuning."""

import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from expunge import Classification, ExpungeError, Split
from expunge.bench import Worker, default_workers, plots, run_jobs
from expunge.bench.grid import read_grid
from expunge.bench.page import page
from expunge.bench.scheduler import OutOfTime, plan_stages
from expunge.bench.tables import markdown, published_tables
from expunge.cli import main
from expunge.methods.finetune import FineTune
from expunge.methods.salun import SalUn
from expunge.methods.ugradsl import UGradSL
from expunge.models import build
from expunge.sources import load
from expunge.tasks.predictions import Predictions
from expunge.training.registry import find, names
from expunge.tuning.estimate import SetPredictions, estimated_distance, estimated_gap, expected_scores
from expunge.tuning.search import Trial, next_settings, search_space
from expunge.tuning.trials import tune

GRID = """
title = "small"
data = ["digits"]
models = ["mlp"]
seeds = [0, 1]
[recipe]
epochs = 2
[[split]]
forget_class = ["seed"]
[[split]]
forget_share = 0.1
[[method]]
name = "salun"
settings = { epochs = 1 }
vary = { density = [0.3, 0.5] }
[[method]]
name = "nhle"
settings = { epochs = 3 }
"""


def scores(entries):
    """Return entries without time and memory. The rest must not depend on how the grid was run."""
    return [{k: v for k, v in e.items() if k not in ("seconds", "peak_memory")} for e in entries]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    (folder / "small.toml").write_text(GRID)
    args = ["--out", str(folder / "cache"), "--results", str(folder), "--jobs", "1"]
    assert main(["bench", str(folder / "small.toml"), *args]) == 0
    return folder, json.loads((folder / "small.json").read_text())


def test_chosen_methods_and_seeds_give_the_same_runs_as_the_whole_grid(serial, tmp_path):
    folder, whole = serial
    args = ["bench", str(folder / "small.toml"), "--out", str(folder / "cache"), "--results", str(tmp_path)]
    assert main([*args, "--jobs", "1", "--only", "nhle", "--seeds", "1"]) == 0
    result = json.loads((tmp_path / "small.json").read_text())
    runs = result["runs"]
    assert [(e["kind"], e["label"], e["seed"]) for e in runs] == [
        ("original", "Original", 1),
        ("retrain", "Retrain", 1),
        ("unlearn", "nhle", 1),
    ]
    assert all(e in whole["runs"] for e in runs)
    assert result["about"]["command"].endswith("--only nhle --seeds 1")


def test_methods_and_seeds_that_a_grid_does_not_have_are_refused_together(serial, tmp_path, capsys):
    args = ["bench", str(serial[0] / "small.toml"), "--out", str(tmp_path), "--results", str(tmp_path)]
    assert main([*args, "--only", "scrub", "--seeds", "7"]) == 2
    error = capsys.readouterr().err
    assert "no method scrub; choose from salun, nhle" in error and "no seed 7; choose from 0, 1" in error
    assert not list(tmp_path.iterdir())


def test_result_has_every_run_and_its_references(serial):
    runs = serial[1]["runs"]
    assert sum(e["kind"] == "unlearn" for e in runs) == 2 * (3 + 2)  # nhle serves classes only
    assert sum(e["kind"] == "original" for e in runs) == sum(e["kind"] == "retrain" for e in runs) == 4
    assert {e["label"] for e in runs} >= {
        "salun, density 0.3",
        "salun, density 0.5",
        "nhle",
        "Original",
        "Retrain",
    }
    of_class = [e for e in runs if e["label"] == "nhle"]
    assert all(e["details"]["table2x2"] for e in of_class) and {e["seed"] for e in of_class} == {0, 1}
    assert serial[1]["about"]["machine"]["torch"]


def test_finished_runs_are_skipped_and_missing_ones_repeated(serial):
    folder, first = serial
    records = sorted((folder / "cache/runs").glob("*.json"))
    times = {r: r.stat().st_mtime_ns for r in records}
    records[3].unlink()
    args = ["--out", str(folder / "cache"), "--results", str(folder), "--jobs", "1"]
    assert main(["bench", str(folder / "small.toml"), *args]) == 0
    again = json.loads((folder / "small.json").read_text())
    assert scores(again["runs"]) == scores(first["runs"])
    assert all(r.stat().st_mtime_ns == t for r, t in times.items() if r != records[3]) and records[3].exists()


def bench(folder, out, jobs):
    """Return the command that runs the small grid into `out`."""
    return [
        "bench",
        str(folder / "small.toml"),
        "--out",
        str(out),
        "--results",
        str(out),
        "--jobs",
        str(jobs),
    ]


def test_interrupted_grid_gives_the_serial_table(serial, tmp_path):
    folder, first = serial
    args = bench(folder, tmp_path, 1)
    assert main([*args, "--minutes", "0"]) == 0
    assert not json.loads((tmp_path / "small.json").read_text())["runs"]
    assert main([*args, "--minutes", "0.03"]) == 0
    assert main([*args, "--minutes", "60"]) == 0
    assert scores(json.loads((tmp_path / "small.json").read_text())["runs"]) == scores(first["runs"])
    assert not list(tmp_path.rglob("*.state"))


@pytest.mark.slow
def test_two_processes_give_the_serial_table(serial, tmp_path):
    folder, first = serial
    assert main(bench(folder, tmp_path, 2)) == 0
    assert scores(json.loads((tmp_path / "small.json").read_text())["runs"]) == scores(first["runs"])


@pytest.mark.slow
def test_a_ray_cluster_gives_the_serial_table(serial, tmp_path):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    folder, first = serial
    assert main([*bench(folder, tmp_path, 2), "--ray"]) == 0
    assert scores(json.loads((tmp_path / "small.json").read_text())["runs"]) == scores(first["runs"])


def test_the_page_has_the_tables(serial, tmp_path):
    page(serial[0], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "## small" in text and "salun, density 0.3" in text and "sample standard deviation" in text
    assert list((tmp_path / "figures").glob("*.svg"))
    table = markdown([e for e in serial[1]["runs"] if e["scenario"] == "class"])
    assert table.splitlines()[2].startswith("| Original |") and table.splitlines()[3].startswith(
        "| Retrain |"
    )


def test_page_describes_every_split_differently(tmp_path):
    splits = {
        "forget the group user=a": {"forget_group": "user=a"},
        "forget the group user=b": {"forget_group": "user=b"},
        "forget the ids of ids.txt": {"forget_ids": "ids.txt"},
        "forget class 1, 2": {"forget_class": ["1", "2"]},
        "forget 50 % of class 1, goal untrain": {
            "forget_class": ["1"],
            "class_share": 0.5,
            "goal": "untrain",
        },
        "forget 10 % at random": {"forget_share": 0.1},
        "forget 10 % at random, validation 0": {"forget_share": 0.1, "validation": 0},
    }
    runs = [
        {"label": "RL", "kind": "unlearn", "data": "digits", "model": "mlp", "split": split, "scores": {"UA": ua},
         "seconds": 1.0, "status": "finished", "ended": "finished", "details": {}}
        for ua, split in enumerate(splits.values())
    ]  # fmt: skip
    about = {"title": "small", "command": "", "date": "", "machine": {}}
    (tmp_path / "small.json").write_text(json.dumps({"about": about, "runs": runs}))
    page(tmp_path, tmp_path / "page.md")
    lines = (tmp_path / "page.md").read_text().splitlines()
    assert [k for k in lines if k.startswith("### ")] == [f"### digits, mlp, {words}" for words in splits]
    assert len([k for k in lines if k.startswith("| RL |") and k.endswith("| 1 |")]) == len(splits)


def test_plot_lines_keep_all_settings_but_the_axis(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "_panels", lambda found, path: seen.append((path.name, found)) or [])
    both = list(itertools.product((0.1, 0.3, 0.5), (0.01, 0.02)))
    entry = {"kind": "unlearn", "data": "digits", "model": "mlp", "split": {"forget_share": 0.1}, "seconds": 1.0,
             "status": "finished", "ended": "finished", "details": {}}  # fmt: skip
    runs = [
        {
            **entry,
            "label": f"RL, density {d}, lr {r}",
            "scores": {"gap": {"avg": d}},
            "vary": {"density": d, "lr": r},
        }
        for d, r in both
    ]
    plots.plot_gap_by_varied(runs, tmp_path / "x.svg")
    assert seen.pop()[1] == {
        "density": {f"RL, lr {r}": {d: [d] for d in (0.1, 0.3, 0.5)} for r in (0.01, 0.02)}
    }
    shares = [
        {
            **entry,
            "label": "RL",
            "model": model,
            "split": {"forget_share": share, "validation": 0},
            "scores": {"gap": {"avg": 1}},
        }
        for share in (0.1, 0.2, 0.3)
        for model in ("mlp", "cnn")
    ]
    about = {"title": "small", "command": "", "date": "", "machine": {}}
    (tmp_path / "small.json").write_text(json.dumps({"about": about, "runs": shares}))
    page(tmp_path, tmp_path / "page.md")
    sizes = {name: found for name, found in seen if "-sizes" in name}
    assert list(sizes) == ["small-sizes.svg", "small-sizes-1.svg"]
    assert all(
        list(map(len, lines["RL"].values())) == [1, 1, 1]
        for found in sizes.values()
        for lines in found.values()
    )


def test_published_tables_stand_beside_their_split(tmp_path):
    table = {
        "source": "Somebody, 1999:",
        "split": {"forget_share": 0.1},
        "rows": [["SalUn", 2.85, 99.62, 93.93, 14.39, 1.15]],
    }
    row = '["SalUn", 2.85, 99.62, 93.93, 14.39, 1.15]'
    text = f'published = [{{ source = "Somebody, 1999:", split = {{ forget_share = 0.1 }}, rows = [{row}] }}]'
    (tmp_path / "g.toml").write_text(text + GRID)
    assert read_grid(tmp_path / "g.toml").published == [table]
    table_text = published_tables({"published": [table]}, {"forget_share": 0.1})
    assert (
        table_text.startswith("Somebody, 1999:")
        and "| SalUn | 2.85 | 99.62 | 93.93 | 14.39 | 1.15 |" in table_text
    )
    assert not published_tables({"published": [table]}, {"forget_class": ["seed"]}) and not published_tables(
        {}, {"forget_share": 0.1}
    )
    (tmp_path / "g.toml").write_text(text.replace(", 1.15", "") + GRID)
    with pytest.raises(ExpungeError, match="a published table needs"):
        read_grid(tmp_path / "g.toml")


def test_page_ends_with_the_pending_text_of_the_folder(tmp_path):
    (tmp_path / "small.json").write_text(
        json.dumps({"about": {"title": "small", "command": "", "date": "", "machine": {}}, "runs": []})
    )
    page(tmp_path, tmp_path / "page.md")
    assert (
        "not yet run" not in (tmp_path / "page.md").read_text().lower()
    )  # a user's page says nothing of ours
    (tmp_path / "_pending.md").write_text("## Larger\n\nNot yet run.\n")
    page(tmp_path, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text().endswith("## Larger\n\nNot yet run.\n")


@pytest.mark.parametrize(("text", "words"), [
    ("title = 3\nnope = 1", ["nope is no entry; known: compute, data", "title is 3; it must be a string", "data is missing; add it",
      "seeds is missing", "split is missing", "method is missing"]),
    (GRID.replace("epochs = 1", "epoch = 1"), ["'epoch' is no setting of salun"]),
    (GRID.replace("epochs = 2", "rounds = 2"), ["'rounds' is no setting of recipe"]),
    (GRID.replace('"salun"', '"salum"'), ["no method 'salum'"]),
    (GRID.replace("forget_share = 0.1", "share = 0.1"), ["'share' is no setting of split"]),
    (GRID + 'label = "salun, density 0.3"', ["two methods are called 'salun, density 0.3'"]),
    (GRID + '[[method]]\nname = "nhle"\nsettings = { epochs = 3 }\nlabel = "b"', ["'nhle' and 'b' are the same run"]),
    (GRID.replace("forget_share = 0.1", "forget_class = 'seed'"), ["split: names {'forget_class': ['seed']} twice"]),
    ('data = ["digits"]\nseeds = [0]\nsplit = ["x"]\nmethod = ["salun"]', ["split 1 is 'x'; it must be a table",
      "method 1 is 'salun'; it must be a table"]),
    ('data = ["digits"]\nseeds = [0]\nsplit = [{ forget_share = 0.1 }]\nmethod = [{ name = "nhle" }]', ["nhle (random)"]),
    ("[[", ["cannot be read"])])  # fmt: skip
def test_problems_of_a_grid_are_told_at_once(tmp_path, text, words):
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(ExpungeError) as caught:
        read_grid(tmp_path / "g.toml")
    assert all(w in str(caught.value) for w in words)


def test_values_that_no_run_could_take_are_told_before_any_and_all_at_once(tmp_path):
    (tmp_path / "g.toml").write_text("""
data = ["digits", "nope", "digits?limit=x"]
models = ["mlp", "nope"]
seeds = [0, 0, "a", -1]
threads = 1
recipe = { lr = -1 }
compute = { amp = "bfloat16" }
tune = { trials = 0 }
defaults = { epoch = 1 }
split = [{ forget_share = 1.5, validation = 2 }, { forget_share = 0.1, split_seed = 5 }, { forget_class = [1], goal = "x" },
         { forget_class = "3", class_share = 0.5 }]
method = [{ name = "salun", settings = { lr = -1, order = "mixed" } }, { name = "finetune", vary = { lr = 0.1 } },
          { name = "random_label", only = "class", vary = { density = 2 } }, { name = "ssd", only = ["klass"] },
          { name = "ugradsl", settings = { lr = "0.1" } }, { name = "nhle", vary = { density = [2] } }]
""")
    with pytest.raises(ExpungeError) as caught:
        read_grid(tmp_path / "g.toml")
    for words in (
        "seeds: names 0 twice", "seeds 3 is 'a'; it must be an integer", "seeds 4: the seed is -1", "no data 'nope'",
        "limit=x is not allowed", "no model 'nope'", "recipe: lr is -1", "compute: amp is 'bfloat16'",
        "tune, trials is 0; it must be greater than or equal to 1", "'epoch' is no setting of any", "forget_share is 1.5",
        "validation is 2", "'split_seed' is not for a grid", "goal is 'x'", "salun: lr is -1",
        "method 2, vary, lr is 0.1; it must be a list", "method 3, only is 'class'; it must be a list",
        "method 4, only 1 is 'klass'; it must be 'class', 'random', 'ids'", "ugradsl: lr is '0.1'",
        "nhle, density 2: density is 2",
    ):  # fmt: skip
        assert sum(words in p for p in caught.value.problems) == 1, words
    assert all(p.startswith("g.toml: ") for p in caught.value.problems)


def test_another_list_of_ids_under_the_same_name_is_another_run(tmp_path):
    ids = tmp_path / "ids.txt"
    (tmp_path / "g.toml").write_text(GRID.replace("forget_share = 0.1", f'forget_ids = "{ids.as_posix()}"'))
    with pytest.raises(ExpungeError, match="is no file"):
        read_grid(tmp_path / "g.toml")
    keys = []
    for text in ("1\n2\n", "1\n3\n"):
        ids.write_text(text)
        keys.append(
            [
                (j.key(), j.place, j.origin)
                for j in read_grid(tmp_path / "g.toml").jobs
                if "forget_ids" in j.split
            ]
        )
    for (run, place, origin), (run2, place2, origin2) in zip(*keys, strict=True):
        assert run != run2 and place != place2 and origin == origin2


def test_one_class_needs_no_list_and_is_not_taken_for_its_letters(tmp_path):
    (tmp_path / "g.toml").write_text(
        GRID.replace('["seed"]', '"12"').replace("forget_share = 0.1", "forget_class = 3")
    )
    jobs = read_grid(tmp_path / "g.toml").jobs
    assert {str(j.split) for j in jobs} == {"{'forget_class': ['12']}", "{'forget_class': [3]}"}


def walk(method, count, distance, fixed=()):
    """The settings of a search whose distances `distance` gives."""
    done = []
    while len(done) < count and (settings := next_settings(method, done, count, fixed)) is not None:
        done.append(Trial(settings, distance(settings), "finished"))
    return [t.settings for t in done]


@pytest.mark.parametrize("name", [n for n in names() if find(n).search])
def test_trials_begin_with_the_methods_own_settings_and_none_comes_twice(name):
    kind, method = find(name), find(name)()
    found = walk(method, 4, lambda s: 1.0)
    assert found[0] == {k: getattr(method, k) for k in kind.search}
    most = math.prod(len(values) for values in search_space(method).values())
    assert len({tuple(s.values()) for s in found}) == len(found) == min(4, most)
    assert found == walk(method, 4, lambda s: 1.0), "the same at every call"
    assert walk(method, 2, lambda s: 1.0, fixed=tuple(kind.search)) == [{}]


def test_trials_are_coarse_at_first_and_go_on_around_the_best():
    rates = SalUn.search["lr"]
    assert (SalUn().lr, rates[3]) == (0.013, 0.005), "the README's, and that of the rerun on a clean split"
    away = lambda at: lambda s: abs(math.log(s["lr"] / at))  # noqa: E731
    assert [s["lr"] for s in walk(SalUn(), 3, away(0.02))] == [0.013, 2e-3, 0.03]
    assert 0.02 in [s["lr"] for s in walk(SalUn(), 4, away(0.02))]  # between the two best
    assert 0.1 in [s["lr"] for s in walk(FineTune(), 4, away(0.1))]  # outwards from the outermost
    assert len(walk(FineTune(), 99, away(0.1))) == len(FineTune.search["lr"])
    found = walk(
        UGradSL(), 8, lambda s: abs(math.log(s["lr"] / 0.03)) + abs(s["p"] - 0.7) + abs(s["smoothing"] + 1)
    )
    assert all(len({s[name] for s in found}) > 2 for name in UGradSL.search)  # no field is left at one value


def test_tuning_prefers_the_model_that_looks_unseen_and_never_asks_for_retrain():
    torch.manual_seed(0)
    data, task = load("digits"), Classification(10)
    split = Split.by_class(data.train, data.test, forget=3)
    whole, split = split, split.without_held_out
    model = find("retrain")(epochs=3, lr=0.05, batch_size=64)
    from expunge.pipeline.experiment import train

    original = train(build("mlp", num_classes=10, shape=data.shape), split, model, task).model
    tuned = tune(original, split, find("gradient_ascent")(batch_size=64, max_drop=100), task, count=5)
    found = tuned.trials
    assert found == sorted(found, key=lambda t: t.distance) and len(found) == 5
    assert estimated_distance(original, original, split, task) > found[0].distance
    assert tuned.method.lr == found[0].settings["lr"]
    assert estimated_distance(tuned.run.model, original, split, task) == pytest.approx(found[0].distance)
    # trials on a request leave out what the original never saw, and the chosen settings run on all of it afterwards
    again = tune(original, whole, find("gradient_ascent")(batch_size=64, max_drop=100), task, count=5)
    assert [(t.settings, t.distance) for t in again.trials] == [(t.settings, t.distance) for t in found]
    assert again.run is None


def test_what_is_expected_of_retrain_comes_from_validation_samples_alone():
    """On samples whose predictions are made by hand: half of the unseen ones are wrong and unsure."""

    def said(confidences):
        p = torch.tensor(confidences)
        return Predictions(torch.stack([p, 1 - p], 1).log(), torch.zeros(len(p), dtype=torch.int64))

    unseen = SimpleNamespace(labels=torch.zeros(40, dtype=torch.int64))
    split = SimpleNamespace(forget_classes=(), scenario="random", unseen=unseen)
    sure, mixed, none = said([0.99] * 40), said([0.99, 0.2] * 20), said([])
    original = SetPredictions(sure, sure, mixed, none)
    wanted = expected_scores(original, split)
    assert wanted["RA"] == 100 and wanted["TA"] == 50 and wanted["UA"] == 50
    assert 30 < wanted["MIA"] < 70  # the unsure ones are told from members, the sure ones are not
    assert estimated_gap(SetPredictions(mixed, sure, mixed, none), wanted) < 5
    assert estimated_gap(original, wanted) > 20  # as if never unlearned
    assert (
        estimated_gap(SetPredictions(said([0.2] * 40), sure, mixed, none), wanted) > 20
    )  # more than unseen samples are
    every = torch.ones(40, dtype=torch.bool)
    of_class = expected_scores(SetPredictions(sure, sure, mixed, sure, every), split)
    assert (of_class["UA"], of_class["MIA"], of_class["TA"]) == (100, 100, 50)
    half = SetPredictions(
        said([0.2] * 40), sure, mixed, sure, every
    )  # unseen samples of the class are known as before
    assert estimated_gap(half, of_class) == pytest.approx(12.5, abs=1)


def test_what_cannot_be_tried_is_told_at_once():
    data, task = load("digits?limit=200"), Classification(10)
    split, model = (
        Split.by_class(data.train, data.test, forget=3),
        build("mlp", num_classes=10, shape=data.shape),
    )
    with pytest.raises(ExpungeError) as caught:
        tune(model, split, find("salun")(), task, count=2.5, fixed=["lrr"], by="gaps")
    assert [w for w in ("number of trials is 2.5", "['lrr']", "'gaps'") if w in str(caught.value)] == [
        "number of trials is 2.5",
        "['lrr']",
        "'gaps'",
    ]


def test_a_trial_that_ends_in_no_numbers_does_not_end_the_others():
    data, task = load("digits?limit=300"), Classification(10)
    split, model = (
        Split.by_class(data.train, data.test, forget=3),
        build("mlp", num_classes=10, shape=data.shape),
    )
    broken = nn.Sequential(model, Broken())
    assert estimated_distance(broken, model, split, task) == 100.0


class Broken(nn.Module):
    def forward(self, x):
        return x * float("nan")


def test_interrupted_trials_are_gone_on_from(tmp_path, monkeypatch):
    (tmp_path / "g.toml").write_text(GRID.replace("vary = { density = [0.3, 0.5] }", ""))
    job = next(j for j in read_grid(tmp_path / "g.toml", tuned="validation").jobs if j.method == "nhle")
    whole = Worker(tmp_path / "one").method(job)
    worker, asked = Worker(tmp_path / "two"), []

    def stop():
        asked.append(len(list((tmp_path / "two/tuned").glob("*.part"))))
        if len(asked) == 12:
            raise OutOfTime

    monkeypatch.setattr(worker, "check_time", stop)
    with pytest.raises(OutOfTime):
        worker.method(job)
    monkeypatch.undo()
    assert asked[-1] == 1 and worker.method(job) == whole  # some trials were done
    tables = [json.loads(f.read_text()) for f in tmp_path.glob("*/tuned/*.json")]
    for table in tables:
        for trial in table["trials"]:
            assert trial.pop("seconds") > 0
    assert tables[0] == tables[1] and len(tables[0]["trials"]) == 4
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*.state"))


def test_tuned_settings_never_move_what_the_grid_fixes(tmp_path):
    (tmp_path / "g.toml").write_text(
        GRID.replace("epochs = 1", "epochs = 1, lr = 0.007").replace("[0.3, 0.5]", "[0.3]")
    )
    grid = read_grid(tmp_path / "g.toml", tuned="validation")
    worker = Worker(tmp_path / "cache")
    job = next(j for j in grid.jobs if j.method == "salun")
    assert worker.method(job).lr == 0.007 and worker.method(job).density == 0.3
    assert [p for _, p in run_jobs(grid, Worker(tmp_path / "c2", deadline=0.0))] == []


def test_tuning_tries_what_a_preset_would_fix_and_has_a_seed_of_its_own(tmp_path):
    (tmp_path / "g.toml").write_text(
        GRID.replace("settings = { epochs = 1 }", "").replace("vary = { density = [0.3, 0.5] }", "")
    )
    plain, tuned = (
        next(j for j in read_grid(tmp_path / "g.toml", tuned=t).jobs if j.method == "salun")
        for t in (None, "validation")
    )
    assert "lr" in plain.settings and "lr" not in tuned.settings  # the preset's was chosen in other trials
    assert tuned.key() != replace(tuned, tuning={**tuned.tuning, "by": "gap"}).key()
    (tmp_path / "g.toml").write_text(GRID.replace("[recipe]", "[tune]\nseed = 1\n[recipe]"))
    with pytest.raises(ExpungeError, match="seed 1, which is also reported"):
        read_grid(tmp_path / "g.toml", tuned="validation")


def test_trials_on_each_runs_own_split_and_original(tmp_path):
    text = GRID.replace("settings = { epochs = 1 }", "").replace("vary = { density = [0.3, 0.5] }", "")
    (tmp_path / "g.toml").write_text(text.replace("[recipe]", '[tune]\nseed = "own"\n[recipe]'))
    jobs = read_grid(tmp_path / "g.toml", tuned="validation").jobs
    assert all(job.tuned_on == job for job in jobs)
    assert len({job.choice for job in jobs}) == len({job.key() for job in jobs})
    assert len(dict(plan_stages(jobs))["original"]) == 2  # no third seed to train one for
    worker, tables = Worker(tmp_path / "cache"), []
    for job in [j for j in jobs if j.method == "nhle"]:
        found = worker.method(job)
        tables.append(json.loads((tmp_path / f"cache/tuned/{job.choice}-validation.json").read_text()))
        best = min(tables[-1]["trials"], key=lambda t: t["distance"])["settings"]
        assert {k: getattr(found, k) for k in best} == best and tables[-1]["seed"] == job.seed
    assert [t["seed"] for t in tables] == [0, 1]
    (tmp_path / "g.toml").write_text(text.replace("[recipe]", '[tune]\nseed = "mine"\n[recipe]'))
    with pytest.raises(ExpungeError, match="tune, seed: the seed is 'mine'; give a number, or 'own'"):
        read_grid(tmp_path / "g.toml", tuned="validation")
    (tmp_path / "g.toml").write_text(text.replace("[recipe]", '[tune]\ntrials = "x"\n[recipe]'))
    with pytest.raises(ExpungeError, match="tune, trials is 'x'; it must be an integer"):
        read_grid(tmp_path / "g.toml", tuned="validation")


def test_part_of_a_class_is_a_forget_set_of_its_own(tmp_path):
    part = 'forget_class = ["seed"]\nclass_share = 0.5\ngoal = "untrain"'
    (tmp_path / "g.toml").write_text(GRID.replace('forget_class = ["seed"]', part))
    grid = read_grid(tmp_path / "g.toml")
    assert grid.skipped == ["nhle (part of a class)", "nhle (random)"]


def test_parallel_groups_write_no_file_twice(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    jobs = read_grid(tmp_path / "g.toml", tuned="validation").jobs
    plan = dict(plan_stages(jobs))
    originals = [{j.origin for j in group} for group in plan["original"]]
    assert all(len(o) == 1 for o in originals) and len(originals) == 3  # two seeds, and that of tuning
    assert len(plan["retrained"]) == len({j.place for j in jobs}) == 4
    assert sorted(j.key() for g in plan[""] for j in g) == sorted(j.key() for j in jobs)
    assert all(len({j.choice for j in group}) == 1 for group in plan[""])


def test_invalid_device_or_number_of_processes_is_refused(tmp_path, capsys):
    (tmp_path / "g.toml").write_text(GRID)
    for words, said in ((["--device", "gpu0"], "gpu0"), (["--jobs", "0"], "jobs is 0")):
        assert main(["bench", str(tmp_path / "g.toml"), "--out", str(tmp_path), *words]) != 0
        assert said in capsys.readouterr().err


def test_jobs_are_ordered_by_split_and_seed(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    jobs = read_grid(tmp_path / "g.toml").jobs
    order = [(str(j.split), j.seed) for j in jobs]
    assert len(list(itertools.groupby(order))) == len(set(order)) == 4
    assert default_workers("cpu", 1) >= 1 and default_workers("cpu", 10**6) == 1


@pytest.mark.parametrize("error", [ExpungeError, TypeError, KeyError, AttributeError, AssertionError])
def test_failed_run_is_reported_and_stops_no_other(tmp_path, monkeypatch, error):
    (tmp_path / "g.toml").write_text(GRID)
    grid = read_grid(tmp_path / "g.toml")
    grid.jobs = grid.jobs[:2]

    def work(self, job):
        if job is grid.jobs[0]:
            raise error("no such head")
        return tmp_path / "record.json"

    monkeypatch.setattr(Worker, "__call__", work)
    (_, reason), (_, file) = run_jobs(grid, Worker(tmp_path))
    assert error.__name__ in reason and "no such head" in reason and file == tmp_path / "record.json"


def test_failed_grid_exits_with_code_1_and_names_each_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "small.toml").write_text(GRID.replace('["mlp"]', '["mlp", "cnn"]'))

    def work(self, job):
        raise TypeError("no such head")

    monkeypatch.setattr(Worker, "__call__", work)
    assert main(bench(tmp_path, tmp_path, 1)) == 1
    assert "the time is over" not in capsys.readouterr().err
    failed = json.loads((tmp_path / "small.json").read_text())["about"]["failed"]
    assert len(failed) == 2 * 2 * (3 + 2) and sum("digits, cnn, nhle" in name for name in failed) == 2
