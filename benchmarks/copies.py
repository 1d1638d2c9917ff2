"""Count copies of random forget sets, and measure the time of the search: python benchmarks/copies.py SOURCE."""

import sys
import time
import warnings

import torch

from expunge import Split
from expunge.sources import load

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    source = load(sys.argv[1])
    print(f"{len(source.train):,} training samples, {len(source.test):,} test samples")
    for seed in range(3):
        start = time.perf_counter()
        split = Split.random(source.train, source.test, 0.1, seed=seed)
        seconds = time.perf_counter() - start
        counts = {
            kind: {part: len(pairs) for part, pairs in found.items()}
            for kind, found in (("exact", split.copies.exact), ("near", split.copies.near))
        }
        print(f"seed {seed}: {seconds:.2f} s, {counts}")
