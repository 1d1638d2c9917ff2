"""Hashes of the user's code: in cache keys of grids, in states of runs and trials, and in records."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys

import pytest
import torch

from expunge import Classification, ExpungeError, Retrain, Split, execute, experiment
from expunge.bench.grid import read_grid
from expunge.bench.model_store import check_split
from expunge.methods.finetune import FineTune
from expunge.models import build
from expunge.own_code import code_identity, hashes_of_class, source_of
from expunge.sources import load
from expunge.tuning.trials import tune

BASE = """
from dataclasses import dataclass
from expunge import GradientMethod

@dataclass(frozen=True, kw_only=True)
class Signed(GradientMethod):
    def loss(self, run, forget, retain):
        return SIGN * run.task.loss(run.model, retain).mean()

SIGN = 1
"""
METHOD = """
from dataclasses import dataclass
from own_base import Signed

@dataclass(frozen=True, kw_only=True)
class Mine(Signed):
    epochs: int = 1
    search = {"lr": (0.01, 0.1)}
"""
DATA = """
import torch

def points():
    x = torch.arange(240.0).reshape(60, 4) % 7
    return (x, torch.arange(60) % 3), (torch.ones(30, 4), torch.arange(30) % 3)
"""
MODEL = """
from torch import nn

def network(num_classes, shape):
    return nn.Linear(shape[0], num_classes)
"""
GRID = """
data = ["own_data:points"]
models = ["own_model:network"]
seeds = [0]
[recipe]
epochs = 1
[[split]]
forget_share = 0.1
[[method]]
name = "own_method:Mine"
"""
FILES = {"own_base": BASE, "own_method": METHOD, "own_data": DATA, "own_model": MODEL}


def forget_modules():
    for name in FILES:
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "g.toml").write_text(GRID)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget_modules()


def edited(folder, name, old, new):
    """Change a file, and import all of them anew, as another process does."""
    path = folder / f"{name}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    forget_modules()
    importlib.invalidate_caches()


def keys(folder):
    job = read_grid(folder / "g.toml").jobs[0]
    return {"run": job.key(), "original": job.origin, "reference": job.place, "trials": job.choice}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("own_base", {"run", "trials"}),
        ("own_method", {"run", "trials"}),
        ("own_data", {"run", "original", "reference", "trials"}),
        ("own_model", {"run", "original", "reference", "trials"}),
    ],
)
def test_a_changed_file_changes_the_keys_of_what_depends_on_it(folder, name, changed):
    before = keys(folder)
    assert keys(folder) == before
    edited(folder, name, "\n\n", "\n\n# changed\n")
    after = keys(folder)
    assert {k for k in before if before[k] != after[k]} == changed


def test_code_of_installed_packages_and_built_in_code_is_in_no_key(folder):
    text = GRID.replace("own_data:points", "digits?limit=60").replace(
        "own_model:network", "torch.nn:Identity"
    )
    (folder / "g.toml").write_text(text.replace("own_method:Mine", "finetune"))
    job = read_grid(folder / "g.toml").jobs[0]
    assert [job._own_code(p) for p in ("data", "model", "method", "measures")] == [[], [], [], []]


def test_a_reference_of_other_data_is_refused(tmp_path, folder):
    source = load("digits?limit=60")
    split = Split.random(source.train, source.test, 0.1)
    model = build("mlp", num_classes=10, shape=source.shape)
    outcome = experiment(model, split, FineTune(epochs=1), Classification(10))
    outcome.record.save(tmp_path / "retrain.json")
    check_split(tmp_path / "retrain.json", split)
    other = Split.random(source.train, source.test, 0.2)
    with pytest.raises(ExpungeError, match="made with other data"):
        check_split(tmp_path / "retrain.json", other)


def test_the_hash_is_that_of_the_code_that_ran(folder):
    mine = importlib.import_module("own_method").Mine
    as_imported = hashlib.sha256(METHOD.encode()).hexdigest()
    (folder / "own_method.py").write_text(METHOD + "# edited after the import\n")
    assert source_of(mine) == {"class": "own_method:Mine", "source_sha256": as_imported}
    assert hashes_of_class(mine) == [as_imported, hashlib.sha256(BASE.encode()).hexdigest()]
    assert hashes_of_class(FineTune) == []


# ---- states


@pytest.fixture
def world():
    source = load("digits?limit=120")
    split = Split.random(source.train, source.test, 0.1)
    torch.manual_seed(0)
    return build("mlp", num_classes=10, shape=source.shape), split, Classification(10)


def test_a_state_or_trials_of_other_code_are_refused(folder, world):
    model, split, task = world
    first = importlib.import_module("own_method").Mine()
    execute(model, split, first, task, state_file=folder / "state")
    tune(model, split, first, task, count=2, trials_file=folder / "trials")
    # the same code goes on
    forget_modules()
    same = importlib.import_module("own_method").Mine()
    assert execute(model, split, same, task, state_file=folder / "state").ended == "finished"
    edited(folder, "own_base", "SIGN = 1", "SIGN = -1")
    other = importlib.import_module("own_method").Mine()
    with pytest.raises(ExpungeError, match=r"state of another run .*its code"):
        execute(model, split, other, task, state_file=folder / "state")
    with pytest.raises(ExpungeError, match="trials of another run"):
        tune(model, split, other, task, count=2, trials_file=folder / "trials")


CELL = """
from expunge import Classification
class Scaled(Classification):
    name = "scaled"
    def loss(self, model, batch):
        return {factor} * super().loss(model, batch)
"""


def test_a_state_of_another_notebook_cell_is_refused(world, tmp_path):
    def cell(factor):
        names = {"__name__": "a_notebook"}
        exec(CELL.format(factor=factor), names)
        return names["Scaled"](10)

    model, split, _ = world
    recipe = Retrain(epochs=1)
    execute(model, split, recipe, cell(1), state_file=tmp_path / "state")
    execute(model, split, recipe, cell(1), state_file=tmp_path / "state")
    with pytest.raises(ExpungeError, match="state of another run"):
        execute(model, split, recipe, cell(2), state_file=tmp_path / "state")


@pytest.mark.slow  # two processes
def test_the_identity_of_a_cell_is_equal_in_each_process():
    """The order of a set of texts differs between processes."""
    cell = (
        "from expunge import Method\nfrom expunge.own_code import code_identity\n"
        "class Chooses(Method):\n    def apply(self, run):\n        return run in {'aa', 'bb', 'cc', ('dd', 'ee')}\n"
        "print(code_identity(Chooses))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", cell],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(shown) == 1 and "Chooses" in shown.pop()


def test_built_in_code_is_identified_by_its_name():
    assert code_identity(FineTune) == "FineTune" and code_identity(Classification) == "Classification"
