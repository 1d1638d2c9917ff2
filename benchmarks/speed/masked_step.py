"""The optimizer step with a mask beside the plain one, as shares of forward + backward + step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timing import beside, ratio
from torch import Tensor, nn

from expunge import keep_freed_memory, masked, random_mask
from expunge.models import build


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Forward, backward and step on one batch."""

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def literal_restore(
    model: nn.Module, mask: dict[str, Tensor]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same promise in the plainest way, an int64 mask and a full copy: multiply gradients, add what was held."""
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    wide = {n: m.long() for n, m in mask.items()}

    def before() -> None:
        for n, p in model.named_parameters():
            p.grad *= wide[n]

    @torch.no_grad()
    def after() -> None:
        for n, p in model.named_parameters():
            keep = wide[n].to(p.dtype)
            p.mul_(keep).add_(start[n] * (1 - keep))

    return before, after


def measure(name: str, batch: int, kind: str, rounds: int, density: float = 0.5) -> dict[str, Any]:
    """Plain, masked, and literally masked steps on the same batch, turn by turn."""
    torch.manual_seed(0)
    first = build(name, num_classes=10)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    mask = random_mask(first, density)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        if kind == "adam":
            return torch.optim.Adam(model.parameters(), 1e-4)
        return torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)

    plain, ours, theirs = (copy.deepcopy(first) for _ in range(3))
    opts = [optimizer(m) for m in (plain, ours, theirs)]
    before, after = literal_restore(theirs, mask)
    opts[2].register_step_pre_hook(lambda *_: before())
    opts[2].register_step_post_hook(lambda *_: after())
    with masked(opts[1], ours, mask) as held:
        parts = {
            n: stepper(m, o, x, y)
            for n, m, o in zip(("plain", "masked", "literal"), (plain, ours, theirs), opts, strict=True)
        }
        seconds = beside(parts, rounds, warm=2)
        hooks = beside({"gradients": held.mask_gradients, "restore": held.restore}, 3 * rounds)
        kept = sum(k.nbytes for k in held.kept)
    weights = sum(p.numel() for p in first.parameters())
    step = seconds["plain"]["wall"]["median"]
    return {
        "model": name, "weights": weights, "batch": batch, "optimizer": kind, "density": density, "seconds": seconds,
        "masked_over_plain": ratio(seconds["masked"], seconds["plain"], "cpu"),
        "literal_over_plain": ratio(seconds["literal"], seconds["plain"], "cpu"),
        "hooks": hooks,
        "hooks_share_of_step": sum(h["wall"]["median"] for h in hooks.values()) / step,
        "kept_bytes": kept, "bytes_of_weights": 4 * weights,
    }  # fmt: skip


def run(quick: bool) -> list[dict[str, Any]]:
    """ResNet-20 at batch 128 (the target's setting), and ResNet-18 at a small batch, where a step is hardest to hide in."""
    keep_freed_memory()  # as the command line does
    if quick:
        return [measure("resnet20", 16, "sgd", 3)]
    return [
        measure("resnet20", 128, "sgd", 5), measure("resnet20", 128, "adam", 3), measure("resnet18", 16, "sgd", 5),
    ]  # fmt: skip
