"""Forgetting in generation, from end to end on real images: train a diffusion model, forget a class, draw, judge, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from ..audit.generation_attacks import Aim, Attack
from ..audit.image_judge import Judge
from ..generation import presets as diffusion_presets
from ..generation.runs import Generation
from ..pipeline.experiment import train
from ..records.checkpoint import write_checkpoint
from ..records.checkpoint_metadata import Kind, head
from ..records.hashing import state_hash
from ..records.record import Record
from ..report import write_report
from ..sources import load, place_of
from ..training.execute import execute
from ..training.method import Method
from ..training.run import Run
from ..tuning import presets
from .demo import Show, showing

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
SHOWN = (
    "salun",
    "salun-random-mask",
    "salun-inverted-mask",
    "random_label",
    "esd",
    "concept_ablation",
    "gradient_ascent",
)
SCORES = ("UA", "RA", "FID_judge", "KID_judge", "diversity")


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
    setting = Generation.of(source, data, forget, seed=seed, per_class=per_class, command=command)
    with threads_for(source.shape), showing(console) as show:
        records, judge = _all_runs(setting, out, methods, attacks, show)
    title = f"Forgetting in generation: {source.name}, class {source.classes[forget]}"
    write_report(out / "report.html", records, title=title)
    console.print(table(records, methods))
    console.print(f"judge: {judge.accuracy:.1f} % of real test images\nreport: {out / 'report.html'}")
    return records


def _all_runs(
    setting: Generation, out: Path, methods: tuple[str, ...], attacks: bool, show: Show
) -> tuple[list[Record], Judge]:
    """The original, the retrained reference and every method, written to `out` as they are finished."""
    split, task, seed = setting.split, setting.task, setting.seed
    with show.bar("judge", presets.recipe(setting.data)):
        judge = setting.judge()
    recipe = diffusion_presets.recipe(setting.data)
    with show.bar("original", recipe) as on_row:
        run = train(setting.factory(), split, recipe, task, seed=seed, on_row=on_row)
    run.split = split  # its record names the samples that the others' do
    with show.bar("retrain (reference)", recipe) as on_row:
        again = execute(run.model, split, recipe, task, seed=seed, factory=setting.factory, on_row=on_row)
    start, gold = setting.sample(run.model, judge), setting.sample(again.model, judge)
    first = setting.record("original", run, recipe, start, judge, retrained=gold, label="before")
    second = setting.record("retrain", again, recipe, gold, judge, original=start, label="retrained")
    records = [
        _kept(out, "original", run, first, "original", recipe),
        _kept(out, "retrain", again, second, "retrain", recipe),
    ]
    before = state_hash(run.model.state_dict())
    for label in methods:
        name, changes = RUNS[label]
        method = diffusion_presets.method(name, setting.data, **changes)
        with show.bar(label, method) as on_row:
            done = execute(run.model, split, method, task, seed=seed, on_row=on_row)
        beside = {"original": start, "retrained": gold}
        drawn = setting.sample(done.model, judge)
        record = setting.record(
            "unlearn", done, method, drawn, judge, before=before, label=f"after {label}", **beside
        )
        if attacks and label == "salun":
            models = {"original": run.model, "unlearned": done.model, "retrained": again.model}
            with show.bar("attacks", recipe):
                record.details["attacks"] = come_back(setting, judge, models)
        records.append(_kept(out, label, done, record, "unlearn", method))
    return records, judge


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


def come_back(
    setting: Generation, judge: Judge, models: dict[str, nn.Module], attack: Attack | None = None
) -> dict[str, Any]:
    """Steps of a learned condition, and of relearning, until half of the images show the forgotten class again."""
    tool = attack or Attack(steps=100, sampler=setting.sampler)
    split = setting.split
    aim = Aim(
        task=setting.task,
        samples=split.forget,
        judge=judge,
        target=split.forget_classes[0],
        seed=setting.seed,
    )
    return tool.both(models, aim)


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


def _kept(out: Path, name: str, run: Run, record: Record, kind: Kind, method: Method) -> Record:
    """The record, after it and the checkpoint were written."""
    about = head(kind, run.split, method, run.seed)
    write_checkpoint(out / f"{name}.safetensors", run.model.state_dict(), metadata=about)
    record.save(out / f"{name}.json")
    return record
