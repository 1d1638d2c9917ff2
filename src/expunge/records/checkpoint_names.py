"""Names of tensors that wrappers and libraries write otherwise than the model has them.

A Lightning module writes `model.` before every name, `torch.compile` of a part writes `_orig_mod.` inside, transformers
saves some models under the names of older releases, and published checkpoints may name layers otherwise. The tensors are
loaded under the names of the model, and an output has the names of its input.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .checkpoint import Checkpoint, prefix_notice
from .checkpoint_contents import MOST_NUMBERS, PREFIXES, dotted
from .older_names import drop_leftovers, weight_norm_rule


def fit_names(model: nn.Module, expected: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Give the tensors of a checkpoint the names of a model, if one rule makes every name known.

    Args:
        model: The model. Its attribute `published_names`, if any, lists pairs (pattern in the file, replacement), and
            `published_buffers` lists buffers that a file may have, with the values of the model.
        expected: Its state dict.
        checkpoint: The checkpoint. It gets the new names, and a notice.

    Raises:
        CheckpointError: A published buffer has other values than in the model.
    """
    drop_leftovers(model, expected, checkpoint)
    _set_constants_aside(model, checkpoint)
    _set_others_aside(expected, checkpoint)
    state = checkpoint.state
    if state.keys() <= expected.keys() or _fit_adapter(model, expected, checkpoint):
        return
    for renamed in _candidates(model, expected, list(state)):
        values = set(renamed.values())
        if len(values) == len(state) and values <= expected.keys():
            break
    else:
        _convert(model, checkpoint)
        return
    checkpoint.state = {renamed[k]: v for k, v in state.items()}
    prefix = next(iter(state)).removesuffix(renamed[next(iter(state))])
    if all(name == prefix + new for name, new in renamed.items()):
        checkpoint.prefix += prefix
        checkpoint.notices = [n for n in checkpoint.notices if "they are loaded without it" not in n]
        checkpoint.notices.append(prefix_notice(checkpoint))
        return
    checkpoint.names = {new: name for name, new in renamed.items() if new != name}
    example = next(iter(checkpoint.names.items()))
    checkpoint.notices.append(
        f"{len(checkpoint.names)} tensors have other names in {checkpoint.path.name} than in the model, such as {example[1]} for "
        f"{example[0]}; an output has the names of the file."
    )


def _set_constants_aside(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Keep the buffers that a published file stores and the model makes anew, such as the mean of images, for the output.

    Raises:
        CheckpointError: They have other values than in the model.
    """
    for buffer in getattr(model, "published_buffers", ()):
        value, name = checkpoint.state.get(buffer), checkpoint.prefix + buffer
        if value is None:
            continue
        own = model.get_buffer(buffer).flatten()
        if value.numel() != own.numel() or not torch.allclose(value.flatten().float(), own, atol=1e-3):
            raise CheckpointError(
                f"{checkpoint.path}: {buffer} is {value.flatten().tolist()}, but the model has {own.tolist()}; use a model of "
                "your own that normalises as the checkpoint does."
            )
        checkpoint.counters = {**checkpoint.counters, name: value}
        checkpoint.state = {k: v for k, v in checkpoint.state.items() if k != buffer}


def _set_others_aside(expected: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Keep the few tensors beside a model that one prefix marks, such as class weights and metrics of a Lightning module, for the output.

    They must have too few values for a model: at most 1,000, and at most a tenth of those of the model.
    """
    state = checkpoint.state
    starts = _fitting_starts(expected, state)
    if len(starts) != 1 or not starts[0]:
        return
    others = {k: v for k, v in state.items() if not k.startswith(starts[0])}
    numbers = sum(v.numel() for v in others.values())
    size = sum(v.numel() for v in state.values()) - numbers
    if not others or numbers > MOST_NUMBERS or 10 * numbers > size:
        return
    checkpoint.counters = {**checkpoint.counters, **{checkpoint.prefix + k: v for k, v in others.items()}}
    checkpoint.state = {k: v for k, v in state.items() if k not in others}
    names = [checkpoint.prefix + k for k in others]
    checkpoint.notices.append(
        f"{len(names)} tensors of {checkpoint.path.name} with {numbers:,} values are not of the model (first: {names[:3]}); an output has "
        "them as they are."
    )


def _fitting_starts(expected: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[str]:
    """The beginnings of names after which all tensors of a model follow, without counters of batch norm."""
    wanted = [k for k in expected if not k.endswith("num_batches_tracked")]
    starts = {k[: -len(wanted[0])] for k in state if wanted and k.endswith(f".{wanted[0]}")}
    return sorted(p for p in starts if all(p + k in state for k in wanted))


class Converted(NamedTuple):
    """A state with the names of a model, and the function that makes the tensors of the file from one."""

    state: dict[str, Tensor]
    revert: Callable[[dict[str, Tensor]], dict[str, Tensor]]


def converted_by_library(model: nn.Module, state: Mapping[str, Tensor]) -> Converted | None:
    """Let transformers join or divide the tensors of a file, as `from_pretrained` does. None if it cannot."""
    library = sys.modules.get("transformers")
    if library is None or not isinstance(model, library.PreTrainedModel):
        return None
    from transformers.core_model_loading import revert_weight_conversion

    try:
        loaded, report = type(model).from_pretrained(
            None, config=model.config, state_dict=dict(state), output_loading_info=True
        )
    # transformers raises many types of errors; the names are then refused as they are
    except Exception:
        return None
    if any(report.values()):
        return None
    model._weight_conversions = loaded._weight_conversions  # type: ignore[assignment]
    return Converted(loaded.state_dict(), partial(revert_weight_conversion, model))  # type: ignore[arg-type]


def _convert(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Convert the tensors of a file as transformers does. An output has those of the file."""
    found = converted_by_library(model, checkpoint.state)
    if found is None:
        return
    checkpoint.in_file = {k: t.new_zeros(1).expand(t.shape) for k, t in checkpoint.state.items()}
    checkpoint.state, checkpoint.convert = found
    checkpoint.notices.append(
        f"{checkpoint.path.name} divides the tensors otherwise than the model; transformers converts them, and an output has "
        "those of the file."
    )


def _fit_adapter(model: nn.Module, expected: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """Complete the tensors of an adapter of peft by the base model as it is. An output has those of the adapter alone."""
    library = sys.modules.get("peft")
    # a mask has whole numbers, and none for the base model
    floats = all(v.is_floating_point() for v in checkpoint.state.values())
    if library is None or not isinstance(model, library.PeftModel) or not floats:
        return False
    by_tensor = {id(v): k for k, v in expected.items()}
    for embeddings in (False, True):
        saved = library.get_peft_model_state_dict(model, dict(expected), save_embedding_layers=embeddings)
        names = {k: by_tensor.get(id(v), "") for k, v in saved.items()}
        if names.keys() == checkpoint.state.keys() and all(names.values()):
            checkpoint.state = {**expected, **{names[k]: v for k, v in checkpoint.state.items()}}
            checkpoint.names = {own: name for name, own in names.items()}
            checkpoint.convert = partial(part_of_state, frozenset(names.values()))
            checkpoint.notices.append(
                f"{checkpoint.path.name} holds an adapter of {len(names)} tensors; the base model stays as it is, and an output has "
                "the adapter alone."
            )
            return True
    return False


def part_of_state(names: Collection[str], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a state with these names."""
    return {name: tensor for name, tensor in state.items() if name in names}


def part_that_fits(expected: Mapping[str, Any], checkpoint: Checkpoint) -> str:
    """Return a sentence on a part of the names that fits the model; empty if no part does."""
    fitting = _fitting_starts(expected, checkpoint.state)
    keys = [dotted((*checkpoint.keys, checkpoint.prefix + p.removesuffix("."))) for p in fitting]
    if not keys:
        return ""
    choices = " or ".join(f"--ema {key}" for key in keys)
    return f"the names that begin with '{fitting[0]}' fit the model; choose them with {choices}."


def _candidates(model: nn.Module, expected: Mapping[str, Any], names: list[str]) -> Iterator[dict[str, str]]:
    """Yield {name in the file: name in the model} of each rule."""
    rules: list[Callable[[str], str]] = [str, _without_wrappers]
    if published := getattr(model, "published_names", ()):
        rules.append(lambda name: _replaced(_without_wrappers(name), published))
    if parametrized := weight_norm_rule(expected):
        rules.append(lambda name: parametrized(_without_wrappers(name)))
    for rule in rules:
        new = {name: rule(name) for name in names}
        for head in ["", *_heads(new.values())]:
            yield {name: text.removeprefix(head) for name, text in new.items()}
        for head in _heads(expected):
            yield {name: head + text for name, text in new.items()}
    if saved := saved_names(model, expected):
        yield {name: saved.get(name, name) for name in names}


def _heads(names: Iterable[str]) -> list[str]:
    """The beginnings of names, up to a dot, that all names have: "a." and "a.b." for a.b.c and a.b.d."""
    parts = [name.split(".") for name in names]
    common: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    longest = min((len(p) for p in parts), default=1) - 1
    return [".".join(common[: n + 1]) + "." for n in range(min(len(common), longest))]


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if f"{part}." not in PREFIXES)


def _replaced(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


def saved_names(model: nn.Module, expected: Mapping[str, Any]) -> dict[str, str]:
    """Return {name that `save_pretrained` writes: name in the model}; empty for other models than those of transformers."""
    by_tensor = {id(v): k for k, v in expected.items()}
    return {k: by_tensor[id(v)] for k, v in saved_state(model, expected).items() if id(v) in by_tensor}


def saved_state(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors that `save_pretrained` writes; empty for other models than those of transformers."""
    library = sys.modules.get("transformers")
    if library is None or not isinstance(model, library.PreTrainedModel):
        return {}
    from transformers.core_model_loading import revert_weight_conversion

    return revert_weight_conversion(model, dict(state))  # type: ignore[arg-type, no-any-return]
