"""Class-conditional U-Nets of diffusers: small ones for a CPU, and the network of the SalUn paper for CIFAR-10.

A network for K classes has K + 1 class embeddings. The last one is the null condition (see `expunge.tasks.diffusion`).
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
    """Make a diffusers `UNet2DModel` for `num_classes` classes and the null condition.

    Args:
        num_classes: Number of classes.
        shape: Shape of one image, (C, H, W).
        width: Channels of the first level.
        multipliers: Channels of each level, as multiples of `width`.
        blocks: Residual blocks per level.
        attention: Sides of the levels with self-attention.
        dropout: Dropout rate.

    Raises:
        ExpungeError: If the images are not square, their side does not halve evenly, or `width` does not divide by 8.
        MissingExtra: If diffusers is not installed.

    Example:
        >>> model = unet(10, (3, 32, 32), width=64, multipliers=(1, 2, 2))
    """
    channels, size = shape[0], shape[1]
    if shape[1] != shape[2] or size % 2 ** (len(multipliers) - 1) or width % 8:
        raise ExpungeError(
            f"images of {shape} with width {width} and {len(multipliers)} levels do not fit; use square images whose side "
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


class _PaddedEmbedding(nn.Module):
    """Pad an embedding with zeros, so that the sum of two padded embeddings is their concatenation."""

    def __init__(self, inner: nn.Module, before: int, after: int):
        super().__init__()
        self.inner, self.pad = inner, (before, after)

    def forward(self, *inputs: Any) -> Tensor:
        return nn.functional.pad(self.inner(*inputs), self.pad)


def salun_cifar10(num_classes: int = 10, *, size: int = 32) -> nn.Module:
    """Make the CIFAR-10 network of SalUn and Selective Amnesia, with 38,632,323 parameters for ten classes.

    It has 128 channels times 1, 2, 2, 2, two residual blocks per level, attention at 16 x 16 and in the middle, and
    dropout 0.1. The class embedding passes through two layers. It is concatenated with the time embedding (both 512
    wide) instead of added.

    Args:
        num_classes: Number of classes.
        size: Side of the images: 32 or 64.

    Source: SalUn, arXiv:2310.12508, released code.
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

    def two_layers() -> list[nn.Module]:
        return [nn.Linear(128, 512), nn.SiLU(), nn.Linear(512, 512)]

    net.time_embedding = _PaddedEmbedding(nn.Sequential(*two_layers()), 0, 512)
    net.class_embedding = _PaddedEmbedding(
        nn.Sequential(nn.Embedding(num_classes + 1, 128), *two_layers()), 512, 0
    )
    return net


SHAPES: dict[str, dict[str, Any]] = {
    "digits": {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (4,)},
    # attention at a quarter of the side: 7 for 28, 8 for images padded to 32
    "fashion-mnist": {"width": 48, "multipliers": (1, 2, 2), "blocks": 1, "attention": (7, 8)},
}


def for_data(name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Make the network for a data set.

    Args:
        name: "digits" (8 x 8), "fashion-mnist" (28 x 28 or 32 x 32) or "cifar10" (the network of the paper).
        num_classes: Number of classes.
        shape: Shape of one image, (C, H, W).

    Raises:
        ExpungeError: If no network suits the data set.
    """
    raise_all(unserved(name))
    if name == "cifar10":
        return salun_cifar10(num_classes)
    return unet(num_classes, shape, **SHAPES[name])


def unserved(name: str) -> list[str]:
    """Return the reason why there is no network for this data set, if there is none."""
    known = [*SHAPES, "cifar10"]
    if name in known:
        return []
    return [
        f"there is no generator for the data '{name}'; known: {', '.join(known)}. In Python, `expunge.models.unet.unet` "
        "makes networks for other square images."
    ]
