"""Your own model, Dataset and DataLoader, as they are: forget some samples by id, and compare with retraining.

Run: python examples/user_model_and_dataset.py
"""

import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from expunge import Classification, Retrain, SalUn, Split, StreamData, audit, train, unlearn


class Wines(Dataset):
    """178 wines by 13 measured properties, from three growers; every fourth is for testing."""

    def __init__(self, test: bool):
        found = load_wine()
        x = torch.from_numpy((found.data - found.data.mean(0)) / found.data.std(0)).float()
        mine = (torch.arange(len(x)) % 4 == 0) == test
        self.x, self.y = x[mine], torch.from_numpy(found.target)[mine]
        self.names = [f"wine-{i}" for i in mine.nonzero()[:, 0].tolist()]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i], self.y[i]


class Net(nn.Module):
    """Any module whose output are logits (B, K)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.out = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x))


def main() -> None:
    torch.manual_seed(0)
    wines = Wines(test=False)
    forgotten = wines.names[::10]  # what somebody asked to have deleted
    # a Dataset, wrapped to name its samples; a DataLoader, from which the data set and the collate function are taken
    split = Split.by_ids(
        StreamData(wines, ids=wines.names),
        DataLoader(Wines(test=True), batch_size=16),
        forgotten,
        validation_from="test",
    )
    task = Classification(num_classes=3)
    recipe = Retrain(epochs=30, lr=0.05, lr_schedule="cosine", batch_size=32)

    model = train(Net(), split, recipe, task).model  # or load what you trained yourself
    reference = unlearn(model, split, recipe, task, factory=Net)  # never saw the forgotten wines
    unlearned = unlearn(
        model, split, SalUn(epochs=5, lr=0.005, batch_size=32), task
    )  # a new model; `model` is as it was

    print(f"{len(split.forget)} wines forgotten, {len(split.retain)} retained")
    print("original: ", audit(model, split, task, retrained=reference))
    print("unlearned:", audit(unlearned, split, task, original=model, retrained=reference))


if __name__ == "__main__":
    main()
