"""Forget with an original that saw the whole training set: by which samples are settings and the end of a run chosen?

    python benchmarks/without_validation.py cifar10 --seed 0 --minutes 20
    python benchmarks/without_validation.py newsgroups --seed 0
    python benchmarks/without_validation.py --collect

Each data set has one original and one reference (Retrain) for each request, and five ways to run a method:

- `train`: as if a tenth of the data had been held out of training (`unseen_ids`). An owner of a finished checkpoint lacks it.
- `test`: a tenth of the test set (`validation_from="test"`).
- `none`: no unseen samples (`validation=0`): rules and trials use the retain set where the request is for a class.
- `off`: no rules and no trials.
- `norules` (UGradSL+ only): the settings that `test` chose, without rules.

Rules are the gate and the stop rule of UGradSL+ and the limit on the drop. With trials, `trials="auto"` chooses all settings but the
number of epochs. All models are scored on the same forget set, retain set and nine tenths of the test set. Finished runs are kept in
`benchmarks/cache/without_validation`; `--collect` writes `benchmarks/results/without_validation.json` and prints the table.

`cifar10` takes 3,000 training images and a small network, because trials on the whole set take hours on a CPU. `newsgroups` is 20
Newsgroups as in `sequence.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from expunge import NHLE, Classification, Retrain, SalUn, Split, UGradSLPlus, execute
from expunge.audit.evaluation import evaluate, gaps
from expunge.bench.results import revision
from expunge.data.past_requests import remember_requests
from expunge.data.samples import Data
from expunge.data.tensors import TensorData
from expunge.records.atomic_files import write_json
from expunge.records.record import machine, plain
from expunge.sources.loading import load
from expunge.sources.source import part_at
from expunge.sources.spec import locate
from expunge.training.method import Method
from expunge.tuning.auto import adapt
from expunge.tuning.trials import choose

sys.path.append(str(Path(__file__).parent))
from sequence import SmallCNN, WordBag

HERE = Path(__file__).parent
CACHE = HERE / "cache" / "without_validation"
RESULT = HERE / "results" / "without_validation.json"
SOURCES = ("train", "test", "none", "off", "norules")
# ways whose runs have no rules
WITHOUT_RULES = ("off", "norules")
METHODS = ("ugradsl_plus", "nhle", "salun")
# passes of SalUn and UGradSL+
PASSES = 2


@dataclass(frozen=True)
class Problem:
    """One data set.

    Args:
        whole: Training data with the tenth that no model was trained on.
        unseen: Positions of that tenth in `whole`.
        test: Test data.
        make: Makes a model with fresh parameters.
        recipe: Recipe of the original and of Retrain.
        requests: {name: what to forget}: a class, a share, or (column, value).
        text: Whether the model takes words, whose methods use AdamW.
    """

    whole: Data
    unseen: torch.Tensor
    test: Data
    make: Callable[[], nn.Module]
    recipe: Retrain
    requests: dict[str, Any]
    text: bool = False

    @property
    def seen(self) -> Data:
        """The training data of the original."""
        kept = torch.ones(len(self.whole), dtype=torch.bool)
        kept[self.unseen] = False
        return part_at(self.whole, kept.nonzero()[:, 0])

    def split(self, request: Any, source: str, seed: int) -> Split:
        """Return the split of a request with one of the sources of its validation set."""
        options: dict[str, Any] = {"copies": "ignore", "seed": seed}
        data = self.seen
        if source == "train":
            data = self.whole
            assert data.ids is not None
            options["unseen_ids"] = data.ids[self.unseen.numpy()].tolist()
        elif source == "test":
            options["validation_from"] = "test"
        else:
            options["validation"] = 0
        if isinstance(request, int):
            return Split.by_class(data, self.test, request, **options)
        if isinstance(request, list):
            return Split.by_ids(data, self.test, request, **options)
        return Split.by_group(data, self.test, *request, **options)


def with_ids(data: Data, prefix: str) -> TensorData:
    """Return tensor data with an id for each sample, by which a part of it is named."""
    return TensorData(
        data.x, data.labels, **{**data.attributes(), "ids": [f"{prefix}{k}" for k in range(len(data))]}
    )  # type: ignore[attr-defined]


def balanced(
    labels: torch.Tensor, count: int, generator: torch.Generator, among: torch.Tensor
) -> torch.Tensor:
    """Return `count` positions, drawn from the positions `among` with equal shares of each class."""
    order = among[torch.randperm(len(among), generator=generator)]
    classes = labels.unique()
    parts = [order[labels[order] == k][: count // len(classes)] for k in classes]
    return torch.cat(parts).sort().values


def cifar10(seed: int) -> Problem:
    """3,000 images of CIFAR-10 and 330 that no model sees; a small network."""
    source = _cifar10()
    draw = torch.Generator().manual_seed(seed)
    chosen = balanced(source[0].labels, 3330, draw, torch.arange(len(source[0])))
    whole = part_at(source[0], chosen)
    test = part_at(source[1], balanced(source[1].labels, 2000, draw, torch.arange(len(source[1]))))
    unseen = balanced(whole.labels, 330, draw, torch.arange(len(whole)))
    recipe = Retrain(epochs=15, lr=0.05, lr_schedule="one_cycle", batch_size=64, weight_decay=5e-4)
    return Problem(whole, unseen, test, _network, recipe, _of_images(whole, unseen, 300, seed, draw))


def _network() -> nn.Module:
    return SmallCNN(width=24, channels=3, side=32)


def _of_images(
    whole: Data, unseen: torch.Tensor, count: int, seed: int, draw: torch.Generator
) -> dict[str, Any]:
    assert whole.ids is not None
    seen = torch.ones(len(whole), dtype=torch.bool)
    seen[unseen] = False
    positions = seen.nonzero()[:, 0]
    forget = positions[torch.randperm(len(positions), generator=draw)[:count]]
    return {"class": seed, "random": whole.ids[forget.sort().values.numpy()].tolist()}


def _cifar10() -> tuple[TensorData, TensorData]:
    """Read CIFAR-10 once; decoding its files takes a minute."""
    path = CACHE / "cifar10.pt"
    source: Any = None
    if not path.exists():
        source = load(locate("cifar10"))
        CACHE.mkdir(parents=True, exist_ok=True)
        torch.save([(d.x, d.labels) for d in (source.train, source.test)], path)
    parts = torch.load(path, weights_only=True)
    data = [TensorData(x, y, name="cifar10") for x, y in parts]
    return with_ids(data[0], "train"), with_ids(data[1], "test")


def newsgroups(seed: int) -> Problem:
    """20 Newsgroups; the class `seed` and the author with the most posts."""
    folder = Path(os.environ["EXPUNGE_DATA"]) / "20newsgroups"
    source = load(f"text:{folder / 'train.parquet'}?test={folder / 'test.parquet'}&length=400")
    authors, counts = np.unique(source.train.groups["author"].astype(str), return_counts=True)
    recipe = Retrain(
        epochs=15, lr=0.003, optimizer="adamw", weight_decay=1.0, lr_schedule="one_cycle", batch_size=128
    )
    draw = torch.Generator().manual_seed(seed)
    unseen = torch.randperm(len(source.train), generator=draw)[: len(source.train) // 10].sort().values
    author = str(authors[np.argsort(-counts, kind="stable")][0])
    requests = {"class": 3 + seed, "author": ("author", author)}
    return Problem(source.train, unseen, source.test, WordBag, recipe, requests, text=True)


DATA = {"cifar10": cifar10, "newsgroups": newsgroups}


class Setting:
    """The original of a data set and seed, and the reference of each request, trained once and kept."""

    def __init__(self, data: str, seed: int):
        self.data, self.seed, self.problem = data, seed, DATA[data](seed)
        self.task = Classification(self.problem.whole.num_classes)

    def model(self, name: str, split: Split) -> nn.Module:
        """Return the original, or the reference `name` of a split."""
        torch.manual_seed(self.seed)
        model = self.problem.make()
        path = CACHE / f"{self.data}-{name}-{self.seed}.pt"
        if not path.exists():
            part = split.for_original if name == "original" else split
            trained = execute(model, part, self.problem.recipe, self.task, seed=self.seed).model
            CACHE.mkdir(parents=True, exist_ok=True)
            torch.save(trained.state_dict(), path)
        model.load_state_dict(torch.load(path, weights_only=True))
        return remember_requests(model, ())

    def scores(self, model: nn.Module, split: Split) -> dict[str, Any]:
        """Return the scores of a model on the sets that all ways share."""
        result = evaluate(model, split, self.task, seed=self.seed)
        return {k: result.scores[k] for k in ("UA", "RA", "TA", "MIA")}

    def method(self, name: str, source: str) -> Method:
        """Return a method before its settings are chosen."""
        changes: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3} if self.problem.text else {}
        if source in WITHOUT_RULES:
            changes["max_drop"] = 100.0
        if name == "nhle":
            return NHLE(guard="validation" if source in WITHOUT_RULES else "retain", **changes)
        if name == "salun":
            return SalUn(epochs=PASSES, batch_size=128, **changes)
        rules = {"gate": False, "early_stop": False} if source in WITHOUT_RULES else {}
        return UGradSLPlus(epochs=PASSES, batch_size=128, **changes, **rules)

    def row(self, request: str, name: str, source: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """Run a method with one source, and score its model. `chosen` are the settings of the way `test`."""
        what = self.problem.requests[request]
        shared = self.problem.split(what, "test", self.seed)
        original = self.model("original", shared)
        reference = self.scores(self.model(f"retrain-{request}", shared), shared)
        split, method = self.problem.split(what, source, self.seed), self.method(name, source)
        fixed = [k for k in ("epochs", "gate", "early_stop", "max_drop", "guard") if hasattr(method, k)]
        options: dict[str, Any] = {"seed": self.seed}
        start, run, details = time.process_time(), None, {}
        if source == "norules":
            method = replace(method, **chosen)
        elif source == "off":
            method = adapt(method, original, split, self.task, fixed)
        else:
            method, run, details = choose(
                original, split, method, self.task, count="auto", fixed=fixed, may_keep=False, **options
            )
        run = run or execute(original, split, method, self.task, **options)
        own, before = self.scores(run.model, shared), self.scores(original, shared)
        return plain({
            "scores": own,
            "retrain": reference,
            "original": before,
            "gap": gaps(own, reference),
            "original_gap": gaps(before, reference),
            "settings": {k: getattr(method, k) for k in ("lr", *type(method).search) if hasattr(method, k)},
            "trials": len(details.get("trials", [])),
            "status": run.status,
            "steps": run.step,
            "notes": [*details.get("notes", []), *run.notes],
            "sizes": split.sizes,
            "cpu_seconds": time.process_time() - start,
        })  # fmt: skip


def run(data: str, seed: int, deadline: float, sources: list[str], names: list[str]) -> None:
    """Make the missing rows of a data set and seed."""
    path = CACHE / f"{data}-{seed}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    setting = Setting(data, seed)
    for request in setting.problem.requests:
        for name in names:
            if name == "nhle" and request != "class":
                continue
            for source in sources:
                key = f"{request}/{name}/{source}"
                if key in rows or (source == "norules" and name != "ugradsl_plus"):
                    continue
                if time.time() > deadline:
                    print(f"{data} {seed}: {len(rows)} runs are done; give the same command again")
                    return
                chosen = rows.get(f"{request}/{name}/test", {}).get("settings", {})
                rows[key] = {**setting.row(request, name, source, chosen), "finished": _now(), "machine": machine(),
                             "revision": revision()}  # fmt: skip
                write_json(path, rows)
                row = rows[key]
                print(
                    f"{data} {seed} {key}: gap {row['gap']['avg']:.2f} {row['scores']}, {row['status']}",
                    flush=True,
                )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect() -> None:
    """Write all finished runs as one file, and print the table of average gaps to Retrain."""
    runs: list[dict[str, Any]] = []
    for path in sorted(CACHE.glob("*-*.json")):
        data, _, seed = path.stem.rpartition("-")
        for key, row in json.loads(path.read_text(encoding="utf-8")).items():
            request, name, source = key.split("/")
            runs.append(
                {"data": data, "seed": int(seed), "request": request, "method": name, "source": source, **row}
            )
    command = "python benchmarks/without_validation.py DATA --seed N; python benchmarks/without_validation.py --collect"
    write_json(RESULT, {"command": command, "table": table(runs), "runs": runs})
    print("\n".join(page(table(runs))))


def table(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the average gap of each way, by data set, request and method, as the mean over the seeds."""
    places = sorted({(r["data"], r["request"], r["method"]) for r in runs})
    rows = []
    for place in places:
        of_place = [r for r in runs if (r["data"], r["request"], r["method"]) == place]
        mean = lambda rs, key="gap": round(float(np.mean([r[key]["avg"] for r in rs])), 2)  # noqa: E731
        by_source = {s: [r for r in of_place if r["source"] == s] for s in SOURCES}
        rows.append({
            "data": place[0], "request": place[1], "method": place[2],
            "seeds": sorted({r["seed"] for r in of_place}),
            "original": mean(of_place, "original_gap"),
            **{source: mean(rs) for source, rs in by_source.items() if rs},
        })  # fmt: skip
    return rows


def page(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table for the docs."""
    head = ["data", "request", "method", "seeds", "original", *SOURCES]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        cells = [", ".join(map(str, row["seeds"])) if k == "seeds" else str(row.get(k, "")) for k in head]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Read the flags, and run or collect."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", choices=DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args(arguments)
    if options.collect:
        return collect()
    if options.data is None:
        parser.error(f"name the data: {', '.join(DATA)}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(options.data, options.seed, time.time() + 60 * options.minutes, options.sources, options.methods)


if __name__ == "__main__":
    main()
