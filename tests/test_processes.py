"""`Compute(processes=True)`: two processes of torchrun give the same run as one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from expunge import Compute, ExpungeError, execute
from expunge.cli import main
from expunge.records.record import Record
from expunge.training.processes import ProcessGroup, join_torchrun
from expunge.training.run import Run
from processes_worker import METHODS, setting, weights

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*args, timeout=240):
    done = subprocess.run(
        [*TORCHRUN, *map(str, args)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=timeout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("processes")
    torchrun(Path(__file__).with_name("processes_worker.py"), out)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_end_with_the_weights_of_one(ranks, name):
    """Gradients are summed in another order: 1e-5 after 18 or more steps. Both processes hold the same bits."""
    one = weights(name, False)
    for key, weight in one["weights"].items():
        assert torch.allclose(ranks[0][name]["weights"][key], weight, atol=1e-5), key
        assert torch.equal(ranks[0][name]["weights"][key], ranks[1][name]["weights"][key]), key
    assert all(torch.equal(ranks[1][name]["mask"][k], m) for k, m in one["mask"].items())
    for row, alone in zip(ranks[1][name]["history"], one["history"], strict=True):
        assert row["forget"] == alone["forget"] and row["retain"] == alone["retain"]
        assert row["loss"] is alone["loss"] or row["loss"] == pytest.approx(alone["loss"], rel=1e-4)


def test_processes_start_alike_and_share_batch_statistics(ranks):
    first, second = (r["normed"] for r in ranks)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert first["1.running_mean"].abs().sum() > 0


def test_each_process_draws_its_own_labels():
    _, split, task = setting()
    runs = [Run(torch.nn.Linear(2, 2), split, task, 3) for _ in range(2)]
    for rank, run in enumerate(runs):
        run._process_group = ProcessGroup()
        run._process_group.rank = rank
    mine, theirs = (run.process_generator("labels").initial_seed() for run in runs)
    assert mine == runs[0].generator("labels").initial_seed() != theirs


def test_processes_without_a_group_are_refused():
    model, split, task = setting()
    with pytest.raises(ExpungeError, match="torchrun"):
        execute(model, split, METHODS["finetune"], task, compute=Compute(processes=True))


@pytest.mark.parametrize(("rank", "set_to"), [(0, [0]), (1, [])])
def test_more_processes_than_gpus_may_share_a_run_on_the_cpu(monkeypatch, rank, set_to):
    seen = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda: None)
    assert join_torchrun() and seen == set_to


@pytest.mark.slow
def test_the_commands_under_torchrun(tmp_path, capsys):
    """One checkpoint, one record, and the score of a run in one process."""
    common = ["--data", "digits", "--model", "mlp", "--seed", "0"]
    recipe = ["--epochs", "3", "--batch-size", "64", "--validation", "0.1"]
    done = torchrun("-m", "expunge", "train", *common, *recipe, "--out", tmp_path / "two.safetensors")
    assert done.stdout.count("checkpoint:") == 1
    assert main(["train", *common, *recipe, "--out", str(tmp_path / "one.safetensors")]) == 0
    one, two = (Record.load(tmp_path / f"{n}.json") for n in ("one", "two"))
    assert abs(one.scores["TA"] - two.scores["TA"]) < 1
    torchrun("-m", "expunge", "unlearn", "salun", *common, "--forget-class", "3", "--epochs", "1",
             "--checkpoint", tmp_path / "two.safetensors", "--out", tmp_path / "less.safetensors")  # fmt: skip
    assert (tmp_path / "less.safetensors").exists() and Record.load(
        tmp_path / "less.json"
    ).status == "finished"
    done = torchrun("-m", "expunge", "unlearn", "salun", *common, "--forget-class", "3", "--epochs", "1", "--trials", "3",
                    "--checkpoint", tmp_path / "two.safetensors", "--out", tmp_path / "tried.safetensors")  # fmt: skip
    assert (
        len(Record.load(tmp_path / "tried.json").details["trials"]) == 3 and done.stdout.count("record:") == 1
    )
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
