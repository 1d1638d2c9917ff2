"""Small transformers for images and for texts of tokens.

Layer norm comes before attention and before the hidden layer. The head sees the mean over positions; there is no class
token. The sizes are ours: they suit images of 8x8 to 64x64 and a CPU.

Sources: ViT, Dosovitskiy et al., ICLR 2021, arXiv:2010.11929. Layer norm first, Xiong et al., ICML 2020,
arXiv:2002.04745.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError, raise_all
from .layers import normalize


class Layer(nn.Module):
    """Apply attention over positions (B, T, dim) and a hidden layer of 4 `dim`, each with a residual connection."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.hidden = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Attend to the positions where `seen`, bool (B, T), is true. None: to all positions."""
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.hidden(self.norm2(x))


class ViT(nn.Module):
    """Classify images with a transformer on square patches.

    It has 1,205,642 parameters for 32x32 RGB images and 10 classes.

    Args:
        num_classes: Number of classes.
        shape: Shape of one image, (C, H, W).
        patch: Side of a patch.
        dim: Width of the transformer.
        depth: Number of layers.
        heads: Attention heads per layer.

    Raises:
        ModelError: If the sides do not divide by `patch`, or `dim` does not divide by `heads`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        shape: tuple[int, ...] = (3, 32, 32),
        patch: int = 4,
        dim: int = 128,
        depth: int = 6,
        heads: int = 4,
    ):
        super().__init__()
        problems = _problems(dim, heads)
        if len(shape) != 3 or shape[1] % patch or shape[2] % patch:
            problems.append(
                f"inputs of shape {shape} do not divide into patches of {patch}x{patch}; use images (C, H, W) whose sides "
                "divide by `patch`."
            )
        raise_all(problems, ModelError)
        self.normalize = normalize(shape[0])
        self.patches = nn.Conv2d(shape[0], dim, patch, patch)
        self.position = nn.Parameter(torch.empty(1, (shape[1] // patch) * (shape[2] // patch), dim))
        self.layers = nn.ModuleList(Layer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the positions. The layers initialise their own parameters."""
        nn.init.normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(self.normalize(x)).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h).mean(1))


class TextTransformer(nn.Module):
    """Classify texts of token numbers (B, T) with a transformer.

    Token 0 is padding. The arguments `input_ids` and `attention_mask` are those of Hugging Face models. The defaults
    have 1,454,858 parameters.

    Args:
        num_classes: Number of classes.
        shape: Shape of one text, (T,).
        vocabulary: Number of tokens.
        dim: Width of the transformer.
        depth: Number of layers.
        heads: Attention heads per layer.

    Raises:
        ModelError: If the shape is not (T,), or `dim` does not divide by `heads`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        shape: tuple[int, ...] = (64,),
        vocabulary: int = 8192,
        dim: int = 128,
        depth: int = 2,
        heads: int = 4,
    ):
        super().__init__()
        problems = _problems(dim, heads)
        if len(shape) != 1:
            problems.append(
                f"the texts have the shape {shape}; use token numbers of shape (T,) for T tokens."
            )
        raise_all(problems, ModelError)
        self.tokens = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.position = nn.Parameter(torch.empty(1, shape[0], dim))
        self.layers = nn.ModuleList(Layer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the positions. The layers initialise their own parameters."""
        nn.init.normal_(self.position, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        seen = (input_ids != 0) if attention_mask is None else attention_mask.bool()
        # an empty text attends to its first position
        seen = torch.cat([torch.ones_like(seen[:, :1]), seen[:, 1:]], 1)
        h = self.tokens(input_ids) + self.position[:, : input_ids.shape[1]]
        for layer in self.layers:
            h = layer(h, seen)
        weight = seen[..., None].to(h)
        return self.head((self.norm(h) * weight).sum(1) / weight.sum(1))


def _problems(dim: int, heads: int) -> list[str]:
    return (
        [] if dim % heads == 0 else [f"dim={dim} does not divide by heads={heads}; use a multiple of heads."]
    )
