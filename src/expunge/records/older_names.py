"""Tensors of files that older releases wrote: parameters of `torch.nn.utils.weight_norm`, and buffers that transformers dropped."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

from .checkpoint import Checkpoint

# buffers of GPT-2 and its relatives, which transformers only names in a warning
DROPPED_BUFFERS = (r"attn\.masked_bias$",)
# names that a notice shows
SHOWN = 3


def weight_norm_rule(expected: Collection[str]) -> Callable[[str], str] | None:
    """Return {name of the older weight_norm: name of the parametrization} as a function; None for a model without it.

    Example:
        >>> weight_norm_rule(["0.parametrizations.weight.original0"])("0.weight_g")
        '0.parametrizations.weight.original0'
    """
    own = [name for name in expected if "parametrizations." in name]
    if not own:
        return None

    def rule(name: str) -> str:
        new = re.sub(
            r"([^.]+)_([gv])$", lambda m: f"parametrizations.{m[1]}.original{'gv'.index(m[2])}", name
        )
        # a parameter of another kind may end with _g or _v
        return new if any(f".{new}".endswith(f".{k}") or f".{k}".endswith(f".{new}") for k in own) else name

    return rule


def drop_leftovers(model: nn.Module, expected: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Leave out buffers that older releases of transformers saved, and that `from_pretrained` ignores. No output has them."""
    library = sys.modules.get("transformers")
    if library is None or not isinstance(model, library.PreTrainedModel):
        return
    patterns = [*(model._keys_to_ignore_on_load_unexpected or ()), *DROPPED_BUFFERS]
    left = [k for k in checkpoint.state if k not in expected and any(re.search(p, k) for p in patterns)]
    if left:
        checkpoint.state = {k: t for k, t in checkpoint.state.items() if k not in left}
        checkpoint.notices.append(
            f"{len(left)} buffers of {checkpoint.path.name} are of an older transformers, which makes them anew today (first: "
            f"{left[:SHOWN]}); they are left out, and an output does not have them."
        )
