"""A mask as a dictionary of bool tensors, as a file of packed bits, and beside another mask."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import MaskError, raise_all
from ..records.atomic_files import atomic
from ..records.checkpoint import read_checkpoint
from ..summaries import short, summary


class Mask(dict[str, Tensor]):
    """{parameter name: bool tensor of its shape}, true = may move. `about` (texts by name) says what it was made
    from; it goes into the file."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = (),
        about: Mapping[str, str] | None = None,
    ):
        super().__init__(tensors)
        self.about = dict(about or {})

    def __repr__(self) -> str:
        total = sum(m.numel() for m in self.values())
        layers = [
            f"{short(n)} {tuple(m.shape)}: {100 * m.float().mean().item():.1f} %"
            for n, m in [*self.items()][:8]
        ]
        return summary(
            f"Mask({self.count:,} of {total:,} parameters may move, {100 * self.density:.2f} %)",
            ", ".join(f"{short(k)} {short(v, 16)}" for k, v in self.about.items()),
            *layers,
            f"and {len(self) - 8} more tensors" if len(self) > 8 else "",
        )

    @property
    def count(self) -> int:
        """How many weights may move."""
        return sum(int(m.sum()) for m in self.values())

    @property
    def density(self) -> float:
        """The share of weights that may move."""
        return self.count / max(1, sum(m.numel() for m in self.values()))

    def layers(self) -> dict[str, float]:
        """The density within each parameter: a global ranking favours some layers."""
        return {n: m.float().mean().item() for n, m in self.items()}

    def __invert__(self) -> Mask:
        """The mask in which exactly the other weights may move."""
        return Mask({n: ~m for n, m in self.items()}, self.about)

    def save(self, path: str | Path, **about: str) -> Path:
        """Write the mask as packed bits, one a weight, in safetensors, atomically. `about` is added to the mask's own:
        name there the split's hash and the model's, and `load` can refuse a mask made for others."""
        shapes = {n: list(m.shape) for n, m in self.items()}
        head = {**self.about, **about, "shapes": json.dumps(shapes), "expunge": "mask"}
        with atomic(path) as part:
            safetensors.torch.save_file({n: _pack(m) for n, m in self.items()}, part, head)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, **expected: str) -> Mask:
        """Read what `save` wrote. Raises `MaskError` if it was saved with other words than `expected` (for example
        `split=split.hash`), and `MaskError` or `CheckpointError` for anything that is no mask."""
        read = read_checkpoint(path)
        about = dict(read.metadata)
        if about.pop("expunge", None) != "mask":
            raise MaskError(f"{path} is no mask; save one with Mask.save.")
        try:
            shapes = json.loads(about.pop("shapes"))
            mask = cls(
                {n: _unpack(read.state[n.removeprefix(read.prefix)], tuple(s)) for n, s in shapes.items()},
                about,
            )
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise MaskError(
                f"{path} is a damaged mask ({type(error).__name__}: {error}); make it again."
            ) from error
        raise_all(
            [
                f"{path} was made with {k} {about.get(k, '(not said)')}, not {v}; make a mask for this one."
                for k, v in expected.items()
                if about.get(k) != v
            ],
            MaskError,
        )
        return mask


def _pack(mask: Tensor) -> Tensor:
    flat = mask.reshape(-1).cpu().to(torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    bits = ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).view(-1)
    return bits[: math.prod(shape)].bool().view(shape)


def combine(a: Mask, b: Mask) -> Mask:
    """The weights that both masks let move; a name in one mask only follows that one."""
    both = {n: m & b[n].to(m.device) if n in b else m for n, m in a.items()}
    return Mask({**b, **both})


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union of the weights that two masks let move; 1 for two empty masks. Raises `MaskError` for
    masks of different models."""
    raise_all(
        [
            f"{n} is in one mask only, or in two shapes; compare masks of one model."
            for n in {**a, **b}
            if n not in a or n not in b or a[n].shape != b[n].shape
        ],
        MaskError,
    )
    both = sum(int((m & b[n].to(m.device)).sum()) for n, m in a.items())
    either = sum(int((m | b[n].to(m.device)).sum()) for n, m in a.items())
    return both / either if either else 1.0
