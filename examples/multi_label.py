"""A task of your own: multi-label classification, with labels of shape (N, K).

Three yes-or-no questions about each digit: is it even, is it above 4, has it a closed loop? The task defines the loss, the
loss under other labels, wrong labels, and scores. Then every method, the audit and tuning work on it.

Run it with `python examples/multi_label.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge import Retrain, SalUn, Split, Task, TensorData, audit, train, unlearn
from expunge.data.batch import Batch


@dataclass(frozen=True)
class MultiLabel(Task):
    """K independent yes-or-no labels a sample: `model(x)` returns logits (B, K), labels are 0 or 1 of shape (B, K).

    Args:
        num_labels: Number of labels K.
    """

    num_labels: int
    name = "multi-label classification"
    offers = ("relabel", "other_labels", "scores")
    joint = True

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the binary cross-entropy of each sample (B,), summed over its labels."""
        return self.relabel_loss(model, batch, batch.y)

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Return the same loss with the labels `y` (B, K)."""
        logits = model(batch.x)
        return F.binary_cross_entropy_with_logits(logits, y.to(logits), reduction="none").sum(1)

    def other_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return labels (B, K) of which at least one differs from `y`, drawn uniformly."""
        pattern = torch.randint(1, 2**self.num_labels, (len(y),), generator=generator)
        bits = pattern[:, None] >> torch.arange(self.num_labels) & 1
        return (y.cpu() + bits.to(y.dtype)).remainder(2).to(y.device)

    def sample_scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the share of each sample's labels that are right (B,)."""
        logits = model(batch.x)
        return ((logits > 0) == (batch.y > 0)).float().mean(1) + 0 * logits.sum(1)


def digits() -> tuple[TensorData, TensorData]:
    """Return training and test data: digits (N, 64) in [0, 1] and their three labels (N, 3)."""
    from sklearn.datasets import load_digits

    images, digit = load_digits(return_X_y=True)
    x, digit = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digit)
    loops = torch.isin(digit, torch.tensor([0, 6, 8, 9]))
    y = torch.stack([digit % 2 == 0, digit > 4, loops], 1).float()
    user = (torch.arange(len(y)) % 20).numpy()
    test = torch.arange(len(y)) % 4 == 0
    return (
        TensorData(x[~test], y[~test], groups={"user": user[~test.numpy()]}, name="digits, three labels"),
        TensorData(x[test], y[test], groups={"user": user[test.numpy()]}, name="digits, three labels"),
    )


def main() -> None:
    """Forget a tenth of the samples, and audit the result beside Retrain."""
    train_data, test_data = digits()
    split, task = Split.random(train_data, test_data, share=0.1), MultiLabel(3)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    recipe = Retrain(epochs=20, lr=0.1, lr_schedule="one_cycle", batch_size=64)
    original = train(network, split, recipe, task).model
    retrained = unlearn(original, split, recipe, task)
    unlearned = unlearn(original, split, SalUn(epochs=2, lr=0.003, batch_size=64), task)
    for name, model in (("original", original), ("unlearned", unlearned)):
        print(f"{name}: {audit(model, split, task, original=original, retrained=retrained)}")


if __name__ == "__main__":
    main()
