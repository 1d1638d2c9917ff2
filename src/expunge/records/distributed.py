"""Recognise checkpoints in which several processes each wrote a part of the parameters, and say how to join them.

The readers of both formats unpickle objects of any class, which can run code, so Expunge does not call them.
"""

from __future__ import annotations

import re
from pathlib import Path

# files of DeepSpeed: optimizer and model states of each process
ZERO = re.compile(r"(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_(optim|model)_states\.pt")
# a file of torch.distributed.checkpoint, also of one process
DCP = re.compile(r"__\d+_\d+\.distcp")
DCP_INDEX = ".metadata"
# files that each process of FSDP wrote with its local or sharded state dict
RANKS = re.compile(r".*rank[-_]?\d+.*\.(pt|pth|bin|ckpt)", re.I)
# the script that DeepSpeed writes beside its checkpoints
SCRIPT = "zero_to_fp32.py"


def sharded_text(place: Path) -> str:
    """Return why a file or folder is only a part of a checkpoint that several processes wrote, and the command that joins the parts.

    Empty if it is none.
    """
    folder = place if place.is_dir() else place.parent
    names = (
        sorted(f.name for f in folder.iterdir())
        if place.is_dir()
        else [place.name]
        if place.is_file()
        else []
    )
    if any(ZERO.fullmatch(name) for name in names):
        return _zero(place, folder)
    if any(DCP.fullmatch(name) for name in names) or (place.is_dir() and DCP_INDEX in names):
        return _dcp(place, folder)
    if not place.is_dir():
        return ""
    # DeepSpeed and Accelerate keep the parts in a folder of the checkpoint
    for below in sorted(f for f in folder.iterdir() if f.is_dir() and not f.is_symlink()):
        inner = [f.name for f in below.iterdir()]
        if any(ZERO.fullmatch(name) for name in inner):
            return _zero(place, below)
        if any(DCP.fullmatch(name) for name in inner):
            return _dcp(place, below)
    if len(parts := [name for name in names if RANKS.fullmatch(name)]) > 1:
        return (
            f"{place} holds parts of {len(parts):,} processes ({parts[0]} ...), as FSDP writes its local or sharded state dict; load it in "
            "the program that wrote it, gather it with `torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
            "options=StateDictOptions(full_state_dict=True, cpu_offload=True))`, and save that with torch.save."
        )
    return ""


def _zero(place: Path, folder: Path) -> str:
    """The sentence on a checkpoint of DeepSpeed. `folder` has the parts; the script stands above it."""
    root, tag = folder.parent, folder.name
    return (
        f"{place} is a checkpoint of DeepSpeed (ZeRO), in which each process wrote a part of the parameters; join them with `python "
        f"{root / SCRIPT} {root} OUT --tag {tag}` "
        "(DeepSpeed wrote the script there) and give OUT. The script unpickles the parts, which can run code in them."
    )


def _dcp(place: Path, folder: Path) -> str:
    """The sentence on a checkpoint of torch.distributed.checkpoint."""
    return (
        f"{place} is a checkpoint of torch.distributed.checkpoint (FSDP), in which each process wrote a part of the parameters; join "
        f"them with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} OUT.pt` and give OUT.pt. It unpickles the "
        "index of the folder, which can run code in it."
    )
