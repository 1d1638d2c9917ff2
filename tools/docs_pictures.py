"""Draw the pictures of docs/attacks.md from small real runs: `python tools/docs_pictures.py [NAME ...]` (digits, MLP).

Each picture is one attack on models that are trained here: nothing is drawn by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from expunge import Classification, Retrain, SalUn, Split, find, train, unlearn  # noqa: E402
from expunge.bench.plots import STYLE  # noqa: E402
from expunge.models import build  # noqa: E402
from expunge.report.svg import Plot, ticks  # noqa: E402
from expunge.sources import load  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
SHADOWS = 8
RECIPE = Retrain(epochs=10, lr=0.1, lr_schedule="one_cycle", batch_size=64)
DATA = load("digits")
TASK = Classification(num_classes=10)
EXTRA = ".name{font-size:11px}circle.f0,circle.f1,circle.f2{fill-opacity:.55}"


def write(plot: Plot, name: str, label: str) -> None:
    """Write a drawing as an SVG file with the style of the benchmark figures."""
    svg = str(plot.svg(label)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, _, rest = svg.partition(">")
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / name).write_text(f"{head}><style>{STYLE}{EXTRA}</style>{rest}\n", encoding="utf-8")
    print(f"wrote docs/figures/{name}")


def trained(split: Split, seed: int, *, reference: bool = False) -> nn.Module:
    """Return an original, or with `reference` a model that never saw the forget set."""
    torch.manual_seed(seed)
    fresh = build("mlp", num_classes=10, shape=DATA.shape)
    if reference:
        return unlearn(fresh, split, RECIPE, TASK, seed=seed)
    return train(fresh, split, RECIPE, TASK, seed=seed).model


def logits(model: nn.Module, samples: object) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and labels (N,) of a set of samples."""
    model.eval()
    with torch.no_grad():
        found = [(model(batch.x), batch.y) for batch in samples.batches(512)]  # type: ignore[attr-defined]
    return torch.cat([z for z, _ in found]), torch.cat([y for _, y in found])


def confidences(model: nn.Module, samples: object) -> np.ndarray:
    z, y = logits(model, samples)
    return z.softmax(1).gather(1, y[:, None])[:, 0].numpy()


def margins(model: nn.Module, samples: object) -> np.ndarray:
    """Return log(p / (1 - p)) of the true class: the scaled logit of LiRA."""
    z, y = logits(model, samples)
    others = z.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return (z.gather(1, y[:, None])[:, 0] - others).numpy()


def legend(plot: Plot, names: Sequence[str], x: float, y: float) -> None:
    for number, name in enumerate(names):
        plot.segment(x, y + 14 * number, x + 14, y + 14 * number, f"line k{number}")
        plot.text(x + 19, y + 4 + 14 * number, name, f"f{number}")


def mia() -> None:
    """Shares of samples below each confidence: what the MIA attack sees."""
    split = Split.random(DATA.train, DATA.test, share=0.1, seed=0)
    original, retrained = trained(split, 0), trained(split, 0, reference=True)
    ours = unlearn(original, split, SalUn(epochs=5, batch_size=64, lr=0.05), TASK, seed=0)
    plot = Plot((0.0, 1.0), (0.0, 1.0), height=230)
    plot.axes(ticks(0, 1), ticks(0, 1), "confidence in the true class", "share of the samples below")
    curves = {
        "forget set, original": confidences(original, split.forget),
        "forget set, SalUn": confidences(ours, split.forget),
        "forget set, Retrain": confidences(retrained, split.forget),
        "test set, original": confidences(original, split.test),
    }
    for number, values in enumerate(curves.values()):
        points = np.sort(values)
        plot.line(
            [0.0, *points.tolist(), 1.0],
            [0.0, *(np.arange(1, len(points) + 1) / len(points)).tolist(), 1.0],
            f"line k{number}",
        )
    legend(plot, list(curves), 60, 25)
    write(plot, "attack-mia.svg", "Distribution of confidences on forget and test samples")


def lira() -> None:
    """One sample under many models: originals, unlearned and retrained ones."""
    split = Split.random(DATA.train, DATA.test, share=0.1, seed=0)
    method = SalUn(epochs=5, batch_size=64, lr=0.05)
    rows: dict[str, list[np.ndarray]] = {"originals": [], "unlearned (SalUn)": [], "retrained": []}
    for seed in range(SHADOWS):
        original = trained(split, seed)
        rows["originals"].append(margins(original, split.forget))
        rows["unlearned (SalUn)"].append(
            margins(unlearn(original, split, method, TASK, seed=seed), split.forget)
        )
        rows["retrained"].append(margins(trained(split, seed, reference=True), split.forget))
    means = {name: np.stack(values).mean(0) for name, values in rows.items()}
    # the sample whose original and retrained models differ most
    sample = int(np.argmax(means["originals"] - means["retrained"]))
    values = {name: np.stack(v)[:, sample] for name, v in rows.items()}
    low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
    plot = Plot((float(low) - 1, float(high) + 1), (0.0, 3.0), height=150, left=110)
    plot.axes(ticks(low, high), [], "log(p / (1 - p)) of the true class")
    for number, (name, points) in enumerate(values.items()):
        y = plot.py(2.5 - number)
        plot.text(4, y + 4, name, f"f{number}")
        plot.parts += [
            f'<circle class="f{number}" cx="{plot.px(float(x)):.1f}" cy="{y:.1f}" r="4"/>' for x in points
        ]
    write(plot, "attack-lira.svg", f"One forget sample under {SHADOWS} models of each kind")


def relearning() -> None:
    """Accuracy on the forgotten class while a model is trained on it again."""
    split = Split.by_class(DATA.train, DATA.test, forget=3)
    original = trained(split, 0)
    models = {
        # a shift as large as the logits: with the default of 10000 no training brings the class back
        "bias_shift": unlearn(original, split, find("bias_shift")(shift=10.0), TASK),
        "SalUn": unlearn(original, split, SalUn(epochs=5, batch_size=64), TASK, seed=0),
        "Retrain": trained(split, 0, reference=True),
    }
    steps = 60
    plot = Plot((0.0, float(steps)), (0.0, 100.0), height=210)
    plot.axes(
        ticks(0, steps),
        ticks(0, 100),
        "step of SGD on forgotten samples",
        "accuracy on the forgotten class, %",
    )
    for number, model in enumerate(models.values()):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
        curve = []
        generator = torch.Generator().manual_seed(0)
        x, y = next(iter(split.forget.batches(len(split.forget)))).x, 3
        for _ in range(steps + 1):
            z, labels = logits(model, split.forget)
            curve.append(100 * float((z.argmax(1) == labels).float().mean()))
            batch = x[torch.randint(0, len(x), (16,), generator=generator)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), torch.full((16,), y)).backward()
            optimizer.step()
        plot.line(list(map(float, range(steps + 1))), curve, f"line k{number}")
    legend(plot, list(models), 250, 120)
    write(plot, "attack-relearning.svg", "Accuracy on the forgotten class while it is learned again")


def features() -> None:
    """Features before the head, projected on two directions: the forgotten class and three others."""
    split = Split.by_class(DATA.train, DATA.test, forget=3)
    original = trained(split, 0)
    models = {
        "bias_shift": unlearn(original, split, find("bias_shift")(), TASK),
        "Retrain": trained(split, 0, reference=True),
    }
    plot = Plot((0.0, 1.0), (0.0, 1.0), height=200)
    kept = (2, 5, 8)
    for panel, (name, model) in enumerate(models.items()):
        x, y = _test_samples((3, *kept))
        with torch.no_grad():
            z = TASK.with_features(model, x)[1].numpy()
        centred = z - z.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        flat = centred @ directions[:2].T
        flat = (flat - flat.min(0)) / (flat.max(0) - flat.min(0))
        left = 8 + 180 * panel
        plot.text(left, 14, f"{name}: features of test images")
        for label, number in ((2, 1), (5, 1), (8, 1), (3, 0)):
            for a, b in flat[y.numpy() == label]:
                plot.parts.append(
                    f'<circle class="f{number}" cx="{left + 160 * a:.1f}" cy="{182 - 155 * b:.1f}" r="2.5"/>'
                )
    plot.text(8, 197, "forgotten class 3", "f0")
    plot.text(110, 197, "classes 2, 5 and 8", "f1")
    write(plot, "attack-features.svg", "Features of a forgotten class below the head")


def _test_samples(classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    split = Split.by_class(DATA.train, DATA.test, forget=3)
    batches = [*split.test.batches(512), *split.test_forgotten.batches(512)]
    x, y = torch.cat([b.x for b in batches]), torch.cat([b.y for b in batches])
    chosen = torch.isin(y, torch.tensor(classes))
    return x[chosen], y[chosen]


if __name__ == "__main__":
    for draw in (mia, relearning, features, lira):
        if not sys.argv[1:] or draw.__name__ in sys.argv[1:]:
            draw()
