"""The command line. Every flag comes from a dataclass field or a typed argument; tyro parses them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes as Flat

from .. import __version__
from ..errors import ExpungeError
from ..records.record import Record, is_record
from ..tasks.classification import Classification
from ..torch_utils.allocator import keep_freed_memory
from ..training.method import Method
from ..training.registry import find, names, served_tasks, serves, unsuited_text
from .field_help import field_help
from .flags import SplitFlags, check_outputs
from .methods_page import forgets, masked, needs
from .registry import registry
from .terminal import command_line
from .unlearn import add_methods


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
    if verbose:
        for name in names():
            print(_page(find(name)))
        return
    table = Table("method", "what it does, and for what", show_lines=True)
    table.columns[0].no_wrap = True
    for name in names():
        kind = find(name)
        facts = "; ".join(
            [
                ", ".join(served_tasks(kind)),
                f"forget sets: {forgets(kind)}",
                f"needs: {needs(kind)}",
                f"mask: {masked(kind)}",
            ]
        )
        table.add_row(name, f"{(kind.__doc__ or '').strip().splitlines()[0]}\n[dim]{facts}[/dim]")
    Console().print(table)


def _page(kind: type[Method]) -> str:
    """A method's own text, and its settings with what they mean."""
    text = (sys.modules[kind.__module__].__doc__ or "").strip()
    rows = [f"  {f.name} = {getattr(kind(), f.name)!r}  # {field_help(kind, f.name)}" for f in fields(kind)]
    return "\n".join([f"\n## {kind.name()}\n{text}\n", *rows])


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
    from ..report import write_report

    files = [
        f
        for r in records
        for f in ([p for p in sorted(r.glob("*.json")) if is_record(p)] if r.is_dir() else [r])
    ]
    if not files:
        raise ExpungeError("no records were found; name JSON files that expunge wrote, or folders of them.")
    check_outputs({"--out": out}, *files)
    write_report(out, [Record.load(f) for f in files], **({"title": title} if title else {}))
    print(f"report: {out}")


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "methods": methods,
    "report": report,
}


# in the help; the others follow by file
FIRST = ("demo", "methods", "train", "unlearn", "audit", "report", "bench")


def commands() -> dict[str, Callable[..., Any]]:
    """All commands: those above and those of the files beside this one that have any."""
    found = dict(COMMANDS)
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__):
        found.update(getattr(importlib.import_module(f"{__package__}.{module.name}"), "COMMANDS", {}))
    return {**{name: found[name] for name in FIRST if name in found}, **found}


def main(args: Sequence[str] | None = None) -> int:
    """The entry point. Problems with the input end with exit code 2 and a sentence each, not with a traceback."""
    argv = list(sys.argv[1:] if args is None else args)
    if argv[:1] == ["--version"]:
        print(f"expunge {__version__}")
        return 0
    keep_freed_memory()
    known = commands()
    before = sys.argv
    sys.argv = [*sys.argv[:1], *argv]  # records and flags tell of this command, not of a host's
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _as_note  # type: ignore[assignment]
            return _run(argv, known)
    finally:
        sys.argv = before


def _as_note(message: Warning | str, category: type[Warning], filename: str, *_: Any) -> None:
    """The package's own warnings as one line, without the place in the code; others as they are."""
    own = Path(__file__).parent.parent in Path(filename).parents
    print(
        f"note: {message}" if own else warnings.formatwarning(message, category, filename, 0, ""),
        file=sys.stderr,
    )


def _run(argv: list[str], known: dict[str, Callable[..., Any]]) -> int:
    try:
        if argv and argv[0] in known and argv[0] != "unlearn":
            del known["unlearn"]  # the sub-commands of all methods are built only where they are needed
        else:
            _check_method(argv)
            add_methods()
        tyro.extras.subcommand_cli_from_dict(
            known,
            prog="expunge",
            description="Machine unlearning for PyTorch. `expunge --version` prints the version.",
            args=argv,
            config=(tyro.conf.CascadeSubcommandArgs,),
            registry=registry(),
        )
    except ExpungeError as error:
        # several problems are a list, which begins on a line of its own
        print("error:" + ("" if len(error.problems) > 1 else " ") + str(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _check_method(argv: Sequence[str]) -> None:
    """Raise `ExpungeError` where `unlearn`, which is for classifiers, is asked for a method that serves none or is none."""
    name = argv[1] if argv[:1] == ["unlearn"] and len(argv) > 1 else ""
    if name and not name.startswith("-") and not serves(find(name), Classification):
        raise ExpungeError(unsuited_text(find(name), Classification))


if __name__ == "__main__":
    sys.exit(main())
