"""The pieces of `make bench-gpu`: what is done is skipped, what has long pieces is not begun too late, failures are told."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks/gpu.py"
GRID = """
data = ["digits"]
seeds = [0, 1]
[[split]]
forget_share = 0.1
[[method]]
name = "finetune"
"""


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu"]


@pytest.fixture
def parts(gpu, monkeypatch):
    """Two parts that note what they were told; the command's last word is its exit code, and 0 is done."""
    told, finished, codes = [], set(), {"grid": 0, "floor": 0}

    def run(command):
        name = command[1]
        told.append(command[1:])
        if codes[name] == 0:
            finished.add(name)
        return subprocess.CompletedProcess(command, codes[name])

    made = {
        "grid": gpu.Part(["grid"], lambda: "grid" in finished),
        "floor": gpu.Part(["floor"], lambda: "floor" in finished, least=8.5),
    }
    monkeypatch.setattr(gpu, "every_part", lambda *_: made)
    monkeypatch.setattr(gpu.subprocess, "run", run)
    return told, finished, codes


def test_a_piece_does_what_is_left_and_what_fits(gpu, parts, capsys):
    told, finished, _ = parts
    gpu.main(minutes=9, parts=("grid", "floor"))
    assert told[0][:2] == ["grid", "--minutes"] and float(told[0][2]) <= 9
    assert told[1][:2] == ["floor", "--minutes"] and "all is done" in capsys.readouterr().out
    gpu.main(parts=("grid", "floor"))
    assert len(told) == 2, "what is done is not done again"
    finished.clear()
    gpu.main(minutes=0.0, parts=("grid",))
    gpu.main(minutes=5.0, parts=("floor",))
    assert told[-1][0] == "floor" and float(told[-1][2]) <= 5, "all the minutes there are must do"


def test_what_is_unfinished_is_told_and_a_failure_ends_it(gpu, parts, capsys, monkeypatch):
    told, _, codes = parts
    codes["grid"] = 1
    with pytest.raises(SystemExit) as caught:
        gpu.main(parts=("grid", "floor"))
    assert caught.value.code == 1 and len(told) == 1
    codes["grid"] = None  # ended without having finished
    gpu.main(parts=("grid", "floor"))
    assert "still to do: grid, floor" in capsys.readouterr().out and len(told) == 2
    with pytest.raises(SystemExit, match="no part wall"):
        gpu.main(parts=("wall",))


def test_a_grid_is_done_when_every_job_has_ended(gpu, tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    assert not gpu.grid_done(tmp_path / "g.toml", tmp_path)
    found = {"about": {"failed": {}}, "runs": [{"kind": "original"}, {"kind": "unlearn"}]}
    for failed, done in (({}, False), ({"one": "why"}, True)):
        found["about"]["failed"] = failed
        (tmp_path / "g.json").write_text(json.dumps(found))
        assert gpu.grid_done(tmp_path / "g.toml", tmp_path) is done


def test_the_real_parts_exist(gpu, tmp_path):
    made = gpu.every_part(FILE.parent / "grids/gpu_cifar10_resnet18.toml", tmp_path, tmp_path, "cuda", 3)
    assert all(Path(p.command[0]).exists() for p in made.values() if p.command[0] != "-m")
    assert not any(p.done() for p in made.values())
