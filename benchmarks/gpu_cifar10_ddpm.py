"""Class forgetting from a CIFAR-10 diffusion model of the SalUn paper's size, on a GPU. NOT YET RUN: it has no results.

    EXPUNGE_DATA=... python benchmarks/gpu_cifar10_ddpm.py --out OUT [--images 200_000_000] [--forget 0] [--features m:f]

Trains the 38.6 M parameter network (the paper: 800,000 steps of 128 images, random flips) and one without the class, then
forgets the class with every method and mask at the published settings, and judges 500 images a class by a ResNet-18 trained
here. `--minutes 9` stops it after so long; the same command then goes on: training resumes, and networks, images and records
that are finished are kept in OUT, which takes no others than those of the arguments, data, source, torch and device (by name)
that it was begun with. Data is CIFAR-10 (JPEG) where that is what EXPUNGE_DATA holds: say so beside every number.
`--features` names a function that makes the Inception network of published FIDs, if you have its weights; without it
distances are in the judge's features, which compare with nothing published. `--smoke` runs every line with toy sizes, on
a CPU too; its numbers mean nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cyclopts
import torch
from torch import Tensor, nn

from expunge import Compute, Retrain, Split
from expunge.audit.generators import JudgedImages, audit_generator, generate_and_judge
from expunge.audit.image_distances import network_distances
from expunge.audit.image_judge import Judge, train_judge
from expunge.data.tensors import TensorData
from expunge.errors import ExpungeError
from expunge.generation import presets as diffusion_presets
from expunge.generation.runs import without_crops
from expunge.imports import import_object
from expunge.models import build
from expunge.models.unet import salun_cifar10, unet
from expunge.pipeline.experiment import record_of, seeded_factory, train
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.checkpoint_metadata import Role, metadata_for
from expunge.records.record import Record, plain
from expunge.report import write_report
from expunge.sources import Source, load, locate
from expunge.tasks.classification import Classification
from expunge.tasks.diffusion import Diffusion
from expunge.tasks.sampling import Sampler
from expunge.torch_utils.precision import autocast
from expunge.training.execute import execute
from expunge.training.method import Method
from expunge.training.run import Row, Run

sys.path.append(str(Path(__file__).parent))
from identity import made_of, only_of

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
TOY = {"epochs": 1, "batch_size": 8, "pool": 4, "sample_steps": 2, "fisher_samples": 2}


@dataclass(eq=False)
class Bench:
    """One setting, and the folder in which whatever is finished is kept."""

    out: Path
    source: Source
    judged: Split  # with the crops that a classifier trains on
    device: str
    seed: int
    per_class: int
    smoke: bool
    features: str | None
    end: float
    task: Diffusion = field(default_factory=lambda: Diffusion(10))

    def __post_init__(self) -> None:
        self.split = without_crops(self.judged)
        self.compute = Compute(amp="bf16" if self.device == "cuda" else "off")
        self.sampler = Sampler(steps=4 if self.smoke else 100, guidance=2.0)
        self.factory = seeded_factory(self._network, self.seed)
        self.common: dict[str, Any] = {"seed": self.seed, "compute": self.compute, "on_row": self.on_row}

    def _network(self) -> nn.Module:
        return (unet(10, (3, 32, 32), width=8) if self.smoke else salun_cifar10()).to(self.device)

    def on_time(self) -> None:
        """End the program if its time is over."""
        if time.time() > self.end:
            raise SystemExit("the time is over: give the same command again to go on")

    def on_row(self, row: Row) -> None:
        """Show a look at a run, and end the program if its time is over."""
        shown = ", ".join(f"{k} {row[k]:.4g}" for k in ("loss", "forget", "retain") if row[k] is not None)
        print(f"  epoch {row['epoch']} step {row['step']}: {shown}", flush=True)
        self.on_time()

    def judge(self) -> Judge:
        """A ResNet-18 of the real images, trained at the first call."""
        file = self.out / "judge.safetensors"
        kind = "cnn" if self.smoke else "resnet18"
        make = lambda: build(kind, num_classes=10, shape=(3, 32, 32)).to(self.device)  # noqa: E731
        if file.exists():
            load_into(model := make(), read := read_checkpoint(file))
            return Judge(model.requires_grad_(False), Classification(10), float(read.metadata["accuracy"]))
        recipe = Retrain(epochs=1 if self.smoke else 30, lr=0.2, lr_schedule="one_cycle", batch_size=128)
        least = 0 if self.smoke else 80
        state = self.out / ".judge.state"
        found = train_judge(self.judged, make, recipe, least=least, state_file=state, **self.common)
        write_checkpoint(file, found.model.state_dict(), metadata={"accuracy": str(found.accuracy)})
        state.unlink(missing_ok=True)
        return found

    def made(
        self, name: str, kind: Role, method: Method, make: Callable[[Path], Run]
    ) -> tuple[nn.Module, Record]:
        """A network and its record, without scores; made at the first call."""
        file, told, state = (self.out / n for n in (f"{name}.safetensors", f"{name}.json", f".{name}.state"))
        if file.exists():
            load_into(model := self.factory(), read_checkpoint(file))
            return model, Record.load(told)
        print(name, flush=True)
        run = make(state)
        names = {"model": "unet", "data": self.source.name, "classes": self.source.classes}
        record = record_of(kind, run, method, names=names)
        record.save(told)  # first: where there are weights, there is their record
        write_checkpoint(
            file, run.model.state_dict(), metadata=metadata_for(kind, self.split, method, self.seed, key=None)
        )
        state.unlink(missing_ok=True)
        return run.model, record

    def look(self, name: str, model: nn.Module, judge: Judge) -> JudgedImages:
        """What a network draws, in 8 bits as files of images hold it: each class is kept as soon as it is drawn."""
        file = self.out / f"{name}.images.safetensors"
        parts: dict[str, Tensor] = dict(read_checkpoint(file).state) if file.exists() else {}
        for k in range(10):
            if f"class {k}" in parts:
                continue
            self.on_time()
            y = torch.full((self.per_class,), k)
            with autocast(self.compute.amp, torch.device(self.device)):
                x = self.sampler(model, self.task, y, (3, 32, 32), seed=1000 * self.seed + k)
            parts[f"class {k}"] = (255 * x).round().byte()
            write_checkpoint(file, parts)
        images = torch.cat([parts[f"class {k}"] for k in range(10)]).float() / 255
        return generate_and_judge(
            model, self.split, self.task, judge, per_class=self.per_class, images=images
        )

    def scored(
        self, name: str, record: Record, judge: Judge, drawn: JudgedImages, **beside: JudgedImages
    ) -> Record:
        """The record with its scores, written."""
        found = audit_generator(drawn, judge, names={"unlearned": f"after {name}"}, **beside)
        record.scores = plain(found.scores)
        record.details.update(plain(found.details))
        if self.features is not None:
            network = import_object(self.features, ExpungeError)().to(self.device)
            real = torch.cat([b.x for b in self.split.retain.batches(512)])  # type: ignore[misc]
            record.scores |= network_distances(real, drawn.images[~drawn.forgotten], network, "given")
        record.save(self.out / f"{name}.json")
        print(name, {k: v for k, v in record.scores.items() if k != "gap"}, flush=True)
        return record


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
    end = float("inf") if minutes is None else time.time() + 60 * minutes
    if not smoke and not torch.cuda.is_available():
        raise ExpungeError(
            "this is a GPU benchmark and torch sees none; --smoke checks on a CPU that every line runs."
        )
    torch.backends.cudnn.benchmark = True
    source = load(locate("cifar10"))
    data = _few(source.train, 200) if smoke else source.train
    split = Split.by_class(data, source.test, forget, validation=0.0 if smoke else 0.1, seed=seed)
    device, count = "cuda" if torch.cuda.is_available() else "cpu", 3 if smoke else per_class
    bench = Bench(out, source, split, device, seed, count, smoke, features, end)
    told = {"images": images, "forget": forget, "seed": seed, "per_class": count, "features": features}
    only_of(out, made_of(Path(__file__), data=source.name, split=split.hash, smoke=smoke, **told))
    epochs = 1 if smoke else max(1, round(images / len(split.train)))
    records = every_run(bench, replace(diffusion_presets.recipe("cifar10"), epochs=epochs))
    title = "CIFAR-10 diffusion model" + (" (smoke: means nothing)" if smoke else "")
    write_report(out / "report.html", records, title=title)


def every_run(bench: Bench, schooling: Method) -> list[Record]:
    """The original, the retrained reference and every method, each made, drawn and judged unless it is already."""
    judge, split, task, common = bench.judge(), bench.split, bench.task, bench.common
    original, first = bench.made(
        "original",
        "original",
        schooling,
        lambda state: train(bench.factory(), split, schooling, task, state_file=state, **common),  # type: ignore[arg-type]
    )
    again: Callable[[Path], Run] = lambda state: execute(  # noqa: E731
        original, split, schooling, task, factory=bench.factory, state_file=state, **common
    )
    gold, second = bench.made("retrain", "retrain", schooling, again)
    before, reference = bench.look("original", original, judge), bench.look("retrain", gold, judge)
    records = [
        first if first.scores else bench.scored("original", first, judge, before, retrained=reference),
        second if second.scores else bench.scored("retrain", second, judge, reference, original=before),
    ]
    for label, (name, changes) in RUNS.items():
        method = diffusion_presets.method(name, "cifar10", **changes)
        if bench.smoke:
            method = replace(method, **{k: v for k, v in TOY.items() if hasattr(method, k)})
        model, record = bench.made(
            label,
            "unlearn",
            method,
            lambda state, m=method: execute(original, split, m, task, state_file=state, **common),  # type: ignore[misc]
        )
        if not record.scores:
            drawn = bench.look(label, model, judge)
            record = bench.scored(label, record, judge, drawn, original=before, retrained=reference)
        records.append(record)
    return records


def _few(data: Any, count: int) -> TensorData:
    batch = next(data.samples(torch.arange(count)).batches(count))
    return TensorData(batch.x, torch.arange(count) % 10, augment=data.augment, name=data.name)


if __name__ == "__main__":
    cyclopts.run(main)
