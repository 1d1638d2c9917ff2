"""The work of `expunge demo-generation`: train a diffusion model, unlearn a class, sample and judge images, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from ..audit.image_judge import Judge
from ..audit.recovery_attacks import RecoveryAttack, RecoveryGoal
from ..errors import ExpungeError
from ..generation import presets as diffusion_presets
from ..generation.runs import Generation, GeneratorScoring, names_for
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..records.checkpoint import write_checkpoint
from ..records.checkpoint_metadata import metadata_for
from ..records.record import Record
from ..report import write_report
from ..sources.loading import load
from ..sources.spec import locate
from ..tuning import presets
from .console import table_console
from .demo import Bars, progress_bars
from .terminal import notice

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
# titles of the images, and roles of the models in attacks
TITLES = {"original": "before", "retrain": "retrained"}
ROLES = {"original": "original", "retrain": "retrained"}
# docs/generation_results.md has the measurement
MINUTES = 5
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
    """Train a class-conditional diffusion model and one without a class, unlearn the class with several methods, and compare.

    Writes `report.html`, records (JSON) and checkpoints (safetensors) to `out`, and prints the table.

    Args:
        data: The data.
        forget: The class.
        out: The folder.
        methods: Labels of `RUNS`.
        per_class: Number of images to sample per class.
        attacks: Try to bring the class back, from the model of SalUn.
        seed: Seed of all runs.
        command: The command for the records.
    """
    console = Console()
    source = load(locate(data))
    setting = Generation.of(source, data, forget, seed=seed, per_class=per_class, command=command)
    folder_to_write(out)
    notice(plan_text(source.name, methods, out))
    with threads_for(source.shape), progress_bars(console) as bars:
        with bars.bar("judge", presets.recipe(setting.data)):
            judge = setting.judge()
        records = GeneratorDemo(setting, judge, out, bars, attacks).run(methods)
    title = f"Forgetting in generation: {source.name}, class {source.classes[forget]}"
    write_report(out / "report.html", records, title=title)
    console = table_console()
    console.print(table(records, methods))
    console.print(f"judge: {judge.accuracy:.1f} % of real test images\nreport: {out / 'report.html'}")
    return records


def folder_to_write(out: Path) -> None:
    """Make the folder of the results before minutes of work. Raises `ExpungeError` if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExpungeError(
            f"{out} cannot be made: {error.strerror or error}; give --out a folder that you may write."
        ) from error


def plan_text(name: str, methods: tuple[str, ...], out: Path) -> str:
    """Return what the demo will do, how long that takes, and what a second call does."""
    minutes = f"about {MINUTES} minutes for digits on a quiet CPU core, longer for larger images or beside other work"
    return (
        f"the demo trains a judge and two diffusion models of {name}, and runs {len(methods)} methods ({', '.join(methods)}): "
        f"{minutes}. Each result is in {out} as soon as its images are judged. The demo does not resume: a second call starts "
        "from the beginning and replaces the files."
    )


class GeneratorDemo:
    """The runs of the demo: the original, the reference and the methods, each written as soon as it is scored.

    Args:
        setting: The data with the class to forget, and how images are sampled.
        judge: The classifier that judges images.
        out: Folder for checkpoints and records.
        bars: Progress bars.
        attacks: Try to bring the class back, from the model of SalUn.
    """

    def __init__(self, setting: Generation, judge: Judge, out: Path, bars: Bars, attacks: bool):
        self.setting, self.judge, self.out, self.bars, self.attacks = setting, judge, out, bars, attacks
        self.recipe = diffusion_presets.recipe(setting.data)
        self.models: dict[str, nn.Module] = {}

    def run(self, labels: tuple[str, ...]) -> list[Record]:
        """Make all runs and return their records."""
        setting = self.setting
        pipeline = Pipeline(
            split=setting.split,
            task=setting.task,
            factory=setting.factory,
            recipe=self.recipe,
            seed=setting.seed,
            names=names_for(setting),
            command=setting.command,
            scoring=GeneratorScoring(setting, self.judge, TITLES),
            watch=self.bars.bar,
            keep=self._keep,
        )
        methods = {
            label: diffusion_presets.method(name, setting.data, **changes)
            for label, (name, changes) in RUNS.items()
            if label in labels
        }
        return [outcome.record for outcome in pipeline.run({label: methods[label] for label in labels})]

    def _keep(self, label: str, outcome: Outcome) -> None:
        """Attack the model of SalUn, and write checkpoint and record."""
        self.models[ROLES.get(label, "unlearned")] = outcome.model
        if self.attacks and label == "salun":
            with self.bars.bar("attacks", self.recipe):
                models = {role: self.models[role] for role in ("original", "unlearned", "retrained")}
                outcome.record.details["attacks"] = come_back(self.setting, self.judge, models)
        write_run(self.out, label, outcome)
        notice(
            f"{self.out / label}.json: {', '.join(f'{k} {outcome.record.scores[k]:.1f}' for k in ('UA', 'RA'))}"
        )


@contextmanager
def threads_for(shape: tuple[int, ...]) -> Iterator[None]:
    """Use one thread for tiny images inside the block.

    Their kernels are too short to share between threads. On a busy machine two threads wait for each other: a step of 64 images
    of 8 x 8 took 0.07 s on one thread and 2.4 s on two, with other work on both cores.
    """
    before = torch.get_num_threads()
    if shape[-1] <= 16:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def come_back(
    setting: Generation, judge: Judge, models: dict[str, nn.Module], attack: RecoveryAttack | None = None
) -> dict[str, Any]:
    """Return how many steps a learned condition and relearning need until half of the images show the class again.

    Args:
        setting: The data with the forgotten class.
        judge: The classifier that judges images.
        models: {role: model}: "original", "unlearned" and, if there is one, "retrained".
        attack: Number of steps and sampler. By default 100 steps.
    """
    tool = attack or RecoveryAttack(steps=100, sampler=setting.sampler)
    split = setting.split
    goal = RecoveryGoal(
        task=setting.task,
        samples=split.forget,
        judge=judge,
        target=split.forget_classes[0],
        seed=setting.seed,
    )
    return tool.both(models, goal)


def table(records: list[Record], labels: tuple[str, ...]) -> Table:
    """Return the table of UA, RA and the distances of every run, for a terminal."""
    shown = Table(
        title="sampled images, as the judge classifies them",
        caption="UA: images of the forgotten class that are not recognised as it; RA: images of the other classes that are "
        "recognised; percent. Distances in the judge's features.",
    )
    shown.add_column("run", no_wrap=True)
    for name in (*SCORES, "RTE s"):
        shown.add_column(name, justify="right")
    for label, record in zip(("original", "retrain", *labels), records, strict=True):
        cells = [f"{record.scores[k]:.3f}" if k == "KID_judge" else f"{record.scores[k]:.1f}" for k in SCORES]
        shown.add_row(label, *cells, f"{record.seconds:.1f}")
    return shown


def write_run(out: Path, label: str, outcome: Outcome) -> None:
    """Write the checkpoint and the record of one run."""
    run, record = outcome.run, outcome.record
    # the class is named in the metadata, so no hash needs a key
    metadata = metadata_for(record.kind, run.split, outcome.method, run.seed, key=None)  # type: ignore[arg-type]
    write_checkpoint(out / f"{label}.safetensors", run.model.state_dict(), metadata=metadata)
    record.save(out / f"{label}.json")
