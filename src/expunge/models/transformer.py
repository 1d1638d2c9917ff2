"""Small transformers: ViT for images (Dosovitskiy et al., ICLR 2021, arXiv:2010.11929), and one for texts as token numbers.

Both put layer norm before attention and before the hidden layer (Xiong et al., ICML 2020, arXiv:2002.04745) and average
over positions instead of keeping a class token: the sizes are ours, for data sets of 8x8 to 64x64 and for a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError, raise_all
from .layers import normalize


class Layer(nn.Module):
    """Attention over positions (B, T, dim), then a hidden layer of 4 dim, each added to what came in."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.hidden = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """`seen`, bool (B, T): the positions that may be looked at; all of them if None."""
        b, t, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, dim))
        return x + self.hidden(self.norm2(x))


class ViT(nn.Module):
    """Vision transformer on `patch` x `patch` squares; 1,205,642 parameters for 32x32 RGB images and 10 classes.

    Raises `ModelError` for images that do not divide into patches.
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
                f"inputs of shape {shape} do not divide into patches of {patch}x{patch}; give images (C, H, W) whose "
                "sides divide by `patch`."
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
        """Fresh positions; the layers reset their own weights."""
        nn.init.normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(self.normalize(x)).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h).mean(1))


class TextTransformer(nn.Module):
    """Classifier of texts given as token numbers (B, T) below `vocabulary`, 0 for padding; 1,454,858 parameters at the
    defaults. Takes dicts with `input_ids` and `attention_mask` too, as the Hugging Face libraries make them."""

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
                f"texts came with the shape {shape}; give token numbers, shape (T,) for T tokens."
            )
        raise_all(problems, ModelError)
        self.tokens = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.position = nn.Parameter(torch.empty(1, shape[0], dim))
        self.layers = nn.ModuleList(Layer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh positions; the layers reset their own weights."""
        nn.init.normal_(self.position, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        seen = (input_ids != 0) if attention_mask is None else attention_mask.bool()
        seen = torch.cat(
            [torch.ones_like(seen[:, :1]), seen[:, 1:]], 1
        )  # an empty text attends to its first position
        h = self.tokens(input_ids) + self.position[:, : input_ids.shape[1]]
        for layer in self.layers:
            h = layer(h, seen)
        weight = seen[..., None].to(h)
        return self.head((self.norm(h) * weight).sum(1) / weight.sum(1))


def _problems(dim: int, heads: int) -> list[str]:
    return [] if dim % heads == 0 else [f"dim={dim} does not divide by heads={heads}; give a multiple."]
