"""Store a mask: a dictionary of bool tensors, saved as packed bits. Combine and compare masks."""

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
    """{parameter name: bool tensor of its shape}, true where the parameter may move.

    Args:
        tensors: The bool tensors by parameter name.
        metadata: Texts by name that say what the mask was made from. `save` writes them into the file.

    Example:
        >>> mask = Mask({"0.weight": torch.ones(2, 3, dtype=torch.bool)})
        >>> mask.density
        1.0
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = (),
        metadata: Mapping[str, str] | None = None,
    ):
        super().__init__(tensors)
        self.metadata = dict(metadata or {})

    def __repr__(self) -> str:
        total = sum(m.numel() for m in self.values())
        layers = [
            f"{short(n)} {tuple(m.shape)}: {100 * m.float().mean().item():.1f} %"
            for n, m in [*self.items()][:8]
        ]
        return summary(
            f"Mask({self.count:,} of {total:,} parameters may move, {100 * self.density:.2f} %)",
            ", ".join(f"{short(k)} {short(v, 16)}" for k, v in self.metadata.items()),
            *layers,
            f"and {len(self) - 8} more tensors" if len(self) > 8 else "",
        )

    @property
    def count(self) -> int:
        """Number of elements that may move."""
        return sum(int(m.sum()) for m in self.values())

    @property
    def density(self) -> float:
        """Share of elements that may move, from 0 to 1."""
        return self.count / max(1, sum(m.numel() for m in self.values()))

    def layers(self) -> dict[str, float]:
        """Return the density of each parameter. A ranking of all parameters together favours some layers."""
        return {n: m.float().mean().item() for n, m in self.items()}

    def __invert__(self) -> Mask:
        """Return the mask in which exactly the other elements may move."""
        return Mask({n: ~m for n, m in self.items()}, self.metadata)

    def save(self, path: str | Path, **metadata: str) -> Path:
        """Write the mask atomically as safetensors, one bit per element.

        Args:
            path: The file.
            **metadata: Added to the metadata of the mask. If you give the hashes of split and model, `load` can refuse a mask
                that was made for others.

        Returns:
            The path.

        Example:
            >>> mask.save("mask.safetensors", split=split.hash)  # doctest: +SKIP
        """
        shapes = {n: list(m.shape) for n, m in self.items()}
        stored = {**self.metadata, **metadata, "shapes": json.dumps(shapes), "expunge": "mask"}
        with atomic(path) as part:
            safetensors.torch.save_file({n: _pack(m) for n, m in self.items()}, part, stored)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, **expected: str) -> Mask:
        """Read a mask that `save` wrote.

        Args:
            path: The file.
            **expected: Metadata that the file must have, for example `split=split.hash`.

        Raises:
            MaskError: The file is not a mask, is damaged, or has other metadata than `expected`.
            CheckpointError: The file cannot be read.
        """
        read = read_checkpoint(path)
        metadata = dict(read.metadata)
        if metadata.pop("expunge", None) != "mask":
            raise MaskError(f"{path} is not a mask; give a file that Mask.save wrote.")
        try:
            shapes = json.loads(metadata.pop("shapes"))
            mask = cls(
                {n: _unpack(read.state[n.removeprefix(read.prefix)], tuple(s)) for n, s in shapes.items()},
                metadata,
            )
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise MaskError(
                f"{path} is a damaged mask ({type(error).__name__}: {error}); make it again."
            ) from error
        problems = [
            f"{path} was made for {k} {metadata.get(k, '(not recorded)')}, not for {v}; make a mask for this {k}."
            for k, v in expected.items()
            if metadata.get(k) != v
        ]
        raise_all(problems, MaskError)
        return mask


def _pack(mask: Tensor) -> Tensor:
    flat = mask.reshape(-1).cpu().to(torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    sizes_are_sound = all(type(n) is int and n >= 0 for n in shape)
    if (
        not sizes_are_sound
        or packed.ndim != 1
        or packed.dtype != torch.uint8
        or packed.numel() != -(-math.prod(shape) // 8)
    ):
        raise ValueError(
            f"a tensor of {packed.numel()} bytes holds no mask of the shape {short(repr(shape), 60)}"
        )
    bits = ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).view(-1)
    return bits[: math.prod(shape)].bool().view(shape)


def combine(a: Mask, b: Mask) -> Mask:
    """Return the mask of the elements that both masks let move. A parameter in one mask only is taken from that mask."""
    shared = {n: m & b[n].to(m.device) if n in b else m for n, m in a.items()}
    return Mask({**b, **shared})


def overlap(a: Mask, b: Mask) -> float:
    """Return the intersection over union of the elements that two masks let move; 1 for two empty masks.

    Raises:
        MaskError: The masks are of different models.
    """
    problems = [
        f"{n} is in one mask only, or has two shapes; compare masks of the same model."
        for n in {**a, **b}
        if n not in a or n not in b or a[n].shape != b[n].shape
    ]
    raise_all(problems, MaskError)
    intersection = sum(int((m & b[n].to(m.device)).sum()) for n, m in a.items())
    union = sum(int((m | b[n].to(m.device)).sum()) for n, m in a.items())
    return intersection / union if union else 1.0
