"""`load_into`: load the tensors of a checkpoint into a model, after all checks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import CheckpointError, raise_all
from .checkpoint import Checkpoint
from .checkpoint_reading import METADATA_ENTRY

# tensors that a message shows
SHOWN = 4


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load all tensors of a checkpoint into a model.

    Args:
        model: The model. It stays as it is if there is any problem.
        checkpoint: The checkpoint. Its `notices` get a sentence if it has another precision than the model.

    Raises:
        CheckpointError: Tensors are missing, surplus, of another shape, or not finite, or the file is a mask. Lists every
            problem.

    Example:
        >>> load_into(model, read_checkpoint("model.pt"))
    """
    if checkpoint.metadata.get(METADATA_ENTRY) == "mask":
        raise CheckpointError(f"{checkpoint.path} is a mask, not a model; give a checkpoint.")
    expected = model.state_dict()
    _restore_prefix(expected, checkpoint)
    state = checkpoint.state
    state.update(_tied_tensors(expected, state))
    problems = _name_problems(expected, state) + _shape_problems(expected, state)
    if not_finite := [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
        problems.append(
            f"{len(not_finite)} tensors contain NaN or infinity (first: {not_finite[:SHOWN]}); use a checkpoint without."
        )
    raise_all([f"{checkpoint.path}: {p}" for p in problems], CheckpointError)
    checkpoint.notices += _precision_notices(expected, checkpoint)
    model.load_state_dict(state)


def _restore_prefix(expected: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Put the removed prefix back if the names of the model begin with it too."""
    with_prefix = checkpoint.counters | {checkpoint.prefix + k: v for k, v in checkpoint.state.items()}
    if checkpoint.prefix and set(expected) == set(with_prefix):
        checkpoint.state = with_prefix
        checkpoint.notices = [n for n in checkpoint.notices if f"begin with '{checkpoint.prefix}'" not in n]
        checkpoint.prefix, checkpoint.counters = "", {}


def _tied_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that the file does not repeat, as `safetensors.torch.save_model` does with tied parameters."""
    saved = {
        (expected[k].data_ptr(), expected[k].shape): v
        for k, v in state.items()
        if k in expected and expected[k].numel()
    }
    missing = {k: (v.data_ptr(), v.shape) for k, v in expected.items() if k not in state}
    return {k: saved[memory] for k, memory in missing.items() if memory in saved}


def _name_problems(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    missing = [k for k in expected if k not in state]
    surplus = [k for k in state if k not in expected]
    return [
        f"{text} (first: {names[:SHOWN]}); use a checkpoint of the same architecture."
        for text, names in (
            (f"the checkpoint lacks {len(missing)} tensors of the model", missing),
            (f"the checkpoint has {len(surplus)} tensors that the model does not have", surplus),
        )
        if names
    ]


def _shape_problems(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        (k, tuple(state[k].shape), tuple(expected[k].shape))
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    if not shapes:
        return []
    # Weight and bias of a head differ in the first axis alone.
    heads = [s for s in shapes if len(s[1]) in (1, 2) and s[1][1:] == s[2][1:]]
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


def _precision_notices(expected: Mapping[str, Tensor], checkpoint: Checkpoint) -> list[str]:
    """One sentence per pair of dtypes in which checkpoint and model differ."""
    pairs = {
        (checkpoint.state[k].dtype, v.dtype)
        for k, v in expected.items()
        if v.is_floating_point() and checkpoint.state[k].dtype != v.dtype
    }
    return [
        f"the tensors of {checkpoint.path.name} are {saved}, those of the model are {used}: they are trained and written as "
        f"{used}."
        for saved, used in sorted(pairs, key=str)
    ]
