"""Two processes (torchrun, gloo, CPU) against one: the same scores, masks and weights, under DDP and FSDP2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from expunge import ModelError, TensorData
from expunge.masks.sharded import ShardGroup, _check_shards
from sharded_worker import DENSITIES, alone, model_and_samples

WORKER = Path(__file__).with_name("sharded_worker.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("processes")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        WORKER,
        out,
    ]
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"{rank}.pt") for rank in range(2)], alone()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_agree_with_one(runs, kind):
    """Sums in another order: scores to 1e-6, weights after six steps to 1e-5; the masks are the same."""
    ranks, one = runs
    for found in (rank[kind] for rank in ranks):
        for n, s in one["scores"].items():
            assert torch.allclose(found["scores"][n], s, atol=1e-6), n
        for density, mask, want in zip(DENSITIES, found["masks"], one["masks"], strict=True):
            total = sum(m.numel() for m in want.values())
            assert sum(int(m.sum()) for m in mask.values()) == round(density * total)
            assert all(torch.equal(mask[n], m) for n, m in want.items())
        for n, w in one["weights"].items():
            assert torch.allclose(found["weights"][n], w, atol=1e-5), n
        assert "lacks 1 names" in found["refused"]
    assert all(
        torch.equal(ranks[0][kind]["weights"][n], ranks[1][kind]["weights"][n]) for n in one["weights"]
    )


@pytest.mark.slow
def test_weights_outside_the_mask_never_moved(runs):
    ranks, one = runs
    before = dict(model_and_samples()[0].named_parameters())
    for kind in ("ddp", "fsdp"):
        for n, m in one["masks"][1].items():
            assert torch.equal(ranks[0][kind]["weights"][n][~m], before[n][~m]), (kind, n)


@pytest.mark.parametrize("count,size", [(53, 2), (7, 3), (1, 4), (12, 4)])
def test_every_process_has_as_many_samples_and_each_sample_counts_once(count, size):
    samples = TensorData(torch.randn(count, 1), torch.zeros(count, dtype=torch.int64)).samples()
    seen, sizes = [], set()
    for rank in range(size):
        one = object.__new__(ShardGroup)
        one.rank, one.size = rank, size
        own, weight = one.share(samples)
        sizes.add(len(own))
        seen += own.index[weight > 0].tolist()
    assert sorted(seen) == list(range(count)) and len(sizes) == 1


def test_parameters_sharded_otherwise_are_refused():
    with pytest.raises(ModelError, match="fully_shard on the whole model"):
        _check_shards({"w": torch.nn.Parameter(torch.zeros(2))})
