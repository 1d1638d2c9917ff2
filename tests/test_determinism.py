"""The same seed gives the same bits: with any number of worker processes, and after an interruption anywhere."""

import os
import random
import shutil
import warnings
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from expunge import Classification, Project, Split, StreamData, audit, unlearn
from expunge.data.past_requests import requests_of
from expunge.masks.saliency import saliency_scores
from expunge.projects import answer, delivery
from expunge.projects.folder import Folder
from expunge.records.hashing import model_hash
from expunge.training import loop
from expunge.training.execute import execute
from expunge.training.registry import find, names, serves
from test_methods import SMALL

# starting processes takes seconds
WORKERS = (1, pytest.param(3, marks=pytest.mark.slow))
GRADIENT = [n for n in names() if serves(find(n), Classification) and hasattr(find(n), "schedule")]


class Noisy(Dataset):
    """Random inputs at every reading, from each kind of generator that a transform may use."""

    def __init__(self, x):
        self.x, self.targets = x, [k % 3 for k in range(len(x))]
        self.rng = np.random.default_rng(5)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        noise = np.random.rand() + random.random() + torch.rand(1).item() + self.rng.random()
        # in [0, 1], as methods that change pixels need it
        return 0.6 * self.x[k] + 0.1 * noise, self.targets[k]


class Interrupted(Exception):
    """Simulates a killed process."""


def problem(workers, count=96):
    """A split of noisy data, and a model. Equal but for the number of worker processes."""
    x = torch.rand(count + 32, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    train, test = (StreamData(Noisy(part), workers=workers) for part in (x[:count], x[count:]))
    split = Split.by_ids(train, test, [str(k) for k in range(24)], validation=0.2, copies="ignore")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(64, 3),
    )
    return model, split


def quick(name, **more):
    kind = find(name)
    small = {
        "epochs": 2,
        "lr": 1e-3,
        "batch_size": 48,
        "max_drop": 100.0,
        "early_stop": False,
        **SMALL,
        **more,
    }
    return kind(**{k: v for k, v in small.items() if k in {f.name for f in fields(kind)}})


def run(name, workers, *, interrupt=False, folder=None, **more):
    """The model's bits after a run. With `interrupt`, of a run that was killed after its first epoch and resumed."""
    model, split = problem(workers)
    options = {"seed": 3, "state_file": folder / f"{workers}.state" if interrupt else None}

    def kill(row):
        if row["epoch"] == 1:
            raise Interrupted

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if interrupt:
            with pytest.raises(Interrupted):
                execute(model, split, quick(name, **more), Classification(3), on_row=kill, **options)
            assert options["state_file"].exists()
            # another process has other random numbers, and may have another number of workers
            torch.rand(7), np.random.rand(3), random.random()
        done = execute(model, split, quick(name, **more), Classification(3), **options)
    return model_hash(done.model)


@pytest.mark.parametrize("interrupt", [False, True])
@pytest.mark.parametrize("workers", WORKERS)
def test_a_method_with_a_mask_gives_the_same_bits(workers, interrupt, tmp_path):
    assert run("salun", workers, interrupt=interrupt, folder=tmp_path, density=0.5) == run(
        "salun", 0, density=0.5
    )


def test_another_seed_or_other_noise_gives_other_bits():
    model, split = problem(0)
    bits = {
        model_hash(execute(model, split, quick("salun"), Classification(3), seed=s).model) for s in (3, 4)
    }
    assert len(bits) == 2


def test_a_run_may_resume_with_another_number_of_workers(tmp_path):
    model, split = problem(0)
    state, method, task = tmp_path / "s", quick("finetune"), Classification(3)

    def kill(row):
        if row["epoch"] == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        execute(model, split, method, task, seed=3, state_file=state, on_row=kill)
    resumed = execute(*problem(1), method, task, seed=3, state_file=state)
    assert model_hash(resumed.model) == run("finetune", 0)


@pytest.mark.slow  # all methods, with processes that read the data
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("name", GRADIENT)
def test_every_method_gives_the_same_bits(name, workers, tmp_path):
    if not find(name).scenarios or "random" in find(name).scenarios:
        whole = run(name, 0)
        assert whole == run(name, workers) == run(name, workers, interrupt=True, folder=tmp_path)
    else:
        pytest.skip("forgets classes only")


@pytest.mark.parametrize("workers", WORKERS)
def test_saliency_is_the_same(workers):
    def scores(count):
        model, split = problem(count)
        return saliency_scores(model, split.forget, Classification(3), batch_size=16)

    mine, expected = scores(workers), scores(0)
    assert all(torch.equal(mine[k], expected[k]) for k in expected) and len(expected) > 3


def scores_with(workers, **options):
    model, split = problem(workers)
    after = execute(model, split, quick("salun"), Classification(3), seed=3).model
    found = audit(after, split, Classification(3), original=model, seed=3, **options)
    return str(found.scores), str(found.details)


@pytest.mark.parametrize("workers", WORKERS)
def test_an_audit_gives_the_same_figures(workers):
    assert scores_with(workers) == scores_with(0)


@pytest.mark.parametrize("interrupt", [pytest.param(False, marks=pytest.mark.slow), True])
def test_trials_by_themselves_give_the_same_bits(interrupt, tmp_path):
    def bits(workers, **options):
        model, split = problem(workers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model_hash(
                unlearn(model, split, find("gradient_ascent"), Classification(3), seed=3, trials=2, **options)
            )

    if not interrupt:
        assert bits(1) == bits(0)
        return
    rows = []

    def kill(row):
        rows.append(row)
        if len(rows) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        bits(0, state_file=tmp_path / "s", on_row=kill)
    assert bits(0, state_file=tmp_path / "s") == bits(0)


# ---- projects

STAGES = {
    "in training": (loop, "_step", lambda *a: True),
    "after training": (answer, "_failures", lambda *a: True),
    "at the receipt": (delivery, "issue", lambda *a: True),
    "at the commit": (Folder, "commit", lambda *a: True),
    "before the new state": (os, "replace", lambda _, target, *a: str(target).endswith("project/state.json")),
    "behind the new state": (os, "replace", lambda _, target, *a: str(target).endswith("project/ledger.db")),
}


def interrupt_once(patch, stage):
    """Let `forget` be interrupted the first time that it comes to a stage."""
    holder, name, here = STAGES[stage]
    original, stopped = getattr(holder, name), []

    def call(*arguments, **options):
        if not stopped and here(*arguments):
            stopped.append(stage)
            raise KeyboardInterrupt
        return original(*arguments, **options)

    patch.setattr(holder, name, call)
    return stopped


@pytest.fixture(scope="module")
def uninterrupted(office, tmp_path_factory):
    """The hash of the model after two requests, and the requests that it has answered."""
    path = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(office / "project", path)
    for ids in (["p1", "p2"], ["p9"]):
        Project(path).forget(ids=ids)
    return outcome(path)


def outcome(path):
    project = Project(path)
    assert project.status().problems == ()
    return model_hash(path / "models/0002.safetensors"), [sorted(r.ids) for r in requests_of(project.model)]


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_project_ends_with_the_same_model(project, uninterrupted, stage, monkeypatch):
    Project(project.path).forget(ids=["p1", "p2"])
    with monkeypatch.context() as patch:
        stopped = interrupt_once(patch, stage)
        with pytest.raises(KeyboardInterrupt):
            Project(project.path).forget(ids=["p9"])
    assert stopped == [stage]
    torch.rand(5), np.random.rand(5), random.random()
    with Folder(project.path).locked():
        pass
    if stage == "behind the new state":
        assert len(Project(project.path).status().requests) == 2, "it was answered before the interrupt"
    else:
        Project(project.path).forget(ids=["p9"])
    assert outcome(project.path) == uninterrupted
