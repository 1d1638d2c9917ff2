"""Masks of other programs, and masks for files that hold a part of the model."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..errors import MaskError
from ..records.checkpoint import Checkpoint, read_checkpoint
from ..records.checkpoint_names import fit_names
from .mask_check import check_mask
from .mask_file import Mask


def mask_for_model(path: str | Path, model: nn.Module) -> Mask:
    """Read a file {parameter name: tensor of zeros and ones}, and give it the names of a model.

    The file does not say for which samples and which model it was made.

    Args:
        path: A torch or safetensors file. The tensors are bool or of any integer type.
        model: The model. The file may have the names of SalUn's code, or a common prefix.

    Raises:
        MaskError: The file holds other numbers, or does not fit the model.
        CheckpointError: The file cannot be read.

    Example:
        >>> mask = mask_for_model("with_0.5.pt", model)
        >>> mask.density
        0.5
    """
    read = read_checkpoint(path)
    wrong = [name for name, tensor in read.state.items() if not _is_zero_one(tensor)]
    if wrong:
        raise MaskError(
            f"{path} is no mask of zeros and ones (first other tensor: {wrong[0]}); give a file that holds 1 where a parameter may "
            "move, or read a mask of Expunge with Mask.load."
        )
    fit_names(model, dict(model.named_parameters()), read)
    mask = Mask({name: tensor.bool() for name, tensor in read.state.items()})
    check_mask(model, mask)
    return mask


def mask_of_file(mask: Mask, like: Checkpoint) -> Mask:
    """Return the part of a mask that a file like `like` can show: for an adapter of peft, without the base model.

    Args:
        mask: The mask of a run.
        like: The input of the run, after `load_into`.
    """
    if like.convert is None or not like.names:
        return mask
    return Mask({name: m for name, m in mask.items() if name in like.names}, mask.metadata)


def _is_zero_one(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) and bool(
        ((tensor == 0) | (tensor == 1)).all()
    )
