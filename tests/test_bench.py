"""Grids: every problem told at once, finished runs skipped, interrupted and parallel runs give the serial table, fair tuning."""

import json
from dataclasses import replace

import pytest
import torch

from expunge import Classification, ExpungeError, Split
from expunge.bench import run_jobs, stages
from expunge.bench.grid import read_grid
from expunge.bench.page import markdown, page
from expunge.bench.tune import distance_from_unseen, trials, tune
from expunge.bench.work import Worker
from expunge.cli import main
from expunge.method import find
from expunge.methods.damp import DAMP
from expunge.methods.finetune import FineTune
from expunge.methods.ugradsl import UGradSL
from expunge.models import build
from expunge.sources import load

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
    """What must not depend on how the grid was run: everything but time, memory and machine."""
    return [{k: v for k, v in e.items() if k not in ("seconds", "peak_memory")} for e in entries]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    (folder / "small.toml").write_text(GRID)
    assert (
        main(["bench", str(folder / "small.toml"), "--out", str(folder / "cache"), "--results", str(folder)])
        == 0
    )
    return folder, json.loads((folder / "small.json").read_text())


def test_every_run_is_there_beside_its_references(serial):
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


def test_finished_runs_are_skipped_and_missing_ones_made_alike(serial):
    folder, first = serial
    records = sorted((folder / "cache/runs").glob("*.json"))
    times = {r: r.stat().st_mtime_ns for r in records}
    records[3].unlink()
    assert (
        main(["bench", str(folder / "small.toml"), "--out", str(folder / "cache"), "--results", str(folder)])
        == 0
    )
    again = json.loads((folder / "small.json").read_text())
    assert scores(again["runs"]) == scores(first["runs"])
    assert all(r.stat().st_mtime_ns == t for r, t in times.items() if r != records[3]) and records[3].exists()


def test_an_interrupted_grid_goes_on_to_the_same_table(serial, tmp_path):
    folder, first = serial
    args = ["bench", str(folder / "small.toml"), "--out", str(tmp_path), "--results", str(tmp_path)]
    assert main([*args, "--minutes", "0"]) == 0
    assert not json.loads((tmp_path / "small.json").read_text())["runs"]
    assert main([*args, "--minutes", "0.03"]) == 0
    assert main([*args, "--minutes", "60"]) == 0
    assert scores(json.loads((tmp_path / "small.json").read_text())["runs"]) == scores(first["runs"])
    assert not list(tmp_path.rglob("*.state"))


def test_two_processes_give_the_serial_table(serial, tmp_path):
    folder, first = serial
    assert (
        main(
            [
                "bench",
                str(folder / "small.toml"),
                "--out",
                str(tmp_path),
                "--results",
                str(tmp_path),
                "--jobs",
                "2",
            ]
        )
        == 0
    )
    assert scores(json.loads((tmp_path / "small.json").read_text())["runs"]) == scores(first["runs"])


@pytest.mark.slow
def test_a_ray_cluster_gives_the_serial_table(serial, tmp_path):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    folder, first = serial
    args = ["--out", str(tmp_path), "--results", str(tmp_path), "--jobs", "2", "--ray"]
    assert main(["bench", str(folder / "small.toml"), *args]) == 0
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


def test_what_is_still_to_be_run_is_the_folders_own_word(tmp_path):
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
    ("title = 3\nnope = 1", ["'nope' is no entry", "no 'data'", "no 'seeds'", "no 'split'", "no 'method'"]),
    (GRID.replace("epochs = 1", "epoch = 1"), ["'epoch' is no setting of salun"]),
    (GRID.replace("epochs = 2", "rounds = 2"), ["'rounds' is no setting of recipe"]),
    (GRID.replace('"salun"', '"salum"'), ["no method 'salum'"]),
    (GRID.replace("forget_share = 0.1", "share = 0.1"), ["'share' is no setting of split"]),
    ("[[", ["cannot be read"])])  # fmt: skip
def test_problems_of_a_grid_are_told_at_once(tmp_path, text, words):
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(ExpungeError) as caught:
        read_grid(tmp_path / "g.toml")
    assert all(w in str(caught.value) for w in words)


def test_trials_cover_each_field_from_end_to_end():
    assert [t["lr"] for t in trials(FineTune(), 3)] == [1e-3, 1e-2, 1e-1]
    found = trials(UGradSL(), 3)
    for name, values in UGradSL.search.items():
        assert {t[name] for t in found} == set(values)
    assert len({tuple(t.values()) for t in trials(DAMP(), 11)}) == 11
    assert len(trials(FineTune(), 99)) == len(FineTune.search["lr"])


def test_trials_are_equal_in_number_and_the_same_each_time():
    for name in ("salun", "ugradsl_plus", "finetune"):
        found = trials(find(name)(), 4)
        assert len(found) == 4 and found == trials(find(name)(), 4)
        assert all(set(t) == set(find(name).search) for t in found)


def test_tuning_prefers_the_model_that_looks_unseen_and_never_asks_for_retrain():
    torch.manual_seed(0)
    data, task = load("digits"), Classification(10)
    split = Split.by_class(data.train, data.test, forget=3)
    model = find("retrain")(epochs=3, lr=0.05, batch_size=64)
    from expunge.experiment import train

    original = train(build("mlp", num_classes=10, shape=data.shape), split, model, task).model
    found = tune(original, split, find("gradient_ascent")(batch_size=64, max_drop=100), task, count=5)
    assert found == sorted(found, key=lambda t: t.distance) and len(found) == 5
    assert distance_from_unseen(original, original, split, task) > found[0].distance


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


def test_what_runs_side_by_side_writes_no_file_twice(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    jobs = read_grid(tmp_path / "g.toml", tuned="validation").jobs
    plan = dict(stages(jobs))
    originals = [{j.origin for j in group} for group in plan["original"]]
    assert all(len(o) == 1 for o in originals) and len(originals) == 3  # two seeds, and that of tuning
    assert len(plan["retrained"]) == len({j.place for j in jobs}) == 4
    assert sorted(j.key() for g in plan[""] for j in g) == sorted(j.key() for j in jobs)
    assert all(len({j.choice for j in group}) == 1 for group in plan[""])


def test_a_run_that_fails_is_told_and_costs_no_other(tmp_path, monkeypatch):
    (tmp_path / "g.toml").write_text(GRID)
    grid = read_grid(tmp_path / "g.toml")
    grid.jobs = grid.jobs[:2]

    def work(self, job):
        if job is grid.jobs[0]:
            raise ExpungeError("no such head")
        return tmp_path / "record.json"

    monkeypatch.setattr(Worker, "__call__", work)
    found = [r for _, r in run_jobs(grid, Worker(tmp_path))]
    assert found == ["ExpungeError: no such head", tmp_path / "record.json"]
