"""What the commands share: the command as typed, references, outputs beside each other, progress."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from ..audit.evaluation import Evaluation
from ..data.split import Split
from ..methods.retrain import Retrain
from ..pipeline.experiment import Outcome, judge_run
from ..records.checkpoint import Checkpoint, write_checkpoint
from ..tasks.classification import Classification
from ..training.method import GradientMethod, Method
from ..training.processes import first
from ..training.registry import recipe_from_metadata
from ..training.run import Run
from ..tuning.search import Trial
from .flags import notice
from .table import result_table, table_2x2


def command_line() -> str:
    """The command as it could be typed again; bytes that are no text (of file names) escaped, as JSON has no place for them."""
    return shlex.join(["expunge", *sys.argv[1:]]).encode("utf-8", "backslashreplace").decode()


def references(
    drawn: Split,
    task: Classification,
    original: tuple[nn.Module, Checkpoint],
    retrained: tuple[nn.Module, Checkpoint] | None,
    seed: int,
    names: dict[str, Any],
) -> tuple[Outcome, Outcome | None]:
    """The outcomes of the original and of the retrained model, if there is one, with the recipes that their heads name."""

    def judged(kind: str, loaded: tuple[nn.Module, Checkpoint], known: Evaluation | None) -> Outcome:
        model, checkpoint = loaded
        return judge_run(
            Run(model, drawn, task, seed),
            recipe_from_metadata(checkpoint),
            kind=kind,
            retrained=known,
            names=names,
            command=command_line(),
        )

    gold = judged("retrain", retrained, None) if retrained is not None else None
    return judged("original", original, gold.judged if gold is not None else None), gold


@contextmanager
def resumable(out: Path) -> Iterator[Path]:
    """Where the run in the block, which writes `out`, keeps its resumable state. Interrupted, it says whether there is one."""
    path = state_file(out)
    try:
        yield path
    except KeyboardInterrupt:
        for kept, words in ((path, "resumes from its last written state"),
                            (trials_file(out), "goes on after its last finished trial"),
                            (path.with_suffix(".latents"), "goes on with the same training images")):  # fmt: skip
            if kept.exists():
                notice(f"the run {words} when the same command is given again.")
                break
        raise


def state_file(out: Path) -> Path:
    """Where a run that writes `out` keeps its resumable state."""
    return out.with_name(f".{out.name}.state")


def trials_file(out: Path) -> Path:
    """Where a run that writes `out` keeps the trials that its settings are chosen from."""
    return state_file(out).with_suffix(".trials")


def forget_state(out: Path) -> None:
    """Remove what an interrupted run of `out` would have gone on from: it is finished."""
    for kept in (state_file(out), trials_file(out)):
        kept.unlink(missing_ok=True)


def with_record(out: Path) -> dict[str, Path]:
    """What is written for `--out`: the checkpoint, and the record beside it."""
    return {"--out": out, **({"its record": out.with_suffix(".json")} if out.name else {})}


def write(out: Path, outcome: Outcome, head: dict[str, str], like: Checkpoint | None = None) -> None:
    """Write the checkpoint, and the record beside it."""
    write_checkpoint(out, outcome.model.state_dict(), like=like, metadata=head)
    record = outcome.record.save(out.with_suffix(".json"))
    forget_state(out)
    print(f"checkpoint: {out}\nrecord: {record}")
    if outcome.record.ended != "finished" and not outcome.run.taken_back:  # of that a warning has told
        notice(outcome.record.status)


def show(outcomes: Sequence[Outcome | None], page: Path | None) -> None:
    """Print the table of the outcomes that there are, the last one's limits, and write the report if asked for."""
    there = [o for o in outcomes if o is not None]
    records = [o.record for o in there]
    Console().print(result_table(records))
    for row in [r.details["table2x2"] for r in records if "table2x2" in r.details]:
        Console().print(table_2x2(row))
    for text in there[-1].audit.limits if there[-1].audit is not None else []:
        notice(text)
    if page is not None:
        from ..report import write_report

        write_report(page, records)
        print(f"report: {page}")


def settings_line(trial: Trial) -> str:
    """The settings of a trial, for a person."""
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in trial.settings.items())


def tried(count: int) -> Callable[[list[Trial]], None]:
    """Prints a line a trial to stderr; of several processes, the first."""

    def on_trial(trials: list[Trial]) -> None:
        last = trials[-1]
        if first():
            print(f"trial {len(trials)} of {count}: {settings_line(last)}: {last.distance:.2f} points from what Retrain "
                  f"should be, by validation data ({last.seconds:.1f} s)", file=sys.stderr)  # fmt: skip

    return on_trial


def progress(method: Method, what: str = "") -> Callable[[dict[str, Any]], None]:
    """Prints a line a probe to stderr: quiet enough for logs, alive enough for a terminal; of several processes, the first.
    `what` is run, the method if nothing is said."""
    if not first():
        return lambda row: None
    total = method.epochs if isinstance(method, GradientMethod) else 1
    shown = lambda v: "–" if v is None else f"{v:.3f}"  # noqa: E731
    sets = ("retain",) if isinstance(method, Retrain) else ("forget", "retain")

    def on_row(row: dict[str, Any]) -> None:
        print(
            f"\r{what or method.name()} epoch {row['epoch']}/{total} step {row['step']}: "
            + ", ".join(f"{k} {shown(row[k])}" for k in ("loss", *sets))
            + "   ",
            end="" if sys.stderr.isatty() else "\n",
            file=sys.stderr,
            flush=True,
        )

    return on_row
