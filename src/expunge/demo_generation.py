"""Forgetting in generation, from end to end on real images: train a diffusion model, forget a class, draw, judge, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from . import diffusion_presets, presets
from .audit.generation import Drawn, audit_generator, draw
from .audit.generation_attacks import Attack
from .audit.judge import Judge, train_judge
from .checkpoint import write_checkpoint
from .demo import place_of, showing
from .diffusion import Diffusion
from .experiment import record_of, seeded_factory, train
from .hashing import state_hash
from .method import Method, execute
from .models import build
from .models.unet import for_data
from .record import Record, plain
from .report import write_report
from .run import Run
from .sampling import Sampler
from .sources import Source, load
from .split import Split

# label -> (method, what differs from its settings for the data)
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "salun": ("salun", {}),
    "salun-random-mask": ("salun", {"mask": "random"}),
    "salun-inverted-mask": ("salun", {"mask": "inverted"}),
    "random_label": ("random_label", {}),
    "concept_ablation": ("concept_ablation", {}),
    "selective_amnesia": ("selective_amnesia", {}),
    "esd": ("esd", {}),
    "finetune": ("finetune", {}),
    "gradient_ascent": ("gradient_ascent", {}),
}
SHOWN = ("salun", "salun-random-mask", "salun-inverted-mask", "esd", "concept_ablation", "gradient_ascent")
SCORES = ("UA", "RA", "FID_judge", "KID_judge", "diversity")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all runs of one demonstration share."""

    source: Source
    data: str
    split: Split
    task: Diffusion
    judge: Judge
    sampler: Sampler
    factory: Callable[[], nn.Module]
    seed: int
    per_class: int
    command: str

    def look(self, model: nn.Module) -> Drawn:
        """What a model draws, from the same noise as every other."""
        return draw(
            model,
            self.split,
            self.task,
            self.judge,
            sampler=self.sampler,
            per_class=self.per_class,
            seed=self.seed,
        )

    def record(
        self,
        kind: str,
        run: Run,
        method: Method,
        drawn: Drawn,
        *,
        before: str = "",
        label: str = "",
        **beside: Drawn | None,
    ) -> Record:
        """The record of a run, with its scores and pictures."""
        names = {"model": "unet", "data": self.source.name, "classes": self.source.classes}
        record = record_of(kind, run, method, before=before, names=names, command=self.command)
        found = audit_generator(drawn, self.judge, names={"unlearned": label or kind}, **beside)
        record.scores = plain(found.scores)
        record.details.update(plain(found.details))
        return record


def demo_generation(
    *,
    data: str = "digits",
    forget: int = 3,
    out: Path = Path("demo/generation"),
    methods: tuple[str, ...] = SHOWN,
    per_class: int = 50,
    attacks: bool = True,
    seed: int = 0,
    command: str = "expunge demo-generation",
) -> list[Record]:
    """Train a class-conditional diffusion model and one without the class, forget the class with each of `methods`.

    Writes `report.html`, records (JSON) and checkpoints (safetensors) to `out`, and prints the table.
    """
    console = Console()
    source = load(place_of(data))
    kind = presets.kind(data)
    split = Split.by_class(source.train, source.test, forget, seed=seed)
    factory = seeded_factory(lambda: for_data(kind, len(source.classes), _shape(source)), seed)
    records: list[Record] = []
    with threads_for(source.shape), showing(console) as show:
        with show.bar("judge", recipe := presets.recipe(data)):
            judge = train_judge(
                split,
                lambda: build("cnn", num_classes=len(source.classes), shape=source.shape),
                recipe,
                seed=seed,
            )
        setting = Setting(
            source=source,
            data=kind,
            split=split,
            task=Diffusion(len(source.classes)),
            judge=judge,
            sampler=Sampler(kind="dpm", steps=10, guidance=1.0),
            factory=factory,
            seed=seed,
            per_class=per_class,
            command=command,
        )
        with show.bar("original", schooling := diffusion_presets.recipe(kind)) as on_row:
            run = train(factory(), split, schooling, setting.task, seed=seed, on_row=on_row)
        with show.bar("retrain (reference)", schooling) as on_row:
            again = execute(
                run.model, split, schooling, setting.task, seed=seed, factory=factory, on_row=on_row
            )
        start, gold = setting.look(run.model), setting.look(again.model)
        _keep(
            out,
            records,
            "original",
            run,
            setting.record("original", run, schooling, start, retrained=gold, label="before"),
        )
        _keep(
            out,
            records,
            "retrain",
            again,
            setting.record("retrain", again, schooling, gold, original=start, label="retrained"),
        )
        before = state_hash(run.model.state_dict())
        for label in methods:
            name, changes = RUNS[label]
            method = diffusion_presets.method(name, kind, **changes)
            with show.bar(label, method) as on_row:
                done = execute(run.model, split, method, setting.task, seed=seed, on_row=on_row)
            record = setting.record(
                "unlearn",
                done,
                method,
                setting.look(done.model),
                before=before,
                label=f"after {label}",
                original=start,
                retrained=gold,
            )
            if attacks and label == "salun":
                with show.bar("attacks", schooling):
                    record.details["attacks"] = come_back(
                        setting, {"original": run.model, "unlearned": done.model, "retrained": again.model}
                    )
            _keep(out, records, label, done, record)
    write_report(
        out / "report.html",
        records,
        title=f"Forgetting in generation: {source.name}, class {source.classes[forget]}",
    )
    console.print(table(records, methods))
    console.print(f"judge: {judge.accuracy:.1f} % of real test images\nreport: {out / 'report.html'}")
    return records


@contextmanager
def threads_for(shape: tuple[int, ...]) -> Iterator[None]:
    """One thread for tiny images: their kernels are too short to share, and on a busy machine two wait for each other
    (a step of 64 images of 8 x 8 took 0.07 s on one thread and 2.4 s on two, measured with other work on both cores)."""
    before = torch.get_num_threads()
    if shape[-1] <= 16:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def come_back(setting: Setting, models: dict[str, nn.Module], attack: Attack | None = None) -> dict[str, Any]:
    """Steps of a learned condition, and of relearning, until half of the images show the forgotten class again."""
    tool = attack or Attack(steps=100, sampler=setting.sampler)
    target = setting.split.forget_classes[0]
    found: dict[str, Any] = {}
    for title, run in (("learned_condition", tool.learned_condition), ("relearning", tool.relearn)):
        results = {
            k: run(m, setting.task, setting.split.forget, setting.judge, target, seed=setting.seed).to_dict()
            for k, m in models.items()
        }
        found[title] = {
            "within": tool.steps,
            **{f"{k}_{what}": v[what] for k, v in results.items() for what in ("steps", "highest")},
        }
    return found


def table(records: list[Record], labels: tuple[str, ...]) -> Table:
    """UA, RA and the distances of every run, for a terminal."""
    shown = Table(
        title="images as the judge sees them",
        caption="UA: asked for the forgotten class, not recognised as it; RA: kept classes "
        "recognised; percent. Distances in the judge's features.",
    )
    shown.add_column("run", no_wrap=True)
    for name in (*SCORES, "RTE s"):
        shown.add_column(name, justify="right")
    for label, record in zip(("original", "retrain", *labels), records, strict=True):
        cells = [f"{record.scores[k]:.3f}" if k == "KID_judge" else f"{record.scores[k]:.1f}" for k in SCORES]
        shown.add_row(label, *cells, f"{record.seconds:.1f}")
    return shown


def _keep(out: Path, records: list[Record], name: str, run: Run, record: Record) -> None:
    write_checkpoint(
        out / f"{name}.safetensors",
        run.model.state_dict(),
        metadata={"split_hash": run.split.hash, "method": name},
    )
    record.save(out / f"{name}.json")
    records.append(record)


def _shape(source: Source) -> tuple[int, int, int]:
    c, h, w = source.shape
    return c, h, w
