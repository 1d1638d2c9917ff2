"""Watch an unlearning run in TensorBoard, MLflow or Weights & Biases.

Run: python examples/integrations/track.py tensorboard:runs mlflow:sqlite:///runs.db wandb:unlearning
Then: tensorboard --logdir runs, or mlflow ui --backend-store-uri sqlite:///runs.db. WANDB_MODE=offline uploads nothing.
"""

import sys

import torch

from expunge import Classification, Retrain, SalUn, Split, audit, experiment, train
from expunge.audit import evaluate
from expunge.models import build
from expunge.sources import load


def main(trackers: list[str]) -> None:
    torch.manual_seed(0)
    data, task = load("digits?limit=600"), Classification(num_classes=10)
    split = Split.by_class(data.train, data.test, forget=3)
    recipe = Retrain(epochs=8, lr=0.1, lr_schedule="one_cycle", batch_size=64)
    original = train(build("mlp", num_classes=10, shape=data.shape), split, recipe, task).model

    outcome = experiment(
        original,
        split,
        SalUn(epochs=6, lr=0.05, batch_size=32),
        task,
        original=evaluate(original, split, task),
        names={"model": "mlp", "data": "digits"},
        tracker=trackers,
    )
    print("before:", audit(original, split, task))
    print("after: ", outcome.audit)


if __name__ == "__main__":
    main(sys.argv[1:] or ["tensorboard:runs"])
