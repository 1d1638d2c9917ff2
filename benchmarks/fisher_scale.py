"""Measure how much larger the Fisher information of Selective Amnesia's released code is than ours, on a generator of digits.

    python benchmarks/fisher_scale.py

It trains a small generator (20 epochs, seed 0) and computes both on 8 images: ours from 25 random time steps of each, theirs
from all 1,000. It prints the ratio for the median parameter and for the sum over all parameters.
"""

from __future__ import annotations

import torch

from expunge.generation.runs import Generation
from expunge.methods.retrain_ema import RetrainEMA
from expunge.methods.selective_amnesia import SelectiveAmnesia
from expunge.sources.loading import load
from expunge.sources.spec import locate
from expunge.training.execute import execute
from expunge.training.run import Run


def main() -> None:
    torch.manual_seed(0)
    setting = Generation.of(load(locate("digits")), "digits", 3, seed=0)
    task, split = setting.task, setting.split
    recipe = RetrainEMA(epochs=20, lr=2e-3, lr_schedule="one_cycle", batch_size=64, ema=0.995)
    model = execute(setting.factory(), split.for_original, recipe, task, factory=setting.factory).model
    run = Run(model, split, task)
    x, y = SelectiveAmnesia(replay="data")._pool(run, task, split.retain, 8)
    ours = SelectiveAmnesia()._fisher(run, task, x.repeat(25, 1, 1, 1), y.repeat(25))
    theirs = SelectiveAmnesia(paper=True)._fisher(run, task, x, y)
    # `elastic` multiplies ours by the elements of an image, and theirs belong to losses that are that many times as large
    a, b = (torch.cat([v.flatten() for v in f.values()]) for f in (theirs, ours))
    b = b * x[0].numel() ** 2
    print(f"ratio: {float((a / b)[b > 0].median()):.2g} (median), {float(a.sum() / b.sum()):.2g} (sums)")


if __name__ == "__main__":
    main()
