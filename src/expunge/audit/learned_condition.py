"""The embedding of one condition of a frozen generator, as a parameter that can be learned."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError


class LearnedCondition(nn.Module):
    """Wrap a frozen model so that the embedding of one condition can be learned.

    `rows` holds the learned embedding: one row for each table of conditions. A DiT of diffusers has a table in every
    block, and each table gets its own row.

    Args:
        model: The model. It is copied.
        size: Number of conditions, including the null condition.
        condition: The condition to learn.
        start: Where the embedding starts: "null" at the null condition, "own" at the condition itself.

    Raises:
        ModelError: If the model has no table of conditions.
    """

    def __init__(self, model: nn.Module, size: int, condition: int, *, start: str = "null"):
        super().__init__()
        self.inner = copy.deepcopy(model).eval().requires_grad_(False)
        self.names = condition_tables(self.inner, size)
        labels: Tensor | None = getattr(self.inner, "labels", None)  # type: ignore[assignment]
        self.row = condition if labels is None else int(labels[condition])
        null = size - 1 if labels is None else int(labels[-1])
        at = null if start == "null" else self.row
        self.rows = nn.ParameterList(table[at].detach().clone().float() for table in self._tables())

    def _tables(self) -> list[Tensor]:
        tensors = dict([*self.inner.named_parameters(), *self.inner.named_buffers()])
        return [tensors[name] for name in self.names]

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Any:
        k = self.row
        changed = {
            name: torch.cat([table[:k], row[None].to(table.dtype), table[k + 1 :]])
            for name, table, row in zip(self.names, self._tables(), self.rows, strict=True)
        }
        return torch.func.functional_call(self.inner, changed, (x, t, y))


def condition_tables(model: nn.Module, size: int) -> list[str]:
    """Return the names of the parameters or buffers that hold one embedding per row for `size` conditions.

    This is an `nn.Embedding` with `size` rows, or the buffers `prompts` and `pooled` of a text-conditioned model. If a
    buffer `labels` maps conditions to classes, it is every `embedding_table` of a DiT.

    Args:
        model: The model to search.
        size: Number of conditions, including the null condition.

    Raises:
        ModelError: If the model has no such table.
    """
    embeddings = {
        f"{n}.weight" if n else "weight": m for n, m in model.named_modules() if isinstance(m, nn.Embedding)
    }
    labels = getattr(model, "labels", None)
    if labels is not None:
        largest = int(labels.max())
        names = [n for n, m in embeddings.items() if "embedding_table" in n and m.num_embeddings > largest]
    else:
        names = [n for n, m in embeddings.items() if m.num_embeddings == size][:1]
    if not names:
        known = ("prompts", "pooled")
        names = [n for n, b in model.named_buffers() if n.rpartition(".")[2] in known and len(b) == size]
    if not names:
        raise ModelError(
            f"the model has no embedding of {size} conditions; a learned condition needs an nn.Embedding with {size} rows, "
            "or a buffer `prompts`."
        )
    return names
