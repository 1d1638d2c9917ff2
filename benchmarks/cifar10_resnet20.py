"""ResNet-20 on CIFAR-10 (JPEG), class-wise and 10 % random, methods tuned at an equal budget without the retrained model.

    EXPUNGE_DATA=... python benchmarks/cifar10_resnet20.py --out OUT

Finished pieces are kept in OUT and skipped when the command is given again. The table goes to
benchmarks/results/cifar10_resnet20.json. Each method gets the same number of trials on seed 0's original; a trial is
chosen on validation data alone (`expunge.tune.distance_from_unseen`), never by the retrained model or the test set.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import torch
import tyro

from expunge import Classification, Compute, Retrain, Split, TensorData, execute
from expunge.audit import judge
from expunge.bench_page import entry, write_result
from expunge.checkpoint import load_into, read_checkpoint, write_checkpoint
from expunge.demo import place_of
from expunge.experiment import experiment, judge_run, seeded_factory, train
from expunge.files import write_json
from expunge.method import find
from expunge.models import build
from expunge.record import Record
from expunge.run import Run
from expunge.sources import load
from expunge.tune import distance_from_unseen

COMPUTE = Compute(amp="bf16", channels_last=True)
RECIPE = Retrain(epochs=25, lr=0.1, lr_schedule="one_cycle", batch_size=64)  # memorises the training set
EPOCHS = {"epochs": 5, "batch_size": 64}
METHODS = {  # the published epochs (10) are scaled to the short training, for all methods alike
    "finetune": EPOCHS,
    "random_label": EPOCHS,
    "salun": EPOCHS,
    "ugradsl_plus": EPOCHS,
    "ugradsl": {"epochs": 10, "batch_size": 64},
    "gradient_ascent": {"epochs": 5, "batch_size": 64},
    "nhle": {},
}
TRIALS = {  # two each
    "finetune": {"lr": (0.01, 0.04)},
    "random_label": {"lr": (0.013, 0.04)},
    "salun": {"lr": (0.013, 0.04)},
    "ugradsl_plus": {"lr": (0.01, 0.03)},
    "ugradsl": {"lr": (0.003, 0.01)},
    "gradient_ascent": {"lr": (5e-4, 2e-3)},
    "nhle": {"lr": (1e-3, 3e-3)},
}
CONTROLS = {"salun, random mask": {"mask": "random"}, "salun, inverted mask": {"mask": "inverted"}}


def trials(name: str) -> list[dict]:
    """The settings of a method that are tried."""
    space = TRIALS[name]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def main(out: Path, seeds: int = 3, limit: int = 1500, tests: int = 2000, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    source = load(place_of(f"cifar10?limit={limit}"))
    draw = torch.Generator().manual_seed(0)
    few = source.test.samples(torch.randperm(len(source.test), generator=draw)[:tests].sort().values)
    test = TensorData(source.test.x[few.index], few.labels, classes=source.classes, name=source.test.name)
    # without augmentation a small training set is memorised in minutes, and there is something to forget
    trained_on = TensorData(
        source.train.x, source.train.labels, classes=source.classes, name=source.train.name
    )
    task = Classification(10)
    names = {"model": "resnet20", "data": source.name, "classes": source.classes}
    chosen: dict[str, dict] = (
        json.loads((out / "chosen.json").read_text()) if (out / "chosen.json").exists() else {}
    )
    records: list[tuple[str, str, Record]] = []
    for seed in range(seeds):
        factory = seeded_factory(lambda: build("resnet20", num_classes=10), seed)
        original = None
        for scenario in ("class", "random"):
            split = (
                Split.by_class(trained_on, test, forget=seed, seed=seed)
                if scenario == "class"
                else Split.random(trained_on, test, 0.1, seed=seed)
            )
            original = original or model_of(
                out / f"original-{seed}.safetensors",
                factory,
                lambda s=split, f=factory, n=seed: train(f(), s, RECIPE, task, seed=n, compute=COMPUTE).model,
            )
            gold_file = out / f"retrain-{scenario}-{seed}.json"
            gold = model_of(
                out / f"retrain-{scenario}-{seed}.safetensors",
                factory,
                lambda s=split, f=factory, n=seed, g=gold_file, o=original: (
                    kept(
                        g,
                        experiment(
                            o,
                            s,
                            RECIPE,
                            task,
                            kind="retrain",
                            seed=n,
                            compute=COMPUTE,
                            factory=f,
                            names=names,
                        ),
                    ).model
                ),
            )
            start, gold_judged = judge(original, split, task, seed=seed), judge(gold, split, task, seed=seed)
            before = judge_run(
                Run(original, split, task, seed), RECIPE, kind="original", retrained=gold_judged, names=names
            )
            records += [(scenario, "Original", before.record), (scenario, "Retrain", Record.load(gold_file))]
            for label, name, extra in [(n, n, {}) for n in METHODS] + [
                (c, "salun", e) for c, e in CONTROLS.items()
            ]:
                base = find(name)()
                if base.scenarios and scenario not in base.scenarios:
                    continue
                base = replace(base, **METHODS[name])
                key = f"{scenario}/{name}"
                if key not in chosen:
                    chosen[key] = tuned(base, name, original, split, task, seed)
                    write_json(out / "chosen.json", chosen)
                file = out / f"{scenario}-{label.replace(', ', '-').replace(' ', '-')}-{seed}.json"
                if not file.exists():
                    method = replace(base, **chosen[key]["settings"], **extra)
                    kept(
                        file,
                        experiment(
                            original,
                            split,
                            method,
                            task,
                            seed=seed,
                            compute=COMPUTE,
                            factory=factory,
                            original=start,
                            retrained=gold_judged,
                            names=names,
                        ),
                    )
                records.append((scenario, label, Record.load(file)))
                print(seed, scenario, label, records[-1][2].scores["gap"]["avg"], flush=True)
            publish(records, chosen, limit)


def model_of(path: Path, factory, make):
    """The model from its file, made first if it is not there."""
    if not path.exists():
        write_checkpoint(path, make().state_dict())
    model = factory()
    load_into(model, read_checkpoint(path))
    return model.eval()


def kept(path: Path, outcome):
    """The outcome, its record written without pictures."""
    outcome.record.details = {
        k: v
        for k, v in outcome.record.details.items()
        if k in ("table2x2", "worst_class", "mask", "redistribution", "per_class")
    }
    outcome.record.save(path)
    return outcome


def tuned(base, name, original, split, task, seed) -> dict:
    """The best of the method's trials by `distance_from_unseen`."""
    tried = []
    for settings in trials(name):
        run = execute(original, split, replace(base, **settings), task, seed=1000 + seed, compute=COMPUTE)
        tried.append(
            {
                "settings": settings,
                "distance": distance_from_unseen(run.model, original, split, task),
                "status": run.status,
            }
        )
        print("trial", split.scenario, name, tried[-1], flush=True)
    return {**min(tried, key=lambda t: t["distance"]), "tried": tried}


def publish(records, chosen, limit) -> None:
    """The committed result: scores of every run, settings, machine."""
    splits = {"class": {"forget_class": ["seed"]}, "random": {"forget_share": 0.1}}
    note = (
        f"{limit} training images (90 % of them for training, 10 % for validation), 2,000 test images, no augmentation: small enough to "
        "be memorised on a CPU, so that there is something to forget. Class-wise: seed k forgets class k. Two trials a method on seed 0's "
        "original, chosen by validation data alone. bfloat16 autocast."
    )
    entries = [entry(r, label, splits[scenario]) for scenario, label, r in records]
    write_result(
        Path(__file__).parent / "results" / "cifar10_resnet20.json",
        "ResNet-20 on CIFAR-10 (JPEG)",
        "python benchmarks/cifar10_resnet20.py",
        entries,
        note=note,
        tuned=chosen,
    )


if __name__ == "__main__":
    tyro.cli(main)
