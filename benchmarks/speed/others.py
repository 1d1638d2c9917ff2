"""Expunge beside other projects' own code, end to end: saliency, unlearning, audit. Same data, model, batch, epochs.

    python benchmarks/speed/others.py --data cifar10:DIR --work DIR --salun DIR --deepunlearn DIR --torchunlearn DIR
        --erasus DIR

Each path is a checkout (or an unpacked release) of that project; none of their code is here, it is imported from there
and called as its own entry scripts call it. What is changed is only what a CPU needs: `.cuda()` stays where it is, and
modules that are imported but not needed (ImageNet readers) are empty. `--extra` names folders with what they import
(torchvision, hydra, ...). Every system runs in a process of its own, in turn, `rounds` times; every result is judged by
the same audit against the same retrained model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cyclopts
import torch

sys.path.insert(0, str(Path(__file__).parent))
from timing import summary

from expunge import Classification, Retrain, Split, train, unlearn
from expunge.audit.evaluation import evaluate
from expunge.audit.standard import summarize
from expunge.models import build
from expunge.records.atomic_files import write_json
from expunge.records.record import machine
from expunge.sources import load
from expunge.training.run import Compute

FIRST = "expunge-bf16"  # what the others' time is held against


@cyclopts.Parameter(name="*", consume_multiple=True)
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare, and on what."""

    data: str  # as for the command line, for example cifar10:DIR
    work: Path  # where models and results of single runs are kept
    salun: Path | None = None  # OPTML-Group/Unlearn-Saliency, the folder with Classification/
    deepunlearn: Path | None = None  # xcadet/deepunlearn
    erasus: Path | None = None  # OnePunchMonk/erasus
    torchunlearn: Path | None = None  # Harry24k/machine-unlearning-pytorch
    # which to run; none named: both of ours, and every project whose path is given
    systems: tuple[str, ...] = ()
    extra: tuple[Path, ...] = ()  # folders with what those import and this environment lacks
    train_size: int = 5000
    test_size: int = 1000
    epochs: int = 3  # of unlearning
    batch_size: int = 256
    lr: float = 0.013
    original_epochs: int = 20
    rounds: int = 3
    threads: int = 1
    seed: int = 0
    out: Path = field(default_factory=lambda: Path(__file__).parents[1] / "results" / "speed_others.json")


def prepare(options: Options) -> None:
    """The split, the original and the retrained model, made once and kept in `work`."""
    if (options.work / "retrained.pt").exists():
        return
    options.work.mkdir(parents=True, exist_ok=True)
    source = load(options.data)
    draw = torch.Generator().manual_seed(options.seed)
    first = source.train.samples(torch.randperm(len(source.train), generator=draw)[: options.train_size])
    test = source.test.samples(torch.randperm(len(source.test), generator=draw)[: options.test_size])
    arrays = {}
    for name, samples in (("train", first), ("test", test)):
        arrays[f"{name}_x"] = samples.data.x[samples.index]
        arrays[f"{name}_y"] = samples.labels
    torch.save(arrays, options.work / "data.pt")
    split, task = the_split(options)
    recipe = Retrain(epochs=options.original_epochs, lr=0.1, lr_schedule="one_cycle", batch_size=128)
    fast = Compute(channels_last=True, amp="bf16")
    torch.manual_seed(options.seed)
    model = build("resnet20", num_classes=10)
    original = train(model, split, recipe, task, compute=fast).model
    torch.save(original.state_dict(), options.work / "original.pt")
    retrained = unlearn(original, split, recipe, task, compute=fast)
    torch.save(retrained.state_dict(), options.work / "retrained.pt")


def the_split(options: Options) -> tuple[Split, Classification]:
    """10 % of the training samples at random are to be forgotten; 10 % of them are held out for validation."""
    from expunge import CropFlip, TensorData

    kept = torch.load(options.work / "data.pt")
    parts = [TensorData(kept[f"{n}_x"], kept[f"{n}_y"], augment=CropFlip()) for n in ("train", "test")]
    return Split.random(*parts, share=0.1, validation=0.1, seed=options.seed), Classification(10)


def model_of(options: Options, name: str) -> torch.nn.Module:
    model = build("resnet20", num_classes=10)
    model.load_state_dict(torch.load(options.work / f"{name}.pt"))
    return model


def main(options: Options) -> None:
    """Run every system in turn, judge what each made, write the comparison."""
    torch.set_num_threads(options.threads)
    prepare(options)
    (options.work / "options.json").write_text(json.dumps({k: str(v) for k, v in vars(options).items()}))
    given = [n for n in ("salun", "deepunlearn", "torchunlearn", "erasus") if getattr(options, n) is not None]
    systems = options.systems or (FIRST, "expunge", *given)
    if systems[0] != FIRST:
        raise SystemExit(
            f"the systems begin with {systems[0]}; begin with {FIRST}, which the others are held against."
        )
    split, task = the_split(options)
    gold = evaluate(model_of(options, "retrained"), split, task)
    rows: dict[str, list[dict[str, Any]]] = {n: [] for n in systems}
    for turn in range(options.rounds):
        for name in systems:
            print(f"round {turn + 1}: {name}", flush=True)
            rows[name].append(one(options, name, turn))
            found = summarize(evaluate(model_of(options, f"result_{name}"), split, task), retrained=gold)
            rows[name][-1]["scores"] = found.scores
    write_json(options.out, report(options, rows, gold.scores))


def one(options: Options, name: str, turn: int) -> dict[str, Any]:
    """One system in a fresh process: seconds of its phases and peak memory."""
    extra = [str(p) for p in options.extra]
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "MPLBACKEND": "agg"}
    result = options.work / f"result_{name}.json"
    command = [
        sys.executable,
        str(Path(__file__).with_name("others_worker.py")),
        name,
        str(options.work),
        str(turn),
        *extra,
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return json.loads(result.read_text())


def report(options: Options, rows: dict[str, list[dict[str, Any]]], gold: dict[str, Any]) -> dict[str, Any]:
    """Medians, spread, and ratios to our run in bfloat16 of the same round."""
    found: dict[str, Any] = {}
    for name, mine in rows.items():
        pairs = list(zip(mine, rows[FIRST], strict=True))
        found[name] = {
            "wall_seconds": {p: summary([r["wall"][p] for r in mine]) for p in mine[0]["wall"]},
            "cpu_seconds": {p: summary([r["cpu"][p] for r in mine]) for p in mine[0]["cpu"]},
            "times_as_long_as_ours_in_bfloat16": {
                clock: summary([r[clock]["total"] / e[clock]["total"] for r, e in pairs])
                for clock in ("wall", "cpu")
            },
            "peak_bytes": summary([r["peak_bytes"] for r in mine]),
            "average_gap": summary([r["scores"]["gap"]["avg"] for r in mine]),
            "scores": [{k: r["scores"][k] for k in ("UA", "RA", "TA", "MIA", "gap")} for r in mine],
        }
    settings = {
        k: getattr(options, k)
        for k in (
            "train_size",
            "test_size",
            "epochs",
            "batch_size",
            "lr",
            "original_epochs",
            "rounds",
            "threads",
            "seed",
        )
    }
    return {
        "part": "others", "command": "python benchmarks/speed/others.py --data cifar10:DIR --work DIR --salun DIR ...",
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "settings": settings,
        "model": "resnet20 (272,474 weights)", "retrained": {k: gold[k] for k in ("UA", "RA", "TA", "MIA")}, "results": found,
    }  # fmt: skip


if __name__ == "__main__":
    cyclopts.run(main)
