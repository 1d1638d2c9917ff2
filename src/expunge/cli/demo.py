"""The main job from end to end: train an original, retrain the reference, unlearn, audit, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..audit.accuracy import Judged
from ..errors import ExpungeError
from ..models import build
from ..pipeline.experiment import Outcome, experiment, judge_run, seeded_factory, train
from ..records.checkpoint import write_checkpoint
from ..records.checkpoint_metadata import Role, metadata_for
from ..records.record import Record
from ..report import write_report
from ..sources import load, locate
from ..tasks.classification import Classification
from ..training.method import GradientMethod, Method
from ..training.run import Row
from ..tuning import presets
from .flags import SplitFlags
from .table import result_table, table_2x2

METHODS = ("salun", "ugradsl", "ugradsl_plus", "nhle", "finetune", "gradient_ascent", "random_label")


@dataclass
class Show:
    """Progress on the terminal."""

    progress: Progress

    @contextmanager
    def bar(self, text: str, method: Method) -> Iterator[Any]:
        """A bar that moves with the epochs of one run."""
        epochs = method.epochs if isinstance(method, GradientMethod) else 1
        task = self.progress.add_task(text, total=epochs)

        def on_row(row: Row) -> None:
            self.progress.update(task, completed=row["epoch"])

        yield on_row
        self.progress.update(task, completed=epochs)


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """Progress bars while the block runs."""
    with Progress(
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield Show(progress)


def demo(
    *,
    data: str = "digits",
    split: SplitFlags | None = None,
    out: Path = Path("demo"),
    seeds: int = 1,
    methods: tuple[str, ...] = METHODS,
    command: str = "expunge demo",
) -> list[Record]:
    """Train an original and the retrained reference on real data, unlearn with the given methods, and compare.

    Writes `report.html`, checkpoints (safetensors) and records (JSON) to `out`, and prints the table.
    """
    if seeds < 1:
        raise ExpungeError(f"--seeds is {seeds}; give 1 or more.")
    console = Console()
    source = load(locate(data))
    flags = split if split is not None else SplitFlags(forget_class=("3",))
    if not flags.forgets:
        flags = replace(flags, forget_class=("3",))
    records: list[Record] = []
    with showing(console) as show:
        for seed in range(seeds):
            records += one_seed(source, data, flags, seed, out, methods, show, command)
    write_report(out / "report.html", records)
    console.print(result_table(records, f"{source.name}: forget {describe(flags)}"))
    for rows in [r.details["table2x2"] for r in records if "table2x2" in r.details and r.seed == 0]:
        console.print(table_2x2(rows))
    console.print(f"report: {out / 'report.html'}")
    return records


def describe(flags: SplitFlags) -> str:
    """The forget set in a few words."""
    if flags.forget_class:
        return "class " + ", ".join(flags.forget_class)
    return (
        f"{100 * flags.forget_share:g} % at random"
        if flags.forget_share
        else str(flags.forget_ids or flags.forget_group)
    )


def one_seed(
    source: Any,
    data: str,
    flags: SplitFlags,
    seed: int,
    out: Path,
    methods: tuple[str, ...],
    show: Show,
    command: str,
) -> list[Record]:
    """All runs of one seed, written to `out`: the original, the reference, every method that serves the scenario."""
    drawn = replace(flags, split_seed=flags.split_seed + seed).draw(source.train, source.test)
    task = Classification(len(source.classes))
    model_name = presets.MODELS.get(presets.data_name(data), "cnn")
    factory = seeded_factory(
        lambda: build(model_name, num_classes=len(source.classes), shape=source.shape), seed
    )
    recipe = presets.recipe(data)
    names = {"model": model_name, "data": source.name, "classes": source.classes}
    tag = f"-{seed}" if seed else ""

    def keep(outcome: Outcome, name: str, method: Method) -> Judged | None:
        kind: Role = "original" if name == "original" else "retrain" if name == "retrain" else "unlearn"
        write_checkpoint(
            out / f"{name}{tag}.safetensors",
            outcome.model.state_dict(),
            metadata=metadata_for(kind, drawn, method, seed),
        )
        outcome.record.save(out / f"{name}{tag}.json")
        found.append(outcome.record)
        return outcome.judged

    found: list[Record] = []
    with show.bar("original", recipe) as on_row:
        run = train(factory(), drawn, recipe, task, seed=seed, on_row=on_row)
    run.split = drawn  # judged on what the others are judged on: its forget set is none of what it retains
    start = judge_run(run, recipe, kind="original", names=names, command=command)
    with show.bar("retrain (reference)", recipe) as on_row:
        again = experiment(
            run.model,
            drawn,
            recipe,
            task,
            kind="retrain",
            seed=seed,
            factory=factory,
            original=start.judged,
            on_row=on_row,
            names=names,
            command=command,
        )
    compared = judge_run(run, recipe, kind="original", retrained=again.judged, names=names, command=command)
    original, retrained = keep(compared, "original", recipe), keep(again, "retrain", recipe)
    for name in methods:
        method = presets.method(name, data, drawn.scenario)
        if method.scenarios and drawn.scenario not in method.scenarios:
            continue
        with show.bar(name, method) as on_row:
            outcome = experiment(
                run.model,
                drawn,
                method,
                task,
                seed=seed,
                factory=factory,
                original=original,
                retrained=retrained,
                on_row=on_row,
                names=names,
                command=command,
            )
        keep(outcome, name, method)
    return found
