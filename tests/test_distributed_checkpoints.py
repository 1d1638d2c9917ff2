"""Checkpoints in parts of several processes are refused with the command that joins them."""

import re
import subprocess
import sys

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from expunge import CheckpointError
from expunge.records.checkpoint import read_checkpoint
from expunge.records.checkpoint_folders import weight_files
from expunge.records.checkpoint_loading import load_into


def refused(place):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(place)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_the_named_command_joins_a_checkpoint_of_torch_distributed(tmp_path):
    """The files are those of torch's own writer, and the command of the message is run."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    folder = tmp_path / "dcp"
    dcp.save({"model": model.state_dict(), "step": torch.tensor(3)}, checkpoint_id=str(folder), no_dist=True)
    assert any(f.suffix == ".distcp" for f in folder.iterdir())
    text = refused(folder)
    assert text == refused(next(folder.glob("*.distcp"))).replace(
        str(next(folder.glob("*.distcp"))), str(folder), 1
    )
    # Accelerate keeps the parts in a folder below
    (tmp_path / "step").mkdir()
    folder.rename(tmp_path / "step" / "pytorch_model_fsdp_0")
    text = refused(tmp_path / "step")
    command = re.search(r"`python (-m \S+ dcp_to_torch \S+) OUT\.pt`", text)
    assert command and str(tmp_path / "step" / "pytorch_model_fsdp_0") in text
    subprocess.run(
        [sys.executable, *command[1].split(), str(tmp_path / "out.pt")], check=True, capture_output=True
    )
    fresh = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    load_into(fresh, read_checkpoint(tmp_path / "out.pt"))
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in fresh.state_dict().items())


def test_parts_of_deepspeed_name_its_script(tmp_path):
    step = tmp_path / "run" / "global_step5"
    step.mkdir(parents=True)
    names = (
        "mp_rank_00_model_states.pt",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "zero_pp_rank_1_mp_rank_00_optim_states.pt",
    )
    for name in names:
        torch.save({}, step / name)
    command = f"`python {tmp_path / 'run' / 'zero_to_fp32.py'} {tmp_path / 'run'} OUT --tag global_step5`"
    for place in (tmp_path / "run", step, step / names[1], step / names[2]):
        assert command in refused(place)


def test_parts_of_ranks_and_what_is_none(tmp_path):
    for rank in range(2):
        torch.save({}, tmp_path / f"model_rank_{rank}.pt")
    assert "parts of 2 processes (model_rank_0.pt ...)" in refused(tmp_path)
    # the controls: an empty folder, and a trainer's folder with a whole model beside the parts
    (tmp_path / "empty").mkdir()
    assert "is a folder without" in refused(tmp_path / "empty")
    (tmp_path / "trainer" / "global_step5").mkdir(parents=True)
    torch.save({}, tmp_path / "trainer" / "global_step5" / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (tmp_path / "trainer" / "model.safetensors").write_bytes(b"x")
    assert weight_files(tmp_path / "trainer") == [tmp_path / "trainer" / "model.safetensors"]
