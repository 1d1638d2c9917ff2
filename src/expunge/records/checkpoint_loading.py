"""`load_into`: load the tensors of a checkpoint into a model, after all checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..data.class_lists import remember_classes
from ..data.timm_folder import folder_problem
from ..errors import CheckpointError, raise_all
from ..torch_utils.prepared import unwrapped
from .checkpoint import Checkpoint
from .checkpoint_folders import WEIGHTS
from .checkpoint_names import fit_names, part_that_fits
from .checkpoint_totals import METADATA_ENTRY
from .checkpoint_values import (
    SHOWN,
    conversion_problems,
    extra_state_problems,
    unusable_tensors,
    value_problems,
)
from .kept_scores import score_notices
from .tensor_memory import same_memory
from .versions import remove_prefix, with_versions


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load all tensors of a checkpoint into a model.

    Everything that `model.load_state_dict(..., strict=True)` accepts is accepted, also states of older versions that torch
    or a hook of the model migrates.

    Args:
        model: The model. It stays as it is if there is any problem.
        checkpoint: The checkpoint. Its `notices` get a sentence if it has another precision than the model.

    Raises:
        CheckpointError: Tensors are missing, surplus, of another shape, without values, or not finite, or the file is a
            mask. Lists every problem.

    Example:
        >>> load_into(model, read_checkpoint("model.pt"))
    """
    # a run works on the model inside, and an output has the prefix of the file again
    model = unwrapped(model)
    if checkpoint.metadata.get(METADATA_ENTRY) == "mask":
        raise CheckpointError(f"{checkpoint.path} is a mask, not a model; give a checkpoint.")
    folder = checkpoint.path.parent if checkpoint.path.name in WEIGHTS else checkpoint.path
    if problem := folder_problem(folder, getattr(model, "made_by", "")):
        raise CheckpointError(problem)
    expected = model.state_dict()
    _restore_prefix(expected, checkpoint)
    fit_names(model, expected, checkpoint)
    state = checkpoint.state
    checkpoint.repeats = _repeats(expected, state)
    state.update({name: state[kept] for name, kept in checkpoint.repeats.items()})
    before = _values(model)
    versions = remove_prefix(checkpoint.versions, checkpoint.prefix)
    unusable = unusable_tensors(state)
    problems = (
        _load(model, state, versions, unusable)
        + value_problems(state)
        + conversion_problems(expected, state, dict(model.named_parameters()))
        + extra_state_problems(expected)
        + _tie_problems(expected, state)
    )
    if problems:
        _restore(before)
        hint = part_that_fits(expected, checkpoint) if not state.keys() <= expected.keys() else ""
        # what to do comes first
        problems = [hint, *problems] if hint else problems
    raise_all([f"{checkpoint.path}: {p}" for p in problems], CheckpointError)
    checkpoint.notices += _precision_notices(expected, checkpoint)
    checkpoint.notices += score_notices(checkpoint.path.name, checkpoint.rest)
    remember_classes(model, checkpoint.path.name, checkpoint.classes)


def _values(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The parameters and buffers of a model, each with a copy of its values."""
    tensors = [*model.parameters(), *model.buffers()]
    return [(t, t.detach().clone()) for t in tensors if not is_lazy(t)]


def _restore(values: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for tensor, value in values:
            tensor.copy_(value)


def _load(
    model: nn.Module, state: Mapping[str, Tensor], versions: Mapping[str, Any], unusable: Mapping[str, str]
) -> list[str]:
    """Load the state as torch does, or return why torch cannot, one sentence per reason."""
    expected = model.state_dict()
    failure = ""
    if not unusable:
        try:
            model.load_state_dict(with_versions(state, versions))
            return []
        # hooks of a user's model may raise anything
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    # with values that fit, torch lists the names that are missing and surplus after its migrations
    usable = {k: v for k, v in state.items() if k not in unusable}
    other_shape = [s[0] for s in _other_shapes(expected, usable)]
    fitting = {k: expected.get(k, v) if k in unusable or k in other_shape else v for k, v in state.items()}
    try:
        missing, surplus = model.load_state_dict(with_versions(fitting, versions), strict=False)
    except Exception:
        missing, surplus = [k for k in expected if k not in state], [k for k in state if k not in expected]
    # where other names do not fit either, a counter that torch would fill in counts as missing
    counters = [k for k in expected if surplus and k.endswith("num_batches_tracked") and k not in state]
    missing = [k for k in expected if k in missing or k in counters]
    # `extra_state_problems` reports the others
    lacking = [k for k in missing if isinstance(expected[k], Tensor)]
    problems = _name_problems(lacking, surplus) + _shape_problems(expected, usable)
    if problems or unusable or len(lacking) < len(missing):
        return problems
    return [f"the model refuses it: {failure}; use a checkpoint of the same architecture."]


def _restore_prefix(expected: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Put the removed prefix back if the names of the model begin with it too."""
    with_prefix = checkpoint.counters | {checkpoint.prefix + k: v for k, v in checkpoint.state.items()}
    if checkpoint.prefix and set(expected) == set(with_prefix):
        checkpoint.state = with_prefix
        checkpoint.notices = [n for n in checkpoint.notices if f"begin with '{checkpoint.prefix}'" not in n]
        checkpoint.prefix, checkpoint.counters = "", {}


def _repeats(expected: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, str]:
    """{name that the file does not repeat: name that it has}, as `safetensors.torch.save_model` does with tied parameters."""
    own = {k: v for k, v in expected.items() if isinstance(v, Tensor) and not is_lazy(v) and v.numel()}
    saved = {(own[k].data_ptr(), own[k].shape): k for k in state if k in own}
    missing = {k: (v.data_ptr(), v.shape) for k, v in own.items() if k not in state}
    return {k: saved[memory] for k, memory in missing.items() if memory in saved}


def _tie_problems(expected: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[str]:
    """One sentence if the file has several values for what is one tensor in the model: the last one read would replace the others."""
    own = {name: t for name, t in expected.items() if isinstance(t, Tensor) and not is_lazy(t)}
    different = [
        f"'{one}' and '{name}'"
        for name, one in same_memory(own).items()
        if {one, name} <= state.keys() and not _same_values(state[one], state[name])
    ]
    if not different:
        return []
    return [
        f"{len(different)} pairs of tensors have different values in the file, and each is one tensor in the model (first: "
        f"{', '.join(different[:SHOWN])}); give a model that does not tie them, or a checkpoint in which they are equal."
    ]


def _same_values(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _name_problems(missing: list[str], surplus: list[str]) -> list[str]:
    return [
        f"{text} (first: {names[:SHOWN]}); use a checkpoint of the same architecture."
        for text, names in (
            (f"the checkpoint lacks {len(missing)} tensors of the model", missing),
            (f"the checkpoint has {len(surplus)} tensors that the model does not have", surplus),
        )
        if names
    ]


def _other_shapes(
    expected: Mapping[str, Any], state: Mapping[str, Tensor]
) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Name, shape in the file and shape in the model of the tensors that differ in shape."""
    return [
        (k, tuple(state[k].shape), tuple(v.shape))
        for k, v in expected.items()
        if k in state
        and isinstance(v, Tensor)
        and not is_lazy(v)
        and state[k].shape != v.shape
        # torch reads one number from files of version 0.3
        and (tuple(v.shape), tuple(state[k].shape)) != ((), (1,))
    ]


def _shape_problems(expected: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[str]:
    shapes = _other_shapes(expected, state)
    if not shapes:
        return []
    # Weight and bias of a head differ in the first axis alone.
    heads = [s for s in shapes if len(s[1]) in (1, 2) and s[1][1:] == s[2][1:] and s[2]]
    if len(shapes) == len(heads) and len({(s[1][0], s[2][0]) for s in shapes}) == 1:
        return [
            f"the checkpoint's head has {shapes[0][1][0]} classes, the data has {shapes[0][2][0]}; use the data that the model "
            "was trained on."
        ]
    return [
        f"{len(shapes)} tensors have another shape than in the model (name: checkpoint, model): "
        + "; ".join(f"{k}: {saved}, {wanted}" for k, saved, wanted in shapes[:SHOWN])
        + "; use a checkpoint of the same architecture."
    ]


def _precision_notices(expected: Mapping[str, Any], checkpoint: Checkpoint) -> list[str]:
    """One sentence per pair of dtypes in which checkpoint and model differ."""
    saved = checkpoint.state
    pairs = {
        (saved[k].dtype, v.dtype)
        for k, v in expected.items()
        if k in saved and v.is_floating_point() and saved[k].dtype != v.dtype
    }
    return [
        f"the tensors of {checkpoint.path.name} are {saved}, those of the model are {used}: they are trained and written as "
        f"{used}."
        for saved, used in sorted(pairs, key=str)
    ]
