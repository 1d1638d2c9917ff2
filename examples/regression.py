"""A task of your own: regression, with float labels of shape (N,).

The model predicts the progression of diabetes from ten measurements of a patient (the data set of scikit-learn, 442 patients). A
prediction counts as right within a tolerance, so UA, RA, TA and MIA have their usual meaning.

Run it with `python examples/regression.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge import Retrain, SalUn, Split, Task, TensorData, audit, train, unlearn
from expunge.data.batch import Batch


@dataclass(frozen=True)
class Regression(Task):
    """One number a sample: `model(x)` returns predictions (B, 1) or (B,), labels are floats (B,).

    Args:
        tolerance: Largest error that counts as right, in units of the labels.
        low: Smallest wrong label that `other_labels` draws.
        high: Largest wrong label that `other_labels` draws.
    """

    tolerance: float = 0.5
    low: float = -2.0
    high: float = 2.0
    name = "regression"
    offers = ("relabel", "other_labels", "scores")
    joint = True

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return half the squared error of each sample (B,), the negative log-likelihood of unit variance without its constant."""
        return self.relabel_loss(model, batch, batch.y)

    def relabel_loss(self, model: nn.Module, batch: Batch, y: Tensor) -> Tensor:
        """Return the same loss with the labels `y` (B,)."""
        prediction = model(batch.x).reshape(len(y))
        return 0.5 * (prediction - y.to(prediction)).square()

    def other_labels(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return labels (B,) drawn uniformly from `low` to `high`."""
        drawn = torch.rand(y.shape, generator=generator) * (self.high - self.low) + self.low
        return drawn.to(y)

    def sample_scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return 1 where the error is within the tolerance, else 0 (B,)."""
        prediction = model(batch.x).reshape(len(batch))
        return ((prediction - batch.y).abs() <= self.tolerance).float() + 0 * prediction


def diabetes() -> tuple[TensorData, TensorData]:
    """Return training and test data: standardised measurements (N, 10) and standardised progression (N,)."""
    from sklearn.datasets import load_diabetes

    x, y = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    clinic = (torch.arange(len(y)) % 10).numpy()
    test = torch.arange(len(y)) % 4 == 0
    return (
        TensorData(x[~test], y[~test], groups={"clinic": clinic[~test.numpy()]}, name="diabetes"),
        TensorData(x[test], y[test], groups={"clinic": clinic[test.numpy()]}, name="diabetes"),
    )


def main() -> None:
    """Forget a tenth of the patients, and audit the result beside Retrain."""
    train_data, test_data = diabetes()
    split, task = Split.random(train_data, test_data, share=0.1), Regression()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    recipe = Retrain(epochs=100, lr=0.05, lr_schedule="one_cycle", batch_size=32)
    original = train(network, split, recipe, task).model
    retrained = unlearn(original, split, recipe, task)
    unlearned = unlearn(original, split, SalUn(epochs=2, lr=0.003, batch_size=32), task)
    for name, model in (("original", original), ("unlearned", unlearned)):
        print(f"{name}: {audit(model, split, task, original=original, retrained=retrained)}")


if __name__ == "__main__":
    main()
