"""Models that Accelerate and DistributedDataParallel have prepared: audited and unlearned as the plain ones, or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from expunge import (
    MaskError,
    ModelError,
    SalUn,
    Split,
    audit,
    execute,
    experiment,
    masked,
    saliency_mask,
    unlearn,
)
from expunge.masks.mask_check import masked_part
from expunge.torch_utils.prepared import of_plain_model, plain_model, plain_optimizer
from small_problem import vectors

QUICK = SalUn(epochs=1, batch_size=8)
WORKER = Path(__file__).with_name("accelerate_worker.py")


class Wrapper(nn.Module):
    """A wrapper without parameters of its own, such as a LightningModule."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, x):
        return self.inner(x)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture
def accelerator():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(True)


def test_a_model_of_accelerate_gives_the_same_as_the_plain_one(accelerator):
    model, split, task = vectors()
    model = model.float()
    split = split_in_single(split)
    wanted = unlearn(model, split, QUICK, task)
    plain_scores = audit(model, split, task).scores
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    prepared, stepper = accelerator.prepare(model, optimizer)
    forward = vars(prepared)["forward"]
    assert "_original_forward" in vars(prepared), "the control: accelerate has replaced the forward pass"
    mask = saliency_mask(prepared, split.forget, task, 0.3)
    assert same(unlearn(prepared, split, QUICK, task), wanted)
    assert audit(prepared, split, task, original=prepared).scores == plain_scores
    run = execute(prepared, split, QUICK, task, mask=mask)
    assert "forward" not in vars(run.model) and vars(prepared)["forward"] is forward
    assert experiment(prepared, split, QUICK, task, mask=mask).run.mask is not None

    before = {n: p.detach().clone() for n, p in prepared.named_parameters()}
    batch = next(split.forget.batches(16))
    with masked(stepper, prepared, mask):
        for _ in range(3):
            stepper.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(prepared(batch.x), batch.y))
            stepper.step()
    moved = {n: p.detach() != before[n] for n, p in prepared.named_parameters()}
    assert any(m.any() for m in moved.values()) and not any((m & ~mask[n]).any() for n, m in moved.items())
    assert plain_optimizer(stepper) is optimizer


def split_in_single(split):
    """The same split with inputs in single precision."""
    data = split.forget.data
    return Split.by_class(
        (data.x.float(), data.labels), (split.test.data.x.float(), split.test.data.labels), [1], validation=0
    )


def test_masks_of_and_for_wrapped_models():
    model, split, task = vectors()
    mask = saliency_mask(model, split.forget, task, 0.3)
    parallel = nn.DataParallel(model)
    assert plain_model(parallel) is model and plain_model(3) == 3
    named = {f"module.{n}": m for n, m in mask.items()}
    assert same(
        execute(parallel, split, QUICK, task, mask=named).model,
        execute(model, split, QUICK, task, mask=mask).model,
    )
    assert of_plain_model(model, named) is named and of_plain_model(parallel, None) is None
    wrapper = Wrapper(model)
    assert masked_part(wrapper, mask) is model and masked_part(model, mask) is model
    # parameters beside the model would move freely
    wrapper.other = nn.Linear(2, 2)
    assert masked_part(wrapper, mask) is wrapper
    with (
        pytest.raises(MaskError, match="lacks"),
        masked(torch.optim.SGD(wrapper.parameters(), 0.1), wrapper, mask),
    ):
        pass


def test_frozen_parameters_stay_in_autograd_where_other_processes_wait_for_them():
    model, split, task = vectors()
    mask = {n: torch.full_like(p, "bias" in n, dtype=torch.bool) for n, p in model.named_parameters()}
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    batch = next(split.forget.batches(8))
    for stays in (False, True):
        with masked(optimizer, model, mask, keep_in_autograd=stays):
            assert all(p.requires_grad for p in model.parameters()) is stays
            task.loss(model, batch).mean().backward()
            optimizer.step()
    for old, (name, new) in zip(before, model.named_parameters(), strict=True):
        assert torch.equal(old, new) is ("weight" in name)


def test_sharded_models_are_refused_with_the_remedy():
    class FullyShardedDataParallel(Wrapper):
        """Has the name of the class of torch."""

    model, split, task = vectors()
    for call in (
        lambda m: unlearn(m, split, QUICK, task),
        lambda m: execute(m, split, QUICK, task),
        lambda m: audit(m, split, task),
    ):
        with pytest.raises(ModelError, match=r"accelerator\.get_state_dict"):
            call(FullyShardedDataParallel(model))


@pytest.mark.slow
def test_two_processes_of_accelerate_and_of_fsdp(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(WORKER),
    ]
    done = subprocess.run(
        [*command, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=400,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for found in ranks:
        assert found["wrapper"] == "DistributedDataParallel" and found["fully_frozen"] > 0
        assert found["moved"] == found["free"] > 0 and found["outside"] == 0
        assert found["same_as_plain"] and "accelerator.get_state_dict" in found["refused"]
