"""NatMU: fine-tune with mixtures of each forget image and images of other classes, under the labels of the latter.

    hybrid_j = m_j * x + (1 - m_j) * x_r,    label of hybrid_j = label of x_r,    j = 1, ..., 4

x_r is a random retain image of the j-th most probable class other than the true one, by the original. The masks m_j in [0, 1] are
ramps over half an image and back, along rows and columns, shifted by delta: m = clip(ramp + delta, 0, 1).

Source: He, Li, Cheng, Huang, Huang, "Towards Natural Machine Unlearning", IEEE TPAMI 2025, doi:10.1109/TPAMI.2025.3597350,
arXiv:2405.15495. The full text could not be read: rule and settings are from the authors' code (ZhengbaoHe/NatMU, commit
f7b977e).

Published:
- 5 epochs of AdamW with a cosine on the retain set and the hybrids, batch size 128. Hybrids are not augmented.
- 1 % random samples of CIFAR-10 (VGG16): delta -0.19, learning rate 1e-3, weight decay 2e-3. CIFAR-100 (ResNet-18): -0.03, 1.1e-3
  and 5e-4. A class of CIFAR-100: -0.053, 2.8e-4 and 0.
- Partners are distinct, so the retain set must have four times as many samples as the forget set.

Ours:
- Partners are distinct only where a class has enough retain samples. So any share can be forgotten.
- With fewer than four other classes in the retain set, the masks share classes.
- The four hybrids come in the same batch, in the place of their forget sample.
- Hybrids are rounded to 8 bits. The code cuts them off.
- Inputs must be images in [0, 1] before the normalisation of the data.

With delta = 1 a hybrid is the forget image under a wrong label; with delta = -1 it is a retain image.

Cost: One pass over the retain set and four hybrids of each forget sample for each epoch.

When not to use it: Inputs are not images in [0, 1], or the retain set has fewer than two other classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..data.batch import Batch, to_device
from ..data.samples import Samples
from ..errors import ExpungeError
from ..training.method import GradientMethod
from ..training.run import Run
from ._pixels import normalized, pixels_of

MASKS = 4


def ramp_masks(height: int, width: int, delta: float) -> Tensor:
    """Return the share of the forget image in each pixel, (4, height, width).

    Args:
        height: Height of an image.
        width: Width of an image.
        delta: Shift of all shares, from -1 to 1.
    """

    def ramp(size: int) -> Tensor:
        half = max(1, size // 2)
        up = torch.arange(half, dtype=torch.float64) / half
        # an odd size has a last row without the forget image
        return torch.cat([up, up.flip(0), torch.zeros(size - 2 * half if size > 1 else 0)])[:size]

    def back(size: int) -> Tensor:
        half = max(1, size // 2)
        return (half - 1) / half - ramp(size)

    rows, columns = (lambda r: r[:, None].expand(height, width)), (lambda r: r.expand(height, width))
    masks = [rows(ramp(height)), columns(ramp(width)), rows(back(height)), columns(back(width))]
    return (torch.stack(masks) + delta).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class NatMU(GradientMethod):
    """Fine-tune with mixtures of forget images and images of other classes (natural machine unlearning, NatMU).

    Args:
        epochs: Number of passes over the retain set and the hybrids.
        lr: Learning rate.
        batch_size: Samples per step, where four hybrids stand for one sample.
        optimizer: Optimizer that takes the steps.
        lr_schedule: Course of the learning rate.
        delta: Shift of the share of the forget image, from -1 to 1. A larger share forgets more.
    """

    epochs: int = 5
    lr: float = 1e-3
    batch_size: int = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    lr_schedule: Literal["constant", "linear", "cosine", "one_cycle", "multistep"] = "cosine"
    delta: float = -0.05

    published: ClassVar = {"delta": -0.19, "max_drop": 100.0}
    needs: ClassVar = ("relabel", "logits")
    search: ClassVar = {"lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), "delta": (-0.19, -0.05, 0.05, 0.2, 0.5)}
    schedule: ClassVar = "mixed"

    def prepare(self, run: Run) -> None:
        """Make the hybrids.

        Raises:
            ExpungeError: The inputs are not images in [0, 1], or the retain set has a single class.
        """
        forget = run.split.forget
        classes = self._classes(run)
        hybrids, labels = [], []
        pool = _Partners(run)
        for batch in forget.batches(run.compute.eval_batch, device=run.device):
            pixels = pixels_of(forget.data, batch, "natmu", "amnesiac or random_label")
            if pixels.ndim != 4:
                raise ExpungeError(
                    f"natmu mixes images (C, H, W), and inputs have the shape {tuple(pixels.shape[1:])}; use random_label."
                )
            masks = ramp_masks(pixels.shape[2], pixels.shape[3], self.delta).to(pixels)
            with torch.no_grad():
                logits = run.task.logits(run.original, batch.x)
            wanted = wrong_classes(logits, batch.y, classes)
            partners = pool.draw(wanted.cpu())
            mixed = masks[None, :, None] * pixels[:, None] + (1 - masks[None, :, None]) * partners.to(pixels)
            hybrids.append((255 * mixed).round().to(torch.uint8).cpu())
            labels.append(wanted.cpu())
        # an entry for each position of the data, as batches name their samples
        row = torch.full((len(forget.data),), -1)
        row[forget.index] = torch.arange(len(forget))
        run.memo |= {"row": row, "hybrids": torch.cat(hybrids), "labels": torch.cat(labels)}

    def _classes(self, run: Run) -> Tensor:
        """Return the classes of the retain set."""
        classes = run.split.retain.labels.unique()
        if len(classes) < 2 and bool((run.split.forget.labels == classes).any()):
            raise ExpungeError(
                "natmu gives forget samples the labels of other classes, and the retain set has one class; use finetune."
            )
        return classes

    def loss(self, run: Run, forget: Batch | None, retain: Batch | None) -> Tensor:
        """Return the mean cross-entropy on the retain batch and the hybrids of the forget batch."""
        batches, labels = [], []
        if forget is not None:
            assert isinstance(forget.x, Tensor)
            rows, data = run.memo["row"][forget.index], run.split.forget.data
            pixels = to_device(run.memo["hybrids"][rows].flatten(0, 1), forget.y.device)
            inputs = normalized(data, pixels.to(forget.x.dtype) / 255)
            labels.append(to_device(run.memo["labels"][rows].flatten(), forget.y.device))
            batches.append(Batch(inputs, labels[-1], forget.index.repeat_interleave(MASKS)))
        if retain is not None:
            batches.append(retain)
            labels.append(retain.y)
        return run.task.relabel_loss(run.model, Batch.join(*batches), torch.cat(labels)).mean()

    def problems(self) -> list[str]:
        problems = super().problems()
        if not -1 <= self.delta <= 1:
            problems.append(f"delta is {self.delta}; it shifts a share and must be from -1 to 1.")
        return problems


def wrong_classes(logits: Tensor, y: Tensor, classes: Tensor) -> Tensor:
    """Return the four most probable of `classes` other than the true one, (B, 4); fewer are repeated in turn.

    Args:
        logits: Logits (B, K).
        y: True classes (B,).
        classes: Classes that may be chosen.
    """
    allowed = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    allowed[to_device(classes, logits.device)] = True
    scores = logits.masked_fill(~allowed, -torch.inf).scatter(1, y[:, None], -torch.inf)
    order = scores.argsort(1, descending=True)
    # for each sample, the number of classes that are left
    count = scores.isfinite().sum(1).clamp(max=MASKS)
    turn = torch.arange(MASKS, device=logits.device)[None] % count[:, None]
    return order.gather(1, turn)


class _Partners:
    """Retain images by class, in random order, each once before any is repeated."""

    def __init__(self, run: Run):
        retain, generator = run.split.retain, run.generator("partners")
        self.run, self.data = run, retain.data
        self.of_class = {
            int(k): retain.index[members[torch.randperm(len(members), generator=generator)]]
            for k in retain.labels.unique()
            for members in [(retain.labels == k).nonzero()[:, 0]]
        }
        self.used = dict.fromkeys(self.of_class, 0)

    def draw(self, classes: Tensor) -> Tensor:
        """Return pixels (B, 4, C, H, W) of images of the classes (B, 4)."""
        positions = torch.empty_like(classes)
        for k in map(int, classes.unique()):
            places, members = classes == k, self.of_class[k]
            turn = self.used[k] + torch.arange(int(places.sum()))
            positions[places] = members[turn % len(members)]
            self.used[k] += len(turn)
        chosen = Samples(self.data, positions.flatten())
        batches = chosen.batches(max(1, len(chosen)), device=self.run.device)
        pixels = torch.cat([pixels_of(self.data, b, "natmu", "amnesiac or random_label") for b in batches])
        return pixels.view(*classes.shape, *pixels.shape[1:])
