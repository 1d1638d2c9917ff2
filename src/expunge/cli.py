"""The command line. Every flag comes from a dataclass field or a typed argument; tyro parses them."""

from __future__ import annotations

import importlib
import json
import pkgutil
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
)
from .method import GradientMethod, find, names
from .record import Record, plain
from .team import first
from .terminal import command_line, progress, references, show, state_file, write


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
    how = compute.compute()  # first of all, as it decides which GPU is this process's
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
        "compute": how,
        "on_row": progress(settings),
        "state_file": state_file(out),
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
    if not first():
        return
    write(
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
    how = compute.compute()  # first of all, as it decides which GPU is this process's
    receipt.check()  # a key that cannot be read is better known before the run than after it
    source = model.source()
    out = out or checkpoint.with_name(f"{checkpoint.stem}-{method.name()}{checkpoint.suffix}")
    check_out(out, checkpoint, retrained)
    drawn, task = split.draw(source.train, source.test), Classification(len(source.classes))
    factory = model.factory(source)
    original, read = load_model(factory, checkpoint, drawn)
    named = {"model": model.model, "data": source.name, "classes": source.classes}
    again = load_model(factory, retrained)[0] if retrained is not None else None
    start, gold = references(drawn, task, original, again, seed, named)
    outcome = experiment(
        original,
        drawn,
        method,
        task,
        original=start.judged,
        retrained=gold.judged if gold is not None else None,
        seed=seed,
        compute=how,
        factory=factory,
        on_row=progress(method),
        state_file=state_file(out),
        names=named,
        command=command_line(),
    )
    if not first():
        return
    write(
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
    show([start, gold, outcome], report)


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


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "methods": methods,
    "train": train,
    "unlearn": unlearn,
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
