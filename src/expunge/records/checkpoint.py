"""Checkpoints: safetensors files, or torch files that are read without running code.

An output has the format, the names and the small plain entries of its input. No other tensor of the input gets into it. It is
written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import CheckpointError
from .archive_metadata import add_archive_metadata
from .atomic_files import atomic
from .checkpoint_contents import OPTIMIZER, Keys, dotted
from .checkpoint_files import read_file
from .checkpoint_folders import files_left_out, write_folder
from .checkpoint_reading import Content, choose_state, separate
from .checkpoint_totals import METADATA_ENTRY, MOST_LISTED, NOT_INHERITED, OF_ONE_FILE
from .file_names import file_suffix
from .output_parts import has_prefix, insert
from .several_models import choice_notice
from .tensor_memory import own_memory, unshared, without_repeats
from .versions import add_prefix, versions_of, with_versions

# entries that a notice shows
SHOWN = 8


@dataclass
class Checkpoint:
    """A checkpoint in memory, with what is needed to write another one like it.

    Args:
        state: The tensors by their plain names, without `prefix`.
        path: The file.
        format: "safetensors" or "pt".
        metadata: Texts that Expunge stored with the tensors: what the model was trained on, and how.
        keys: Where the state dict is in a torch file. Empty if the file is a state dict.
        prefix: What stood before every name.
        rest: The small plain values of a torch file. An output keeps them.
        counters: Counters of AveragedModel, which have no prefix. An output keeps them.
        dropped: {entry: what it holds} of everything that no output has, for example {"state_dict_ema": "11 tensors"}.
        other_states: Entries that hold a whole model of the same shape, but were not read.
        ema: The entry that the caller chose.
        versions: {module name: version} that torch stores with a state dict for its own migrations, with the names of the file.
        names: {name in the model: name in the file, after `prefix`} of the tensors that the file names otherwise; of all tensors
            of an adapter.
        repeats: {name in the model: name of the same tensor that the file has}, of tied tensors that the file does not repeat.
        convert: Turns a state of the model into the tensors of the file, where the file divides them otherwise.
        in_file: Zeros with the names, shapes and dtypes of the tensors of the file, where `convert` makes them.
        classes: {entry: class names by number} of the entries that name classes, such as `class_to_idx`.
        notices: Sentences that the user should read.
    """

    state: dict[str, Tensor]
    path: Path
    format: str
    metadata: dict[str, str] = field(default_factory=dict)
    keys: Keys = ()
    prefix: str = ""
    rest: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, Tensor] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    other_states: list[str] = field(default_factory=list)
    ema: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    repeats: dict[str, str] = field(default_factory=dict)
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    in_file: dict[str, Tensor] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def nest(self) -> str | None:
        """The entry of a torch file that held the state dict. None if the file is a state dict."""
        return dotted(self.keys) or None

    def names_in_file(self, names: Iterable[str]) -> dict[str, str]:
        """Return {name in the model: name in the file} of those that differ, after `load_into`."""
        files = {name: self.prefix + self.names.get(name, name) for name in names}
        return {name: in_file for name, in_file in files.items() if in_file != name}

    @property
    def dropped_data(self) -> list[str]:
        """The dropped entries that held tensors or long values, for example "state_dict_ema (11 tensors)"."""
        return [f"{name} ({text})" for name, text in self.dropped.items() if text != OPTIMIZER]


def read_checkpoint(path: str | os.PathLike[str], ema: str | None = None) -> Checkpoint:
    """Read a checkpoint without running code in it.

    Args:
        path: A safetensors file, a torch file with a state dict or a dict that contains one, or a folder that
            `save_pretrained` wrote, with shards or without.
        ema: The entry that holds the model, where the file has several, such as an average of the parameters. A nested entry
            is a path with dots. By default the usual names are tried: `state_dict`, `model` and others.

    Raises:
        CheckpointError: The file is missing, broken or no checkpoint, reading it could run code, or it has no such entry.

    Example:
        >>> checkpoint = read_checkpoint("model.pt", ema="state_dict_ema")
        >>> load_into(model, checkpoint)
        >>> checkpoint.dropped
        {'state_dict': '11 tensors', 'optimizer': '22 tensors'}
    """
    file = Path(path)
    kind, loaded, metadata = read_file(file)
    content = separate(loaded, choose_state(file, loaded, ema), metadata)
    return _checkpoint_of(file, kind, content, ema)


def _checkpoint_of(file: Path, kind: str, content: Content, ema: str | None) -> Checkpoint:
    """Return the checkpoint with the notices of what was read and what was not."""
    checkpoint = Checkpoint(path=file, format=kind, ema=ema, **vars(content.parts))
    if content.no_tensors:
        checkpoint.notices.append(
            f"the entries {content.no_tensors[:SHOWN]} in the state dict of {file.name} are no tensors; an output does not have them."
        )
    if file.is_dir() and (left := files_left_out(file)):
        checkpoint.notices.append(
            f"an output folder does not get these files of {file.name}, as no tokenizer or processor writes them: {_listed(left)}."
        )
    if checkpoint.other_states and ema is None:
        others = checkpoint.other_states
        checkpoint.notices.append(choice_notice(file.name, checkpoint.nest or "", others, _listed(others)))
    if checkpoint.dropped:
        entries = [f"{name} ({text})" for name, text in checkpoint.dropped.items()]
        checkpoint.notices.append(
            f"an output does not have these entries of {file.name}, as they may remember the training data: {_listed(entries)}."
        )
    if checkpoint.prefix:
        checkpoint.notices.append(prefix_notice(checkpoint))
    return checkpoint


def prefix_notice(checkpoint: Checkpoint) -> str:
    """Return the sentence on the prefix of a checkpoint."""
    return (
        f"the names in {checkpoint.path.name} begin with '{checkpoint.prefix}'; they are loaded without it, and an output has it "
        "again."
    )


def _listed(entries: list[str]) -> str:
    return ", ".join(entries[:SHOWN]) + (f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else "")


def write_checkpoint(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    *,
    like: Checkpoint | None = None,
    metadata: Mapping[str, str] | None = None,
    named: Path | None = None,
) -> Path:
    """Write a state dict atomically, in the form of an input checkpoint.

    The file holds these tensors, and of the input only small plain values: `like.dropped` lists the entries that are left out.
    A torch file that was a plain state dict stays one: its metadata goes into the archive, where torch does not look.
    Any other torch file has the metadata as its entry "expunge".

    Args:
        path: The output. The suffix `.safetensors` gives safetensors. If output and input have the same suffix, the format
            of the input is kept. An output without the suffix of a file, such as `bert-v1.5`, is a folder if the input is one, with
            the same shards and the configuration. Otherwise a torch file is written.
        state: The tensors, by the names of the model.
        like: The input checkpoint. The output has its prefix, nesting, plain entries and metadata.
        metadata: Texts to store, in addition to those of `like`.
        named: A path whose suffix decides the format, in place of that of `path`.

    Returns:
        The output path.

    Raises:
        CheckpointError: The output is the file that `like` was read from.
        ExpungeError: Nothing can be written there.

    Example:
        >>> write_checkpoint("unlearned.safetensors", model.state_dict(), like=checkpoint)
    """
    file = Path(path)
    if like is not None and file.exists() and like.path.exists() and file.samefile(like.path):
        raise CheckpointError(f"{file} is the input, which is never overwritten; give another output file.")
    prefix = like.prefix if like is not None and not has_prefix(state, like.prefix, like.state) else ""
    counters, names = (like.counters, like.names) if like is not None else ({}, {})
    versions = add_prefix(versions_of(state), prefix) if like is not None and not names else {}
    if like is not None:
        state = without_repeats(like.convert(dict(state)) if like.convert else state, like.repeats)
    tensors = own_memory({**counters, **{prefix + names.get(k, k): v for k, v in state.items()}})
    texts = {**_inherited(like, metadata or {}), **dict(metadata or {})}
    suffix = file_suffix(named or file)
    keeps_format = like is not None and like.format == "safetensors" and suffix == file_suffix(like.path)
    if like is not None and like.path.is_dir() and not suffix:
        with atomic(file, folder=True) as part:
            write_folder(part, like.path, unshared(tensors), texts)
        return file
    with atomic(file) as part:
        if suffix == ".safetensors" or keeps_format:
            # transformers requires the entry "format".
            safetensors.torch.save_file(unshared(tensors), part, {"format": "pt", **texts})
        else:
            # a file without versions would be migrated again when it is loaded
            _write_torch(part, with_versions(tensors, versions), texts, like)
    return file


def _write_torch(
    file: Path, tensors: Mapping[str, Tensor], texts: dict[str, str], like: Checkpoint | None
) -> None:
    keys = like.keys if like is not None else ()
    is_plain = like is not None and like.format == "pt" and not keys
    if is_plain or not (texts or keys):
        torch.save(tensors, file)
        if texts:
            add_archive_metadata(file, texts)
        return
    content = insert(like.rest if like is not None else {}, keys or ("state_dict",), tensors)
    torch.save({**content, METADATA_ENTRY: texts} if texts else content, file)


def _inherited(like: Checkpoint | None, new: Mapping[str, str]) -> dict[str, str]:
    """The metadata that an output takes from its input, and what it did not take."""
    if like is None:
        return {}
    left = (*NOT_INHERITED, *(OF_ONE_FILE if "kind" in new else ()))
    texts = {k: v for k, v in like.metadata.items() if k not in left}
    return texts | dropped_metadata(like)


def dropped_metadata(like: Checkpoint) -> dict[str, str]:
    """Return metadata on the entry of a file that is used, if there is a choice, and on those that no output has."""
    texts = {}
    if like.dropped_data:
        more = len(like.dropped_data) - MOST_LISTED
        listed = like.dropped_data[:MOST_LISTED] + [f"{more:,} more entries"] * (more > 0)
        texts["dropped"] = json.dumps(listed)
    if like.nest is not None and (like.ema is not None or like.other_states):
        texts["entry"] = like.nest
    return texts
