"""The work of `expunge demo`: train an original, retrain the reference, unlearn with several methods, compare, report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..data.past_requests import answered_by
from ..data.split import Split
from ..errors import ExpungeError
from ..models import build
from ..pipeline.factory import seeded_factory
from ..pipeline.outcome import Outcome
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Watch
from ..records.checkpoint import write_checkpoint
from ..records.checkpoint_metadata import Role, metadata_for
from ..records.keyed import new_key
from ..records.record import Record
from ..records.request_file import requests_path, write_requests
from ..report import write_report
from ..sources.loading import load
from ..sources.source import Source
from ..sources.spec import locate
from ..tasks.classification import Classification
from ..training.method import GradientMethod, Method
from ..training.run import Row
from ..tuning import presets
from .console import table_console
from .flags import SplitFlags
from .table import result_table, table_2x2
from .terminal import progress as progress_lines

METHODS = ("salun", "ugradsl", "ugradsl_plus", "nhle", "finetune", "gradient_ascent", "random_label")
# labels of the progress bars
TITLES = {"retrain": "retrain (reference)"}


@dataclass
class Bars:
    """Progress bars on a terminal, and lines on stderr where the output is a file or a pipe."""

    progress: Progress

    @contextmanager
    def bar(self, label: str, method: Method) -> Iterator[Watch]:
        """Yield a watch whose bar moves with the epochs of one run, or that prints a line for each row of its curves."""
        epochs = method.epochs if isinstance(method, GradientMethod) else 1
        title = TITLES.get(label, label)
        task = self.progress.add_task(title, total=epochs)
        lines, start = not self.progress.console.is_terminal, time.monotonic()
        if lines:
            print(f"{title}: starts", file=sys.stderr, flush=True)
            print_line = progress_lines(method, title)

        def on_row(row: Row) -> None:
            self.progress.update(task, completed=row["epoch"])
            if lines:
                print_line(row)

        yield Watch(on_row=on_row)
        self.progress.update(task, completed=epochs)
        if lines:
            print(f"{title}: took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def progress_bars(console: Console) -> Iterator[Bars]:
    """Show progress bars while the block runs."""
    with Progress(
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield Bars(progress)


def demo(
    *,
    data: str = "digits",
    split: SplitFlags | None = None,
    out: Path = Path("demo"),
    seeds: int = 1,
    methods: tuple[str, ...] = METHODS,
    command: str = "expunge demo",
) -> list[Record]:
    """Train an original and the retrained reference on real data, unlearn with several methods, and compare them.

    Writes `report.html`, checkpoints (safetensors) and records (JSON) to `out`, and prints the table.

    Args:
        data: The data.
        split: What to forget. By default class 3.
        out: The folder.
        seeds: Number of seeds. Each has its own original and retrained model.
        methods: Names of the methods. Those that do not serve the forget set are left out.
        command: The command for the records.
    """
    if seeds < 1:
        raise ExpungeError(f"--seeds is {seeds}; give 1 or more.")
    flags = split if split is not None else SplitFlags()
    if not flags.forgets:
        flags = replace(flags, forget_class=("3",))
    console = Console()
    source = load(locate(data))
    records: list[Record] = []
    with progress_bars(console) as bars:
        for seed in range(seeds):
            records += DemoSeed(source, data, flags, seed, out, command).run(methods, bars)
    write_report(out / "report.html", records)
    console = table_console()
    console.print(result_table(records, f"{source.name}: forget {describe(flags)}", console.width))
    for rows in [r.details["table2x2"] for r in records if "table2x2" in r.details and r.seed == 0]:
        console.print(table_2x2(rows))
    console.print(f"report: {out / 'report.html'}")
    print(next_commands(data, flags, out))
    return records


def next_commands(data: str, flags: SplitFlags, out: Path) -> str:
    """Return three commands that go on from the files of the demo."""
    model = presets.MODELS.get(presets.data_name(data), "cnn")
    forget = [
        f"{flags.display_name(name)}={value}"
        for name in flags.chosen()
        for value in _several(getattr(flags, name))
    ]
    shared = ["--data", data, "--model", model]
    original, retrained = (str(out / f"{name}.safetensors") for name in ("original", "retrain"))
    commands = {
        "another method, or your own settings": [
            "unlearn", "salun_soft", "--checkpoint", original, "--retrained", retrained, *shared, *forget, "--report",
            "salun_soft.html",
        ],
        "the audit of a model that exists": [
            "audit", "--checkpoint", str(out / "salun.safetensors"), "--original", original, "--retrained", retrained, *shared,
            *forget,
        ],
        "a project, which keeps every request honoured": ["init", "office", "--checkpoint", original, *shared],
    }  # fmt: skip
    lines = (f"  # {text}\n  expunge {shlex.join(words)}" for text, words in commands.items())
    return "\n".join(["what next:", *lines])


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def describe(flags: SplitFlags) -> str:
    """Return the forget set in a few words."""
    if flags.forget_class:
        return "class " + ", ".join(flags.forget_class)
    if flags.forget_share:
        return f"{100 * flags.forget_share:g} % at random"
    return str(flags.forget_ids or ", ".join(flags.forget_group))


class DemoSeed:
    """The runs of one seed: the original, the reference, and every method that serves the forget set.

    Args:
        source: The data.
        data: Its spec.
        flags: What to forget.
        seed: The seed.
        out: Folder for checkpoints and records.
        command: The command for the records.
    """

    def __init__(self, source: Source, data: str, flags: SplitFlags, seed: int, out: Path, command: str):
        self.source, self.data, self.seed, self.out, self.command = source, data, seed, out, command
        self.split: Split = replace(flags, split_seed=flags.split_seed + seed).draw(source.train, source.test)

    def run(self, methods: tuple[str, ...], bars: Bars) -> list[Record]:
        """Make all runs, write each as soon as it is scored, and return the records."""
        source, model = self.source, presets.MODELS.get(presets.data_name(self.data), "cnn")
        make = lambda: build(model, num_classes=len(source.classes), shape=source.shape)  # noqa: E731
        pipeline = Pipeline(
            split=self.split,
            task=Classification(len(source.classes)),
            factory=seeded_factory(make, self.seed),
            recipe=presets.recipe(self.data),
            seed=self.seed,
            names={"model": model, "data": source.name, "classes": source.classes},
            command=self.command,
            watch=bars.bar,
            keep=self._write,
        )
        chosen: dict[str, Any] = {
            name: presets.method(name, self.data, self.split.scenario) for name in methods
        }
        served = {
            name: method
            for name, method in chosen.items()
            if not method.scenarios or self.split.scenario in method.scenarios
        }
        return [self._record(outcome) for outcome in pipeline.run(served)]

    def _record(self, outcome: Outcome) -> Record:
        """Return the record; of public data, with forgotten samples."""
        return outcome.shown_record if presets.data_name(self.data) in presets.MODELS else outcome.record

    def _write(self, label: str, outcome: Outcome) -> None:
        """Write checkpoint and record of one run."""
        suffix = f"-{self.seed}" if self.seed else ""
        role: Role = outcome.record.kind  # type: ignore[assignment]
        file, key = self.out / f"{label}{suffix}.safetensors", new_key()
        metadata = metadata_for(role, self.split, outcome.method, self.seed, key=key)
        write_checkpoint(file, outcome.model.state_dict(), metadata=metadata)
        if role != "original":
            write_requests(requests_path(file), answered_by(self.split, outcome.record.method), key)
        self._record(outcome).save(self.out / f"{label}{suffix}.json")
