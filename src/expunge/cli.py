"""The command line. Every flag comes from a dataclass field or a typed argument; tyro parses them."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes as Flat

from . import __version__, presets
from .checkpoint import write_checkpoint
from .classification import Classification
from .cli_receipt import ReceiptFlags
from .errors import ExpungeError
from .experiment import experiment, judge_run, seeded_factory
from .experiment import train as train_model
from .flags import (
    ComputeFlags,
    ModelFlags,
    RecipeFlags,
    SplitFlags,
    check_out,
    chosen,
    load_model,
    method_union,
    notice,
)
from .method import GradientMethod, Method, find, names
from .methods.retrain import Retrain
from .record import Record, plain
from .table import result_table, table_2x2


def command_line() -> str:
    """The command as it could be typed again."""
    return shlex.join(["expunge", *sys.argv[1:]])


def demo(
    *, data: str = "digits", split: Flat[SplitFlags] = SplitFlags(), out: Path = Path("demo"), seeds: int = 1
) -> None:
    """The main job in minutes: original, retrained reference, unlearning, table and report, on real data.

    Args:
        data: digits, fashion-mnist or cifar10 (the latter two with :FOLDER, or found in EXPUNGE_DATA).
        split: What to forget; class 3 if nothing is said.
        out: Folder for report.html, checkpoints and records.
        seeds: Number of seeds, each with an original and a retrained model of its own.
    """
    from .demo import demo as run

    run(data=data, split=split, out=out, seeds=seeds, command=command_line())


def methods(*, verbose: bool = False) -> None:
    """List the methods: what each serves, and its settings.

    Args:
        verbose: Print each method's page: source, what is published, what is ours, and all fields.
    """
    table = Table("method", "what it does, and for what", show_lines=True)
    table.columns[0].no_wrap = True
    for name in names():
        kind = find(name)
        summary = (kind.__doc__ or "").strip().splitlines()[0]
        forget = ", ".join(kind.scenarios) or "all"
        mask = "takes a mask" if issubclass(kind, GradientMethod) else "takes no mask"
        table.add_row(
            name,
            f"{summary}\n[dim]{', '.join(kind.tasks)}; forget sets: {forget}; needs {' and '.join(kind.data)} samples; {mask}[/dim]",
        )
        if verbose:
            print(f"\n## {name}\n{(sys.modules[kind.__module__].__doc__ or '').strip()}\n")
            print("\n".join(f"  {f.name} = {f.default!r}" for f in fields(kind)))
    if not verbose:
        Console().print(table)


def train(
    *,
    model: Flat[ModelFlags],
    out: Path,
    recipe: Flat[RecipeFlags] = RecipeFlags(),
    split: Flat[SplitFlags] = SplitFlags(),
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
    without_forget: bool = False,
) -> None:
    """Train an original model, or with --without-forget the retrained reference, and write a checkpoint that says on which samples.

    Args:
        model: The model and its data.
        out: Checkpoint to write (.safetensors or .pt).
        recipe: The training recipe.
        split: How the validation set is drawn; a forget set only with --without-forget.
        compute: How the arithmetic is done.
        seed: Seed of the weights and of the order of samples.
        without_forget: Leave the forget set out: the reference that gaps are measured from.
    """
    source = model.source()
    if not without_forget and (
        split.forget_class or split.forget_share or split.forget_ids or split.forget_group
    ):
        raise ExpungeError(
            "an original is trained on forget and retain set together: leave the forget flags out, or add --without-forget."
        )
    flags = (
        split
        if without_forget
        else SplitFlags(forget_class=("0",), validation=split.validation, split_seed=split.split_seed)
    )
    drawn, task = flags.draw(source.train, source.test), Classification(len(source.classes))
    settings = chosen(presets.recipe(model.data), recipe)
    factory = seeded_factory(model.factory(source), seed)
    watch: dict[str, Any] = {
        "seed": seed,
        "compute": compute.compute(),
        "on_row": _progress(settings),
        "state_file": _state_file(out),
    }
    info = {"model": model.model, "data": source.name, "classes": source.classes}
    if without_forget:
        outcome = experiment(
            factory(),
            drawn,
            settings,
            task,
            kind="retrain",
            factory=factory,
            names=info,
            command=command_line(),
            **watch,
        )
    else:
        outcome = judge_run(
            train_model(factory(), drawn, settings, task, **watch),
            settings,
            kind="original",
            names=info,
            command=command_line(),
        )
    _write(
        out,
        outcome,
        {
            "train_hash": drawn.train_hash if not without_forget else "",
            "split": json.dumps(drawn.to_dict()),
            "recipe": json.dumps(plain(asdict(settings))),
            "seed": str(seed),
        },
    )
    seen = "retained" if without_forget else "training"
    print(
        f"accuracy: {outcome.record.scores['RA']:.2f} % of {seen} samples of the split, {outcome.record.scores['TA']:.2f} % of test samples"
    )


def unlearn(
    method: Flat[Any],
    *,
    model: Flat[ModelFlags],
    checkpoint: Path,
    out: Path | None = None,
    split: Flat[SplitFlags] = SplitFlags(),
    retrained: Path | None = None,
    compute: Flat[ComputeFlags] = ComputeFlags(),
    seed: int = 0,
    report: Path | None = None,
    receipt: Flat[ReceiptFlags] = ReceiptFlags(),
) -> None:
    """Unlearn a forget set from a checkpoint, audit the result, and write the new checkpoint, its record and its receipt.

    Args:
        method: The method and its settings.
        model: The model and its data.
        checkpoint: The original's weights, .safetensors or .pt; only read.
        out: Checkpoint to write, in the input's format and with its keys; by default beside the input, with the method's name.
        split: What to forget.
        retrained: Checkpoint of a model retrained without the forget set, to measure the gap from.
        compute: How the arithmetic is done.
        seed: Seed of everything random in the run.
        report: HTML report to write.
        receipt: What was run, in a file that shows every change made to it.
    """
    receipt.check()  # a key that cannot be read is better known before the run than after it
    source = model.source()
    out = out or checkpoint.with_name(f"{checkpoint.stem}-{method.name()}{checkpoint.suffix}")
    check_out(out, checkpoint, retrained)
    drawn, task = split.draw(source.train, source.test), Classification(len(source.classes))
    factory = model.factory(source)
    original, read = load_model(factory, checkpoint, drawn)
    start, gold, others = _references(drawn, task, factory, original, retrained, seed)
    outcome = experiment(
        original,
        drawn,
        method,
        task,
        original=start.judged,
        retrained=gold,
        seed=seed,
        compute=compute.compute(),
        factory=factory,
        on_row=_progress(method),
        state_file=_state_file(out),
        names={"model": model.model, "data": source.name, "classes": source.classes},
        command=command_line(),
    )
    _write(
        out,
        outcome,
        {
            "split_hash": drawn.hash,
            "train_hash": drawn.train_hash,
            "split": json.dumps(drawn.to_dict()),
            "method": method.name(),
            "settings": json.dumps(plain(asdict(method))),
        },
        like=read,
    )
    receipt.write(out.with_suffix(".json"), checkpoint, out, drawn.forget.ids, outcome.run.mask)
    _show([start.record, *others, outcome.record], outcome.audit, report)


def audit(
    *,
    model: Flat[ModelFlags],
    checkpoint: Path,
    original: Path,
    split: Flat[SplitFlags] = SplitFlags(),
    retrained: Path | None = None,
    seed: int = 0,
    max_gap: float | None = None,
    out: Path | None = None,
    report: Path | None = None,
) -> None:
    """Judge an unlearned checkpoint beside the original and a retrained one. Exit code 1 if the avg. gap exceeds --max-gap.

    Args:
        model: The model and its data.
        checkpoint: The unlearned model's weights.
        original: The original's weights.
        split: What was to be forgotten.
        retrained: A model retrained without the forget set; without it no gap can be given.
        seed: Seed of the attack's samples.
        max_gap: Largest avg. gap to Retrain, in points, that passes.
        out: Record to write (JSON).
        report: HTML report to write.
    """
    from .method import Run

    source = model.source()
    drawn, task = split.draw(source.train, source.test), Classification(len(source.classes))
    if max_gap is not None and retrained is None:
        raise ExpungeError("--max-gap needs --retrained: without a retrained model there is no gap.")
    factory = model.factory(source)
    before, _ = load_model(factory, original, drawn)
    after, read = load_model(factory, checkpoint)
    start, gold, others = _references(drawn, task, factory, before, retrained, seed)
    settings = json.loads(read.metadata.get("settings", "{}"))
    made_by = (
        find(read.metadata["method"])(**settings) if read.metadata.get("method") in names() else Retrain()
    )
    outcome = judge_run(
        Run(after, drawn, task, seed),
        made_by,
        kind="unlearn",
        original=start.judged,
        retrained=gold,
        names={"model": model.model, "data": source.name, "classes": source.classes},
        command=command_line(),
    )
    if out is not None:
        outcome.record.save(out)
    _show([start.record, *others, outcome.record], outcome.audit, report)
    if max_gap is not None and (gap := outcome.record.scores["gap"]["avg"]) > max_gap:
        print(f"avg. gap {gap:.2f} is above --max-gap {max_gap:g}", file=sys.stderr)
        raise SystemExit(1)


def report(
    records: tyro.conf.Positional[tuple[Path, ...]],
    *,
    out: Path = Path("report.html"),
    title: str | None = None,
) -> None:
    """Make one self-contained HTML page of records (JSON files, or folders of them).

    Args:
        records: Records, or folders that hold them.
        out: The page to write.
        title: The page's title.
    """
    from .report import write_report

    others = (".receipt.json", ".secret.json")  # they lie beside records
    files = [
        f
        for r in records
        for f in (sorted(r.glob("*.json")) if r.is_dir() else [r])
        if not f.name.endswith(others)
    ]
    if not files:
        raise ExpungeError("no records were found; name JSON files that expunge wrote, or folders of them.")
    write_report(out, [Record.load(f) for f in files], **({"title": title} if title else {}))
    print(f"report: {out}")


# ---- pieces of the commands


def _references(
    drawn: Any, task: Classification, factory: Any, original: Any, retrained: Path | None, seed: int
) -> tuple[Any, Any, list[Record]]:
    """The original's outcome, the retrained model's predictions and its record, if there is one."""
    from .method import Run

    gold, records = None, []
    if retrained is not None:
        again = judge_run(
            Run(load_model(factory, retrained)[0], drawn, task, seed), Retrain(), kind="retrain"
        )
        gold, records = again.judged, [again.record]
    return (
        judge_run(Run(original, drawn, task, seed), Retrain(), kind="original", retrained=gold),
        gold,
        records,
    )


def _state_file(out: Path) -> Path:
    return out.with_name(f".{out.name}.state")


def _write(out: Path, outcome: Any, metadata: dict[str, str], like: Any = None) -> None:
    write_checkpoint(
        out, outcome.model.state_dict(), like=like, metadata={"expunge": __version__, **metadata}
    )
    record = outcome.record.save(out.with_suffix(".json"))
    _state_file(out).unlink(missing_ok=True)
    print(f"checkpoint: {out}\nrecord: {record}")
    if outcome.record.status != "finished":
        notice(outcome.record.status)


def _show(records: Sequence[Record], found: Any, page: Path | None) -> None:
    Console().print(result_table(records))
    for row in [r.details["table2x2"] for r in records if "table2x2" in r.details]:
        Console().print(table_2x2(row))
    for text in found.limits:
        notice(text)
    if page is not None:
        from .report import write_report

        write_report(page, list(records))
        print(f"report: {page}")


def _progress(method: Method) -> Callable[[dict[str, Any]], None]:
    """Prints a line a probe to stderr: quiet enough for logs, alive enough for a terminal."""
    total = method.epochs if isinstance(method, GradientMethod) else 1
    shown = lambda v: "–" if v is None else f"{v:.3f}"  # noqa: E731
    sets = ("retain",) if isinstance(method, Retrain) else ("forget", "retain")

    def on_row(row: dict[str, Any]) -> None:
        print(
            f"\r{method.name()} epoch {row['epoch']}/{total} step {row['step']}: "
            + ", ".join(f"{k} {shown(row[k])}" for k in ("loss", *sets))
            + "   ",
            end="" if sys.stderr.isatty() else "\n",
            file=sys.stderr,
            flush=True,
        )

    return on_row


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "methods": methods,
    "train": train,
    "unlearn": unlearn,
    "audit": audit,
    "report": report,
}


def commands() -> dict[str, Callable[..., Any]]:
    """All commands: those above and those of the `cli_*` files beside this one."""
    found = dict(COMMANDS)
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__):
        if module.name.startswith("cli_"):
            found.update(importlib.import_module(f"{__package__}.{module.name}").COMMANDS)
    return found


def main(args: Sequence[str] | None = None) -> int:
    """The entry point. Problems with the input end with exit code 2 and a sentence each, not with a traceback."""
    argv = list(sys.argv[1:] if args is None else args)
    if argv[:1] == ["--version"]:
        print(f"expunge {__version__}")
        return 0
    known = commands()
    if argv and argv[0] in known and argv[0] != "unlearn":
        del known[
            "unlearn"
        ]  # building the sub-command of every method costs half a second: only where it is needed
    else:
        unlearn.__annotations__["method"] = Flat[method_union()]  # type: ignore[misc]
    try:
        tyro.extras.subcommand_cli_from_dict(
            known,
            prog="expunge",
            description="Machine unlearning for PyTorch.",
            args=argv,
            config=(tyro.conf.CascadeSubcommandArgs,),
        )
    except ExpungeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the run resumes from its last finished epoch when the same command is given again",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
