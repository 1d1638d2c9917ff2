"""How far is the accuracy of a few unseen samples from that of all unseen samples of their classes, with and without a loan?

    python benchmarks/few_unseen.py digits --seed 0
    python benchmarks/few_unseen.py cifar10 --seed 0

A small network is trained on 300 digits or on 2,000 images of CIFAR-10 (`EXPUNGE_DATA`). Of its unseen samples, n of each class are
drawn 200 times. For each class and each pair of classes, the estimate is the mean accuracy of these n samples, to which all drawn
samples together are added as LOAN more (`expunge.data.likeness`). The truth is the accuracy on all unseen samples of the classes. It
prints the root mean square error in percentage points for each loan. "inf" takes all classes alike.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

LOANS = (0, 2, 5, 10, 20, 40, float("inf"))
COUNTS = (1, 2, 4, 6, 10, 15, 30)
DRAWS = 200


def digits(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, nn.Module, int, float]:
    """Return training and unseen samples, a network, epochs and learning rate."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(x), generator=generator)
    seen, unseen = order[:300], order[300:]
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return x[seen], y[seen], x[unseen], y[unseen], network, 60, 0.1


def cifar10(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, nn.Module, int, float]:
    """The same for CIFAR-10: 2,000 of the first 8,000 training images, and the first 6,000 test images."""
    (x, y), (unseen_x, unseen_y) = _images("train", 8000), _images("test", 6000)
    seen = torch.randperm(len(x), generator=generator)[:2000]
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return x[seen], y[seen], unseen_x, unseen_y, network, 20, 0.05


def _images(part: str, count: int) -> tuple[Tensor, Tensor]:
    import pyarrow.parquet as parquet
    from PIL import Image

    file = Path(os.environ["EXPUNGE_DATA"]) / "cifar10-jpeg" / f"{part}.parquet"
    rows = parquet.read_table(file).slice(0, count).to_pydict()
    pictures = [
        np.array(Image.open(io.BytesIO(image["bytes"] if isinstance(image, dict) else image)).convert("RGB"))
        for image in rows["img"]
    ]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return (x / 255 - 0.47) / 0.25, torch.tensor(rows["label"])


def right(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Train the network. Return which unseen samples it has right, and their labels."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y, unseen_x, unseen_y, network, epochs, lr = {"digits": digits, "cifar10": cifar10}[name](generator)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        predicted = torch.cat([network(part).argmax(1) for part in unseen_x.split(500)])
    return (predicted == unseen_y).double().numpy(), unseen_y.numpy()


def errors(correct: np.ndarray, labels: np.ndarray, count: int, draw: np.random.RandomState) -> list[float]:
    """Return the root mean square error in points for each loan, with `count` samples of each class."""
    of_class = [np.flatnonzero(labels == k) for k in range(10)]
    truth = np.array([correct[samples].mean() for samples in of_class])
    groups = [[k] for k in range(10)] + [list(pair) for pair in itertools.combinations(range(10), 2)]
    squares: list[list[float]] = [[] for _ in LOANS]
    for _ in range(DRAWS):
        means = np.array([correct[draw.choice(s, count, replace=False)].mean() for s in of_class])
        for group in groups:
            for loan, values in zip(LOANS, squares, strict=True):
                share = 1.0 if loan == float("inf") else loan / (count * len(group) + loan)
                estimate = (1 - share) * means[group].mean() + share * means.mean()
                values.append((100 * (estimate - truth[group].mean())) ** 2)
    return [float(np.sqrt(np.mean(values))) for values in squares]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=("digits", "cifar10"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    correct, labels = right(options.data, options.seed)
    draw = np.random.RandomState(options.seed)
    print("samples per class", *(f"loan {loan:g}" for loan in LOANS), sep="\t")
    for count in COUNTS:
        print(
            count, *(f"{error:.1f}" for error in errors(correct, labels, count, draw)), sep="\t", flush=True
        )


if __name__ == "__main__":
    main()
