"""The zoo script on a small grid: it trains and publishes, resumes, finds changed files, and fills the cache of a bench."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from expunge.bench.grid import read_grid
from expunge.bench.model_store import ModelStore
from expunge.bench.worker import Worker
from expunge.pipeline.pipeline import Pipeline
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_metadata import check_original, check_retrained

FILE = Path(__file__).parents[1] / "benchmarks/zoo.py"
GRID = """
data = ["digits?limit=200&test_limit=100"]
models = ["mlp"]
seeds = [0, 1]
[recipe]
epochs = 1
[[split]]
forget_share = 0.1
[[split]]
forget_class = ["seed"]
[[method]]
name = "finetune"
"""
NAMES = [
    f"{model}-seed{seed}" for seed in (0, 1) for model in ("original", "retrain-random10", "retrain-class")
]


@pytest.fixture(scope="module")
def zoo():
    spec = importlib.util.spec_from_file_location("zoo", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["zoo"]


@pytest.fixture(scope="module")
def trained(zoo, tmp_path_factory):
    """A folder with the grid, and with all its models trained and published."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.toml").write_text(GRID, encoding="utf-8")
    run_in(zoo, folder)("--note", "a quiet machine")
    return folder


@pytest.fixture
def call(zoo, trained, tmp_path):
    """Call the script on a copy of `trained` in `tmp_path`."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return run_in(zoo, tmp_path)


def run_in(zoo, folder):
    """Return a function that calls the script with its folders below `folder`."""
    places = ["--cache", str(folder / "cache"), "--out", str(folder / "zoo")]
    return lambda *flags: zoo.main([str(folder / "small.toml"), *places, *flags])


def manifest(tmp_path):
    return json.loads((tmp_path / "zoo/small/manifest.json").read_text(encoding="utf-8"))["models"]


def test_models_are_published_with_metadata_that_commands_accept(call, tmp_path):
    models = manifest(tmp_path)
    assert list(models) == NAMES
    store = ModelStore(tmp_path / "cache")
    jobs = read_grid(tmp_path / "small.toml").jobs
    for job in jobs:
        split = store.setting(job)[1]
        scenario = "random10" if "forget_share" in job.split else "class"
        original = read_checkpoint(tmp_path / f"zoo/small/original-seed{job.seed}.safetensors")
        retrained = read_checkpoint(tmp_path / f"zoo/small/retrain-{scenario}-seed{job.seed}.safetensors")
        assert check_original(original, split) is None and check_retrained(retrained, split) is None
    entry = models["retrain-class-seed1"]
    assert entry["drawn"]["forget_classes"] == [1] and entry["recipe"]["epochs"] == 1
    assert entry["training"]["machine"]["note"] == "a quiet machine" and entry["training"]["seconds"] > 0
    call("--verify")


def test_an_interrupted_call_goes_on(call, tmp_path, capsys):
    models = manifest(tmp_path)
    # as if the call had ended before the last model
    last = models.pop("retrain-class-seed1")
    (tmp_path / "zoo/small/manifest.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    (tmp_path / "cache/models" / last["cache_file"]).unlink()
    call("--minutes", "0")
    assert "still missing: retrain-class-seed1" in capsys.readouterr().out and manifest(tmp_path) == models
    call()
    assert "all models are done" in capsys.readouterr().out
    after = manifest(tmp_path)
    assert list(after) == NAMES and after["retrain-class-seed1"]["state_hash"] == last["state_hash"]
    assert {name: after[name] for name in models} == models


def test_a_new_cache_takes_the_published_models(call, tmp_path, capsys):
    models = manifest(tmp_path)
    last = models.pop("retrain-class-seed1")
    (tmp_path / "zoo/small/manifest.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    shutil.rmtree(tmp_path / "cache")
    call()
    # only the missing model was trained: the call reports no other
    assert "original" not in capsys.readouterr().out.split("retrain-class-seed1: test")[1]
    originals = [tmp_path / "cache/models" / e["cache_file"] for n, e in models.items() if "original" in n]
    published = [tmp_path / "zoo/small" / e["file"] for n, e in models.items() if "original" in n]
    assert [f.read_bytes() for f in originals] == [f.read_bytes() for f in published]
    assert manifest(tmp_path)["retrain-class-seed1"]["state_hash"] == last["state_hash"]


def test_models_that_a_bench_trained_are_published_too(call, tmp_path):
    for file in (tmp_path / "cache/models").glob("*.training.json"):
        file.unlink()
    call("--out", str(tmp_path / "other"), "--note", "trained by a bench")
    models = json.loads((tmp_path / "other/small/manifest.json").read_text(encoding="utf-8"))["models"]
    original, retrained = (models[name]["training"] for name in NAMES[:2])
    assert original["seconds"] is None and retrained["seconds"] > 0
    assert retrained["machine"]["note"] == "trained by a bench"


def test_verify_names_every_file_that_changed(call, tmp_path):
    folder = tmp_path / "zoo/small"
    model = folder / "original-seed0.safetensors"
    model.write_bytes(model.read_bytes()[:-4] + b"\0\0\0\1")
    (folder / "retrain-class-seed0.record.json").unlink()
    (folder / "stray.state").write_bytes(b"")
    with pytest.raises(SystemExit) as error:
        call("--verify")
    problems = str(error.value)
    assert "original-seed0: original-seed0.safetensors does not have the SHA-256" in problems
    assert "retrain-class-seed0.record.json does not exist" in problems and "stray.state" in problems


def test_verify_names_models_of_another_recipe(call, tmp_path):
    grid = tmp_path / "small.toml"
    grid.write_text(GRID.replace("epochs = 1", "epochs = 2"), encoding="utf-8")
    with pytest.raises(SystemExit, match="another recipe, split or data"):
        call("--verify")


def test_restored_models_are_not_trained_again(call, tmp_path, monkeypatch):
    call("--cache", str(tmp_path / "other"), "--restore")
    for training in ("train_original", "retrain"):
        monkeypatch.setattr(Pipeline, training, None)
    jobs = read_grid(tmp_path / "small.toml").jobs
    worker = Worker(tmp_path / "other")
    assert [worker.references(job)[1].kind for job in jobs] == ["retrain"] * 4
    assert worker(jobs[0]).exists()
