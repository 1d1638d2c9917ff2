"""Checkpoints as they come and as they came: safetensors, or torch files read without running code, written back in the
input's format with the input's keys, whole or not at all."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, raise_all
from .atomic_files import atomic

NESTS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
PREFIXES = ("module.", "_orig_mod.")
MEMORY = ("optimizer", "optim", "ema", "momentum")  # entries that remember the training data too
OURS = "expunge"
HEAD = "expunge.json"


@dataclass
class Checkpoint:
    """A checkpoint in memory. `state` has plain names; `nest`, `prefix` and `rest` say how the file had them."""

    state: dict[str, Tensor]
    path: Path
    format: str  # "safetensors" or "pt"
    metadata: dict[str, str] = field(default_factory=dict)
    nest: str | None = None  # the entry that held the weights
    prefix: str = ""  # what stood before every name
    rest: dict[str, Any] = field(default_factory=dict)  # the file's other entries
    notices: list[str] = field(default_factory=list)  # what a person should know


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read `.safetensors`, or a torch file with `weights_only=True`: a state dict, or a dict with one inside.

    Raises `CheckpointError` for files that are missing, cut off, no checkpoint, or that would run code.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(
            f"{file} is {'a folder' if file.is_dir() else 'not there'}; name a checkpoint file."
        )
    head = file.open("rb").read(256)
    if not head:
        raise CheckpointError(f"{file} is empty; copy or download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a Git LFS pointer, not the checkpoint itself; run `git lfs pull`.")
    # by its content, where that says so: a mask may have any name
    found = _safetensors(file) if file.suffix == ".safetensors" or head[8:9] == b"{" else _torch(file)
    _strip(found)
    return found


def _safetensors(file: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            state = {k: opened.get_tensor(k) for k in list(opened.keys())}
            metadata = dict(opened.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read as safetensors (broken or cut off): {error}."
        ) from error
    return Checkpoint(state, file, "safetensors", metadata)


def _torch(file: Path) -> Checkpoint:
    try:
        with warnings.catch_warnings():  # torch tells of pickle protocols
            warnings.simplefilter("ignore")
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; the kind of failure is told apart below
        raise CheckpointError(_why(file, error)) from error
    nest = None
    if isinstance(loaded, Mapping) and not _is_state(loaded):
        inside = [k for k in NESTS if _is_state(loaded.get(k))] or [
            k for k, v in loaded.items() if _is_state(v)
        ]
        nest = inside[0] if inside else None
    state = loaded if nest is None else loaded[nest]
    if not _is_state(state):
        kind = (
            f"a dict with the entries {sorted(map(str, loaded))[:8]}"
            if isinstance(loaded, Mapping)
            else f"a {type(loaded).__name__}"
        )
        raise CheckpointError(f"{file} holds {kind}, no state dict of tensors; save model.state_dict().")
    found = Checkpoint({k: v for k, v in state.items() if isinstance(v, Tensor)}, file, "pt", nest=nest)
    if left := [k for k in state if k not in found.state and k != "_metadata"]:
        found.notices.append(
            f"the entries {left[:8]} among the weights of {file.name} are no tensors; they are not carried over."
        )
    if nest is None:
        found.metadata = _beside(file)
    else:
        found.metadata = dict(loaded.get(OURS) or {})
        found.rest = {
            k: v for k, v in loaded.items() if k not in (nest, OURS) and not str(k).lower().startswith(MEMORY)
        }
        if dropped := [k for k in loaded if str(k).lower().startswith(MEMORY)]:
            found.notices.append(
                f"the entries {dropped} of {file.name} are not carried over: they remember the training data."
            )
    return found


def _beside(file: Path) -> dict[str, str]:
    """The head of a file that holds weights and nothing else: an entry of its archive, which torch does not look at."""
    if not zipfile.is_zipfile(file):
        return {}
    with zipfile.ZipFile(file) as archive:
        name = next((n for n in archive.namelist() if n.endswith(f"/{HEAD}")), None)
        return {} if name is None else json.loads(archive.read(name))


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(k, str) for k in value)
        and any(isinstance(v, Tensor) for v in value.values())
        and not any(isinstance(v, Mapping) for k, v in value.items() if k != "_metadata")
    )


def _why(file: Path, error: Exception) -> str:
    text = str(error)
    pickled = file.open("rb").read(1) == b"\x80" or zipfile.is_zipfile(file)
    if pickled and any(word in text for word in ("weights_only", "Weights only", "Unsupported", "GLOBAL")):
        return (
            f"{file} holds more than tensors and plain values, so reading it could run code; it was not opened. "
            "Save the state dict alone, or as safetensors."
        )
    if not zipfile.is_zipfile(file) and file.open("rb").read(2) == b"PK":
        return f"{file} is cut off: its archive has no end; copy or download it again."
    return (
        f"{file} is no torch checkpoint, or is broken ({type(error).__name__}: {text.partition('. ')[0][:80] or 'no detail'}); "
        "name a file that torch.save or safetensors wrote."
    )


def _strip(found: Checkpoint) -> None:
    """Take the prefixes of DataParallel, DDP and torch.compile off, if every name has them."""
    while prefix := next(
        (p for p in PREFIXES if found.state and all(k.startswith(p) for k in found.state)), None
    ):
        found.state = {k.removeprefix(prefix): v for k, v in found.state.items()}
        found.prefix += prefix
    if found.prefix:
        found.notices.append(
            f"the names in {found.path.name} begin with '{found.prefix}'; it was taken off for loading and is put back on saving."
        )


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load the weights, all of them. Raises `CheckpointError` with every problem and leaves the model alone if there is one."""
    if checkpoint.metadata.get(OURS) == "mask":
        raise CheckpointError(f"{checkpoint.path} is a mask, no model; name a checkpoint.")
    own, given = model.state_dict(), checkpoint.state
    if checkpoint.prefix and set(own) == {
        checkpoint.prefix + k for k in given
    }:  # the model's own names begin so
        given = checkpoint.state = {checkpoint.prefix + k: v for k, v in given.items()}
        checkpoint.notices = [n for n in checkpoint.notices if f"begin with '{checkpoint.prefix}'" not in n]
        checkpoint.prefix = ""
    given.update(_tied(own, given))
    problems = []
    for words, names in (
        ("lacks", [k for k in own if k not in given]),
        ("has, and the model has not,", [k for k in given if k not in own]),
    ):
        if names:
            problems.append(
                f"the checkpoint {words} {len(names)} tensors (first: {names[:4]}); is it of this architecture?"
            )
    shapes = [
        (k, tuple(given[k].shape), tuple(own[k].shape))
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]
    last = [s for s in shapes if len(s[1]) in (1, 2) and s[1][1:] == s[2][1:]]
    if shapes and len(shapes) == len(last) and len({(s[1][0], s[2][0]) for s in shapes}) == 1:
        problems.append(
            f"the checkpoint's head has {shapes[0][1][0]} classes, the data has {shapes[0][2][0]}; use the data it was trained on."
        )
    elif shapes:
        problems.append(
            "shapes differ (checkpoint, model): "
            + "; ".join(f"{k} {a}, {b}" for k, a, b in shapes[:4])
            + f" ({len(shapes)} in all)."
        )
    if broken := [k for k, v in given.items() if v.is_floating_point() and not v.isfinite().all()]:
        problems.append(
            f"{len(broken)} tensors hold NaN or infinity (first: {broken[:4]}); use a sound checkpoint."
        )
    raise_all([f"{checkpoint.path}: {p}" for p in problems], CheckpointError)
    kinds = {
        (given[k].dtype, v.dtype)
        for k, v in own.items()
        if v.is_floating_point() and given[k].dtype != v.dtype
    }
    for came, is_ in sorted(kinds, key=str):
        checkpoint.notices.append(
            f"the weights of {checkpoint.path.name} are {came}, the model's {is_}: they are trained, and written, as {is_}."
        )
    model.load_state_dict(given)


def _tied(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that the file leaves out because they are those of another name (`safetensors.torch.save_model`)."""
    there = {(own[k].data_ptr(), own[k].shape): v for k, v in given.items() if k in own and own[k].numel()}
    places = {k: (v.data_ptr(), v.shape) for k, v in own.items() if k not in given}
    return {k: there[place] for k, place in places.items() if place in there}


def write_checkpoint(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    *,
    like: Checkpoint | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a model's state atomically: in the format of the name's ending (of one that says nothing, in that of `like`), with
    the keys, nesting and other entries of `like`. `metadata` (text) goes into the file's head, its entry "expunge", or, where
    `like` was a state dict and nothing else, beside it in torch's archive, so that the file still is one. Raises
    `CheckpointError` rather than overwrite the file that `like` was read from."""
    file = Path(path)
    if like is not None and file.exists() and like.path.exists() and file.samefile(like.path):
        raise CheckpointError(
            f"{file} is the input; an input checkpoint is never overwritten, name another file."
        )
    prefix = like.prefix if like is not None else ""
    tensors = {prefix + k: v.detach().cpu().contiguous() for k, v in state.items()}
    texts = {**(like.metadata if like is not None else {}), **dict(metadata or {})}
    same = like is not None and like.format == "safetensors" and file.suffix == like.path.suffix
    with atomic(file) as part:
        if file.suffix == ".safetensors" or same:
            safetensors.torch.save_file(
                _unshared(tensors), part, {"format": "pt", **texts}
            )  # transformers asks for it
        else:
            flat = like is not None and like.format == "pt" and like.nest is None
            nest = like.nest if like is not None and like.nest is not None else "state_dict"
            rest = like.rest if like is not None else {}
            torch.save(tensors if flat or not texts else {**rest, nest: tensors, OURS: texts}, part)
            if flat and texts:
                with zipfile.ZipFile(part, "a") as archive:
                    archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/{HEAD}", json.dumps(texts))
    return file


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory (tied weights, views of one buffer): give each its own."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return apart


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's resumable state (tensors and plain values), atomically."""
    with atomic(path) as part:
        torch.save(state, part)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, without running code. Raises `CheckpointError` for anything else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{_why(path, error)} Remove it to start the run anew.") from error
