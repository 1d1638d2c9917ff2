"""Class forgetting from a CIFAR-10 diffusion model of the SalUn paper's size, on a GPU. NOT YET RUN: it has no results.

    EXPUNGE_DATA=... python benchmarks/gpu_cifar10_ddpm.py --out OUT [--images 200_000_000] [--forget 0] [--features m:f]

Trains the 38.6 M parameter network (the paper: 800,000 steps of 128 images) and one without the class, then forgets
the class with every method and mask at the published settings, and judges 500 images a class by a ResNet-18 trained
here. Training resumes where it was stopped (`--minutes 9` stops it), finished pieces are kept in OUT. Data is CIFAR-10 (JPEG) where that is what
EXPUNGE_DATA holds: say so beside every number. `--features` names a function that makes the Inception network of
published FIDs, if you have its weights; without it distances are in the judge's features, which compare with nothing
published. `--smoke` runs every line on a CPU with toy sizes; its numbers mean nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

from expunge import Compute, Retrain, Split
from expunge.audit.generation import Drawn, audit_generator, draw
from expunge.audit.image_judge import network_distances, train_judge
from expunge.checkpoint import load_into, read_checkpoint, write_checkpoint
from expunge.data import TensorData
from expunge.diffusion import Diffusion
from expunge.errors import ExpungeError
from expunge.experiment import record_of, seeded_factory, train
from expunge.generation import presets as diffusion_presets
from expunge.generation.sampling import Sampler
from expunge.heads import Kind, head
from expunge.method import Method, execute
from expunge.models import build, imported
from expunge.models.unet import salun_cifar10, unet
from expunge.record import plain
from expunge.report import write_report
from expunge.run import Row, Run
from expunge.sources import load, place_of

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "salun": ("salun", {}),
    "salun-random-mask": ("salun", {"mask": "random"}),
    "salun-inverted-mask": ("salun", {"mask": "inverted"}),
    "random_label": ("random_label", {}),
    "concept_ablation": ("concept_ablation", {"retain_weight": 1.0}),
    "selective_amnesia": ("selective_amnesia", {}),
    "esd": ("esd", {}),
    "finetune": ("finetune", {}),
    "gradient_ascent": ("gradient_ascent", {}),
}


def main(
    out: Path,
    images: int = 102_400_000,
    forget: int = 0,
    seed: int = 0,
    per_class: int = 500,
    features: str | None = None,
    minutes: float | None = None,
    smoke: bool = False,
) -> None:
    """See the head of this file. `images` counts training images seen, 128 a step."""
    if not smoke and not torch.cuda.is_available():
        raise ExpungeError(
            "this is a GPU benchmark and torch sees none; --smoke checks on a CPU that every line runs."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compute = Compute(amp="bf16" if device == "cuda" else "off", eval_batch=256)
    source = load(place_of("cifar10"))
    data = _few(source.train, 200) if smoke else source.train
    split = Split.by_class(data, source.test, forget, validation=0.0 if smoke else 0.1, seed=seed)
    factory = seeded_factory(
        lambda: (unet(10, (3, 32, 32), width=8) if smoke else salun_cifar10()).to(device), seed
    )
    task = Diffusion(10)
    epochs = max(1, round(images / len(split.train)))
    schooling = replace(diffusion_presets.recipe("cifar10"), epochs=1 if smoke else epochs)
    recipe = Retrain(epochs=1 if smoke else 30, lr=0.2, lr_schedule="one_cycle", batch_size=128)
    judge_of = "cnn" if smoke else "resnet18"
    judge = train_judge(
        split,
        lambda: build(judge_of, num_classes=10, shape=(3, 32, 32)).to(device),
        recipe,
        seed=seed,
        least=0 if smoke else 80,
    )
    sampler = Sampler(steps=3 if smoke else 100, guidance=2.0)
    end = None if minutes is None else time.time() + 60 * minutes

    def on_row(row: Row) -> None:
        if end is not None and time.time() > end:
            raise SystemExit("the time is over: give the same command again to go on")

    common = {"seed": seed, "compute": compute, "on_row": on_row}

    def kept(name: str, kind: Kind, method: Method, make: Any) -> Run:
        file = out / f"{name}.safetensors"
        if file.exists():
            load_into(model := factory(), read_checkpoint(file))
            return Run(model, split, task, seed)
        run = make(out / f".{name}.state")
        write_checkpoint(file, run.model.state_dict(), metadata=head(kind, split, method, seed))
        (out / f".{name}.state").unlink(missing_ok=True)
        return run

    def look(run: Run) -> Drawn:
        return draw(
            run.model, split, task, judge, sampler=sampler, per_class=3 if smoke else per_class, seed=seed
        )

    out.mkdir(parents=True, exist_ok=True)
    start = kept(
        "original",
        "original",
        schooling,
        lambda state: train(factory(), split, schooling, task, state_file=state, **common),
    )
    gold = kept(
        "retrain",
        "retrain",
        schooling,
        lambda state: execute(
            start.model, split, schooling, task, factory=factory, state_file=state, **common
        ),
    )
    before, reference, records = look(start), look(gold), []
    for label, (name, changes) in RUNS.items():
        small = (
            {"epochs": 1, "batch_size": 8, "pool": 4, "sample_steps": 2, "fisher_samples": 2} if smoke else {}
        )
        method = diffusion_presets.method(name, "cifar10", **changes)
        method = replace(method, **{k: v for k, v in small.items() if hasattr(method, k)})
        run = kept(
            label,
            "unlearn",
            method,
            lambda state, m=method: execute(start.model, split, m, task, state_file=state, **common),
        )
        drawn = look(run)
        found = audit_generator(
            drawn, judge, original=before, retrained=reference, names={"unlearned": f"after {label}"}
        )
        record = record_of(
            "unlearn", run, method, names={"model": "unet", "data": source.name, "classes": source.classes}
        )
        record.scores = plain(found.scores)
        if features is not None:
            network = imported(features, ExpungeError)().to(device)
            record.scores |= network_distances(_real(split), drawn.images[~drawn.forgotten], network, "given")
        record.details.update(plain(found.details))
        record.save(out / f"{label}.json")
        records.append(record)
        print(label, {k: v for k, v in record.scores.items() if k != "gap"}, flush=True)
    write_report(
        out / "report.html",
        records,
        title="CIFAR-10 diffusion model" + (" (smoke: means nothing)" if smoke else ""),
    )


def _real(split: Split) -> torch.Tensor:
    """All retained images (N, 3, 32, 32) in [0, 1]."""
    return torch.cat([b.x for b in split.retain.batches(512)])  # type: ignore[misc]


def _few(data: Any, count: int) -> TensorData:
    batch = next(data.samples(torch.arange(count)).batches(count))
    return TensorData(batch.x, torch.arange(count) % 10, name=data.name)


if __name__ == "__main__":
    tyro.cli(main)
