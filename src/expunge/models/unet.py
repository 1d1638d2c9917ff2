"""Class-conditional U-Nets of diffusers: small ones for a CPU, and the network of the SalUn paper for CIFAR-10.

A network for K classes has K + 1 class embeddings; the last is the null condition (see `expunge.tasks.diffusion`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import ExpungeError, MissingExtra, raise_all


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtra("a diffusion U-Net", "diffusion") from error
    return diffusers


def unet(
    num_classes: int,
    shape: tuple[int, int, int],
    *,
    width: int = 32,
    multipliers: tuple[int, ...] = (1, 2, 2),
    blocks: int = 1,
    attention: tuple[int, ...] = (4,),
    dropout: float = 0.0,
) -> nn.Module:
    """A diffusers `UNet2DModel` for images of `shape` (C, H, W) and `num_classes` classes and the null condition.

    `attention` names the resolutions that attend to themselves. Raises `ExpungeError` for sizes that do not halve evenly.
    """
    channels, size = shape[0], shape[1]
    if shape[1] != shape[2] or size % 2 ** (len(multipliers) - 1) or width % 8:
        raise ExpungeError(
            f"images of {shape} with width {width} and {len(multipliers)} levels do not fit: give square images whose side "
            f"divides by {2 ** (len(multipliers) - 1)}, and a width that divides by 8."
        )
    attends = [size // 2**level in attention for level in range(len(multipliers))]
    return _diffusers().UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        num_class_embeds=num_classes + 1,
        layers_per_block=blocks,
        block_out_channels=tuple(width * m for m in multipliers),
        norm_num_groups=min(32, width // 4),
        dropout=dropout,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
    )


class _Beside(nn.Module):
    """Puts an embedding into one half of a wider vector: the sum of two halves is their concatenation."""

    def __init__(self, inner: nn.Module, before: int, after: int):
        super().__init__()
        self.inner, self.pad = inner, (before, after)

    def forward(self, *inputs: Any) -> Tensor:
        return nn.functional.pad(self.inner(*inputs), self.pad)


def salun_cifar10(num_classes: int = 10, *, size: int = 32) -> nn.Module:
    """The CIFAR-10 network of SalUn and Selective Amnesia: 38,632,323 parameters for ten classes (see `benchmarks`).

    128 channels times 1, 2, 2, 2, two residual blocks a level, attention at 16 x 16 and in the middle, dropout 0.1; the
    class goes through two layers and stands beside the time embedding (both 512 wide) instead of being added to it.
    """
    levels = 4 if size == 32 else 5
    channels = (128,) + (256,) * 3 + (512,) * (levels - 4)
    at16 = [size // 2**level == 16 for level in range(levels)]
    net = _diffusers().UNet2DModel(
        sample_size=size,
        block_out_channels=channels,
        layers_per_block=2,
        dropout=0.1,
        norm_eps=1e-6,
        attention_head_dim=None,
        time_embedding_dim=1024,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        norm_num_groups=32,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in at16),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(at16)),
    )
    two = lambda: [nn.Linear(128, 512), nn.SiLU(), nn.Linear(512, 512)]  # noqa: E731
    net.time_embedding = _Beside(nn.Sequential(*two()), 0, 512)
    net.class_embedding = _Beside(nn.Sequential(nn.Embedding(num_classes + 1, 128), *two()), 512, 0)
    return net


SHAPES: dict[str, dict[str, Any]] = {
    "digits": {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (4,)},
    # a quarter of the side attends: 7 of 28, 8 of images padded to 32
    "fashion-mnist": {"width": 48, "multipliers": (1, 2, 2), "blocks": 1, "attention": (7, 8)},
}


def for_data(name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """The network that suits a data set: "digits" (8 x 8), "fashion-mnist" (28 x 28 or 32 x 32), "cifar10" (the paper's).

    Raises `ExpungeError` for others.
    """
    raise_all(unserved(name))
    if name == "cifar10":
        return salun_cifar10(num_classes)
    return unet(num_classes, shape, **SHAPES[name])


def unserved(name: str) -> list[str]:
    """What speaks against a network for the data set of this name, a sentence each."""
    known = [*SHAPES, "cifar10"]
    if name in known:
        return []
    return [
        f"there is no generator for the data '{name}'; known are {', '.join(known)} (in Python, `expunge.models.unet.unet` makes the "
        "network for square images of other sizes)."
    ]
