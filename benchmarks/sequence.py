"""Ten deletion requests, one after the other: is every earlier one still honoured after every later one?

    python benchmarks/sequence.py fashion --method salun --seed 0 --minutes 30
    python benchmarks/sequence.py newsgroups --method retrain --seed 0
    python benchmarks/sequence.py --collect

One call runs one data set, method and seed: an original, ten requests, each from the model of the one before, and an audit
after each. `retrain` trains one reference without the union of all ten. A call can be repeated: finished requests are kept in
`benchmarks/cache/sequence`. Names with `-auto` choose the settings anew at each request, as the commands do; the others take those
that nine trials chose at the first request of a kind. Names with `-again` also answer again what came back, as
`expunge forget --pending` does. `--collect` writes `benchmarks/results/sequence.json` from all finished runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expunge import NHLE, Classification, Retrain, SalUn, Split, UGradSLPlus, audit, execute
from expunge.audit.evaluation import Evaluation, evaluate
from expunge.data.past_requests import PastRequest, remember_requests, remember_scores, requests_of
from expunge.data.samples import Data
from expunge.data.tensors import TensorData
from expunge.projects.wanted import union_of
from expunge.records.atomic_files import write_json
from expunge.records.record import machine, plain
from expunge.records.request_file import read_requests, write_requests
from expunge.sources.loading import load
from expunge.sources.spec import locate
from expunge.training.method import Method
from expunge.training.run import Run
from expunge.tuning.trials import choose, tune

HERE = Path(__file__).parent
CACHE = HERE / "cache" / "sequence"
RESULT = HERE / "results" / "sequence.json"
# lengths of a run, and the trials of the learning rate for each, from which validation data choose: steps for SalUn, whose
# epoch is one pass over the forget set; epochs for UGradSL+, whose epoch is one pass over the retain set
STEPS, EPOCHS, TRIALS = (10, 30, 90), (1, 2, 4), 3
# samples of a batch
BATCH = 128
METHODS = ("salun", "ugradsl_plus", "nhle", "salun-rehearse", "ugradsl_plus-rehearse", "retrain",
           "salun-auto", "ugradsl_plus-auto", "nhle-auto",
           "salun-auto-again", "ugradsl_plus-auto-again", "nhle-auto-again")  # fmt: skip
# runs that answer again what came back, after each request
AGAIN = 2
# passes over the data of the runs that choose their settings at each request
PASSES = 2


class WordBag(nn.Module):
    """Classify a text, word numbers (B, 128), by the mean of its word vectors."""

    def __init__(self, words: int = 8192, classes: int = 20, width: int = 128):
        super().__init__()
        self.words = nn.Embedding(words, width)
        layers = (nn.LayerNorm(width), nn.Dropout(0.5), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        known = attention_mask.unsqueeze(-1).float()
        mean = (self.words(input_ids) * known).sum(1) / known.sum(1).clamp(min=1)
        return self.head(self.body(mean))


class SmallCNN(nn.Module):
    """Classify a square image by two convolutions of stride 2: an epoch of 60,000 of Fashion-MNIST takes 8 processor seconds.

    Args:
        classes: Number of classes.
        width: Channels of the first convolution.
        channels: Channels of the image.
        side: Height and width of the image, a multiple of 4.
    """

    def __init__(self, classes: int = 10, width: int = 16, channels: int = 1, side: int = 28):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=2, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, 128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        return self.head(self.body(x))


def fashion(seed: int) -> tuple[Data, Data, nn.Module, Method, list[tuple[str, Any]]]:
    """Fashion-MNIST. Its images belong to nobody, so each gets one of 300 made-up persons."""
    source = load(locate("fashion-mnist"))
    persons = np.random.default_rng(seed).integers(0, 300, len(source.train))
    train = TensorData(
        source.train.x,  # type: ignore[attr-defined]
        source.train.labels,
        ids=[f"i{k}" for k in range(len(source.train))],
        groups={"person": [f"p{k}" for k in persons]},
        name="fashion-mnist",
    )
    recipe = Retrain(epochs=10, lr=0.1, lr_schedule="one_cycle", batch_size=128)
    torch.manual_seed(seed)
    model = SmallCNN()
    return (
        train,
        source.test,
        model,
        recipe,
        requests(train, seed, classes=(3, 8), persons=("p7", "p12", "p40")),
    )


def newsgroups(seed: int) -> tuple[Data, Data, nn.Module, Method, list[tuple[str, Any]]]:
    """20 Newsgroups (headers removed); persons are the authors with the most posts."""
    folder = Path(os.environ["EXPUNGE_DATA"]) / "20newsgroups"
    source = load(f"text:{folder / 'train.parquet'}?test={folder / 'test.parquet'}&length=400")
    authors, counts = np.unique(source.train.groups["author"].astype(str), return_counts=True)
    persons = tuple(authors[np.argsort(-counts, kind="stable")][:3].tolist())
    recipe = Retrain(
        epochs=15, lr=0.003, optimizer="adamw", weight_decay=1.0, lr_schedule="one_cycle", batch_size=128
    )
    torch.manual_seed(seed)
    model = WordBag()
    return (
        source.train,
        source.test,
        model,
        recipe,
        requests(source.train, seed, classes=(3, 8), persons=persons, column="author"),
    )


def requests(
    train: Data, seed: int, classes: tuple[int, int], persons: tuple[str, str, str], column: str = "person"
) -> list[tuple[str, Any]]:
    """Return the ten requests: ids, classes and persons. The fourth and the ninth overlap with earlier ones."""
    generator = np.random.default_rng(100 + seed)
    names = np.asarray(train.ids).astype(str)
    order = names[generator.permutation(len(names))].tolist()
    of_class = names[(train.labels == classes[0]).numpy()].tolist()
    return [
        ("ids", order[:100]),
        ("class", classes[0]),
        (column, persons[0]),
        ("ids", order[50:150]),
        (column, persons[1]),
        ("ids", order[150:350]),
        ("class", classes[1]),
        (column, persons[2]),
        ("ids", [*order[300:400], *(n for n in of_class[:50] if n not in order[300:400])]),
        ("ids", order[400:500]),
    ]


def draw(train: Data, test: Data, request: tuple[str, Any]) -> Split:
    """Return the split of one request. The validation set is the same for all."""
    kind, value = request
    if kind == "ids":
        return Split.by_ids(train, test, value)
    if kind == "class":
        return Split.by_class(train, test, value)
    return Split.by_group(train, test, kind, value)


def method_for(name: str, request: tuple[str, Any], split: Split, recipe: Method) -> Method:
    """Return the method for a request, before its length and learning rate are chosen.

    NHLE serves classes; all other requests of its sequence are answered by SalUn.
    """
    text = getattr(recipe, "optimizer", "sgd") == "adamw"
    changes: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3} if text else {}
    if name.startswith("nhle") and request[0] == "class":
        return NHLE(guard="retain", **changes)
    # trials at each request change the learning rate of two passes over the retain set; the others choose lengths too
    changes |= {"epochs": PASSES} if "-auto" in name else {}
    if name.startswith("ugradsl"):
        return UGradSLPlus(batch_size=BATCH, **changes)
    changes |= {} if "-auto" in name else {"order": "paired"}
    return SalUn(batch_size=BATCH, **changes)


def chosen(
    folder: Path, method: Method, kind: str, model: nn.Module, split: Split, task: Classification
) -> Method:
    """Return the method with the length and learning rate that trials chose at the first request of a kind.

    They look at validation data only, never at a reference.
    """
    path = folder / "settings.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    steps_an_epoch = 1 if isinstance(method, UGradSLPlus) else math.ceil(len(split.forget) / BATCH)
    lengths = {NHLE: (0,), UGradSLPlus: EPOCHS}.get(type(method), STEPS)
    if kind not in known:
        trials = []
        for steps in lengths:
            tried = replace(method, epochs=math.ceil(steps / steps_an_epoch)) if steps else method
            tuned = tune(model, split, tried, task, count=TRIALS, seed=1000)
            trials += [{"steps": steps, "settings": t.settings, "distance": t.distance} for t in tuned.trials]
        known[kind] = {
            **min(trials, key=lambda t: t["distance"]),
            "untouched": tuned.untouched,
            "trials": trials,
        }
        write_json(path, plain(known))
    best = known[kind]
    length = {"epochs": math.ceil(best["steps"] / steps_an_epoch)} if best["steps"] else {}
    return replace(method, **best["settings"], **length)


def row(
    number: int, evaluation: Evaluation, scores: dict[str, Any], earlier: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what is kept of the audit after request `number`: accuracy and MIA of it and of every earlier request."""
    of_request = [
        {
            "request": e["number"],
            "accuracy": 100 - e["UA"],
            "MIA": e["MIA"],
            "came_back": e["came_back"],
            "samples": e["samples"],
        }
        for e in earlier
    ]
    own = {"request": number, "accuracy": 100 - scores["UA"], "MIA": scores["MIA"], "came_back": False}
    return plain({
        "after": number,
        "RA": scores["RA"],
        "TA": scores["TA"],
        "requests": [*of_request, {**own, "samples": len(evaluation.split.forget)}],
    })  # fmt: skip


def run(data: str, name: str, seed: int, deadline: float) -> None:
    """Answer the requests that are still missing, and keep model and scores after each."""
    folder = CACHE / f"{data}-{name}-{seed}"
    if (folder / "done.json").exists():
        print(f"{folder.name} is finished; remove {folder} to run it again")
        return
    train, test, model, recipe, all_requests = (fashion if data == "fashion" else newsgroups)(seed)
    task = Classification(train.num_classes)
    splits = [draw(train, test, request) for request in all_requests]
    folder.mkdir(parents=True, exist_ok=True)
    original = _original(data, seed, model, splits[0], recipe, task)
    if name == "retrain":
        _reference(folder, model, splits, recipe, task, seed)
        return
    current, rows = original, _read(folder / "rows.json")
    if rows:
        current.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
        remember_requests(current, read_requests(folder / "model.requests.json"))
    for number, split in enumerate(splits, 1):
        if number <= len(rows):
            continue
        if time.time() > deadline:
            print(f"{folder.name}: {len(rows)} of {len(splits)} requests done; give the same command again")
            return
        split = split.after(requests_of(current), rehearse=name.endswith("rehearse"))
        kind = all_requests[number - 1][0]
        method = method_for(name, all_requests[number - 1], split, recipe)
        if "-auto" in name:
            method, started = _by_trials(current, split, method, task, seed)
        else:
            method = chosen(folder, method, kind, current, split, task)
            started = execute(current, split, method, task, seed=seed)
        current = started.model
        result = audit(current, split, task)
        remember_scores(current, result.scores)
        seconds, again = started.seconds, 0
        while name.endswith("again") and again < AGAIN and _came_back(result):
            current, more = _answer_again(name, current, splits, _came_back(result), recipe, task, seed)
            result = audit(current, split.after(requests_of(current)), task)
            again, seconds = again + 1, seconds + more
        earlier = result.details.get("earlier_requests", [])
        rows.append({**row(number, evaluate(current, split, task), result.scores, earlier), "seconds": seconds, "again": again,
                     "status": started.status, "kind": kind, "settings": plain(asdict(method))})  # fmt: skip
        torch.save(current.state_dict(), folder / "model.pt")
        write_requests(folder / "model.requests.json", requests_of(current))
        write_json(folder / "rows.json", rows)
        worst = max((e["accuracy"] for e in rows[-1]["requests"]), default=0)
        print(f"{folder.name} request {number}: RA {rows[-1]['RA']:.1f} TA {rows[-1]['TA']:.1f}, highest accuracy {worst:.1f}, "
              f"{seconds:.0f} s, {again} again, {started.status}", flush=True)  # fmt: skip
    write_json(folder / "done.json", _facts(recipe, seed))


def _by_trials(
    model: nn.Module, split: Split, method: Method, task: Classification, seed: int
) -> tuple[Method, Run]:
    """Choose the settings as a project does, which never delivers the model as it was, and return them with the run."""
    method, run, _ = choose(
        model, split, method, task, count="auto", fixed=("epochs",), may_keep=False, seed=seed
    )
    return method, run or execute(model, split, method, task, seed=seed)


def _came_back(result: Any) -> list[int]:
    """Return the numbers of the earlier requests that an audit found again, from 1."""
    return [e["number"] for e in result.details.get("earlier_requests", []) if e["came_back"]]


def _answer_again(
    name: str,
    model: nn.Module,
    splits: list[Split],
    numbers: list[int],
    recipe: Method,
    task: Classification,
    seed: int,
) -> tuple[nn.Module, float]:
    """Answer several earlier requests by one run, and return the model and the seconds. Their scores are those of its audit."""
    known, chosen_splits = requests_of(model), [splits[n - 1] for n in numbers]
    data = splits[0]
    union = union_of(chosen_splits, data.train.data, data.test.data, validation=0.1, seed=0).after(known)
    kind = "class" if union.forget_classes else "ids"
    method = method_for(name, (kind, None), union, recipe)
    _, started = _by_trials(model, union, method, task, seed)
    remember_requests(started.model, known)
    scores = {
        e["request"]: e
        for e in audit(started.model, splits[-1].after(known), task).details["earlier_requests"]
    }
    again = {splits[n - 1].request for n in numbers}
    renewed = [
        replace(p, scores={k: scores[p.request][k] for k in ("UA", "MIA")}) if p.request in again else p
        for p in known
    ]
    remember_requests(started.model, renewed)
    return started.model, started.seconds


def _original(
    data: str, seed: int, model: nn.Module, split: Split, recipe: Method, task: Classification
) -> nn.Module:
    """Return the original of a seed, trained once."""
    path = CACHE / f"{data}-original-{seed}.pt"
    if not path.exists():
        trained = execute(model, split.for_original, recipe, task, seed=seed).model
        torch.save(trained.state_dict(), path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def _reference(
    folder: Path, model: nn.Module, splits: list[Split], recipe: Method, task: Classification, seed: int
) -> None:
    """Train the reference without the union of all requests, and score every request on it."""
    before: list[PastRequest] = [s.as_request("retrain") for s in splits[:-1]]
    torch.manual_seed(seed)
    fresh = type(model)()
    remember_requests(fresh, before)
    split = splits[-1].after(before)
    done = execute(fresh, split, recipe, task, seed=seed)
    result = audit(done.model, split, task)
    earlier = result.details["earlier_requests"]
    write_json(
        folder / "rows.json", [row(len(splits), evaluate(done.model, split, task), result.scores, earlier)]
    )
    write_json(folder / "done.json", _facts(recipe, seed))
    print(f"{folder.name}: RA {result.scores['RA']:.1f}, TA {result.scores['TA']:.1f}, {done.seconds:.0f} s")


def _facts(recipe: Method, seed: int) -> dict[str, Any]:
    return plain({"seed": seed, "recipe": recipe.__dict__, "machine": machine(), "threads": torch.get_num_threads(),
                  "finished": datetime.now(UTC).isoformat(timespec="seconds")})  # fmt: skip


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def collect() -> None:
    """Write all finished runs, and those of the file that are not in the cache, as one file; print the worst figures."""
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["runs"] if RESULT.exists() else []
    found = {(run["data"], run["method"], run["seed"]): run for run in kept}
    for folder in sorted(CACHE.glob("*-*-*")):
        if (folder / "done.json").exists():
            data, _, rest = folder.name.partition("-")
            name, _, seed = rest.rpartition("-")
            facts = json.loads((folder / "done.json").read_text(encoding="utf-8"))
            own = {
                "data": data,
                "method": name,
                "seed": int(seed),
                **facts,
                "rows": _read(folder / "rows.json"),
            }
            found[data, name, int(seed)] = own
    runs: list[dict[str, Any]] = [found[key] for key in sorted(found)]
    table = summary(runs)
    write_json(
        RESULT,
        {
            "command": "python benchmarks/sequence.py DATA --method NAME --seed N",
            "summary": table,
            "runs": runs,
        },
    )
    print(f"{RESULT}: {len(runs)} runs")
    for line in table:
        print(line)


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each data set and method, how far its last models are from Retrain without all ten requests.

    Distances are absolute and in points: the mean over the ten requests, then over the seeds. `class_above` is the largest
    accuracy on a forgotten class above Retrain's. `MIA_outside` is the share of MIAs outside of the range of Retrain's three.
    """
    table = []
    for data, name in sorted({(r["data"], r["method"]) for r in runs if r["method"] != "retrain"}):
        references = {
            r["seed"]: r["rows"][0]["requests"] for r in runs if (r["data"], r["method"]) == (data, "retrain")
        }
        own = {
            r["seed"]: r["rows"]
            for r in runs
            if (r["data"], r["method"]) == (data, name) and r["seed"] in references
        }
        pairs = [
            (a, b)
            for seed, rows in own.items()
            for a, b in zip(rows[-1]["requests"], references[seed], strict=True)
        ]
        if not pairs:
            continue
        kinds = [row["kind"] for row in next(iter(own.values()))]
        ranges = [[r[k]["MIA"] for r in references.values()] for k in range(len(kinds))]
        outside = [
            not min(v) <= a["MIA"] <= max(v) for (a, _), v in zip(pairs, ranges * len(own), strict=True)
        ]
        classes = [
            a["accuracy"] - b["accuracy"]
            for (a, b), kind in zip(pairs, kinds * len(own), strict=True)
            if kind == "class"
        ]
        table.append({
            "data": data,
            "method": name,
            "seeds": sorted(own),
            "accuracy_distance": round(float(np.mean([abs(a["accuracy"] - b["accuracy"]) for a, b in pairs])), 2),
            "MIA_distance": round(float(np.mean([abs(a["MIA"] - b["MIA"]) for a, b in pairs])), 2),
            "came_back": sum(a["came_back"] for a, _ in pairs),
            "requests": len(pairs),
            "class_above": round(max(classes), 2),
            "MIA_outside": round(float(np.mean(outside)), 2),
            "TA": round(float(np.mean([rows[-1]["TA"] for rows in own.values()])), 2),
            "minutes": round(float(np.mean([sum(row["seconds"] for row in rows) / 60 for rows in own.values()])), 1),
        })  # fmt: skip
    return table


def main(arguments: list[str] | None = None) -> None:
    """Read the flags, and run or collect."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", choices=("fashion", "newsgroups"))
    parser.add_argument("--method", choices=METHODS, default="salun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args(arguments)
    if options.collect:
        return collect()
    if options.data is None:
        parser.error("name the data: fashion or newsgroups")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(options.data, options.method, options.seed, time.time() + 60 * options.minutes)


if __name__ == "__main__":
    main()
