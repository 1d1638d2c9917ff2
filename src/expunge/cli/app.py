"""The entry point: which commands there are, how their flags are parsed, and how problems are shown.

Commands are imported when they are called, so that `expunge --help` and `expunge --version` do not import torch.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from ..errors import ExpungeError
from ..receipts.limits import visible_lines
from ..secret_text import without_secrets
from ..torch_utils.allocator import keep_freed_memory
from ..version import __version__
from .exit_codes import INTERRUPTED, NOT_POSSIBLE
from .failures import DEBUG, Failure, run_guarded
from .flag_problems import flag_problems
from .help_page import HELP_ALL, PARAMETERS, asks_for_help, show_help, without_help
from .invocation import invoked_with
from .settings_flags import default_string, help_text

PROGRAM = "expunge"


@dataclass(frozen=True)
class Command:
    """One command of the table below.

    Args:
        place: The function, as module:function of this package; for commands with one sub-command per method, the
            function that returns their `MethodCommands`.
        summary: The line in `expunge --help`: the first line of the function's docstring.
        per_method: Whether a method follows the command.
        check: Function that refuses wrong input from the words after the command, before the command is imported.
    """

    place: str
    summary: str
    per_method: bool = False
    check: str = ""

    @property
    def import_path(self) -> str:
        """The place as an absolute import path."""
        return f"{__package__}.{self.place}"

    def load(self) -> Any:
        """Import the function."""
        return _imported(self.place)


def _imported(place: str) -> Any:
    """Import a function of this package from module:function."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


# in the order of the help
COMMANDS: dict[str, Command] = {
    "demo": Command("demos:demo", "Run the whole job on real data in minutes, and write a report."),
    "methods": Command("methods:methods", "List the unlearning methods, or print their documentation."),
    "train": Command(
        "train:train", "Train an original model, or with --without-forget the retrained reference."
    ),
    "unlearn": Command(
        "unlearn:unlearn_commands", "Unlearn a forget set from a classifier's checkpoint.", True
    ),
    "audit": Command(
        "audit:audit", "Audit an unlearned checkpoint beside the original and a retrained model."
    ),
    "audit-predictions": Command(
        "audit_predictions:audit_predictions",
        "Audit populations of models from their predictions, in the format of EasyDUB.",
    ),
    "report": Command("report:report", "Write one self-contained HTML page from records."),
    "hub-folder": Command(
        "hub_folder:hub_folder",
        "Write a folder with an unlearned model and a model card, ready for the Hugging Face hub.",
    ),
    "convert": Command(
        "convert:convert", "Rewrite a torch file that holds objects, so that other commands can read it."
    ),
    "bench": Command("bench:bench", "Run the grid of experiments in a TOML file."),
    "erase": Command(
        "erase:erase_commands",
        "Erase a concept from a text-to-image pipeline folder.",
        True,
        "erase_start:check_folder",
    ),
    "demo-generation": Command(
        "demos:demo_generation",
        "Unlearn a class from a diffusion model of real images in minutes, and write a report.",
    ),
    "train-generator": Command(
        "train_generator:train_generator", "Train a class-conditional diffusion model."
    ),
    "unlearn-generator": Command(
        "unlearn_generator:unlearn_generator_commands",
        "Unlearn classes from a diffusion model that `train-generator` wrote.",
        True,
    ),
    "init": Command("project:init", "Make a project folder for deletion requests from a trained model."),
    "forget": Command("project:forget", "Answer deletion requests in a project folder."),
    "export": Command(
        "export:export", "Write the latest model of a project in the form of its original checkpoint."
    ),
    "status": Command("project:status", "List the requests of a project, their states and drift."),
    "ledger": Command(
        "ledger:ledger", "Keep deletion requests and their receipts in one tamper-evident file."
    ),
    "clean": Command("clean:clean", "Find and remove what killed commands left in folders."),
    "verify": Command("receipt:verify", "Verify a receipt and the files that belong to it."),
    "sign": Command("receipt:sign", "Sign a receipt."),
    "keygen": Command("receipt:keygen", "Make a key pair for signing receipts."),
    "completion": Command(
        "completion:completion", "Install completion of commands, methods and flags by the Tab key."
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: see `exit_codes.py` for what each means.

    Every error is printed as sentences. The flag `--debug` adds the traceback.

    Args:
        arguments: The words after `expunge`; by default those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != DEBUG]
    with invoked_with(words), warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        return run_guarded(lambda: _run(words), _show_failure, debug=len(words) < len(given))


def _run(words: list[str]) -> int:
    try:
        return _call(words)
    except CycloptsError as error:
        _print_problems(flag_problems(error, words))
        print(f"see `{_help_command(error)}`", file=sys.stderr)
        return NOT_POSSIBLE


def _call(words: list[str]) -> int:
    name = words[0] if words else ""
    needs_more = not words or (len(words) == 1 and name in COMMANDS and COMMANDS[name].per_method)
    if words and not name.startswith("-"):
        _check_command(name)
    if needs_more or asks_for_help(words):
        command = without_help(words)
        show_help(build_app(command), command, everything=HELP_ALL in words)
        return NOT_POSSIBLE if needs_more else 0
    if not name.startswith("-"):
        if check := COMMANDS[name].check:
            _imported(check)(words[1:])
        keep_freed_memory()
    code = build_app(words)(words, exit_on_error=False, print_error=False)
    return code if isinstance(code, int) else 0


def build_app(words: Sequence[str]) -> App:
    """Return the application for these arguments. Only the command that they name gets its flags."""
    app = App(
        name=PROGRAM,
        help=f"Machine unlearning for PyTorch.\n\nEvery command takes {DEBUG}, which adds the traceback to an error.",
        help_format="plaintext",
        group_parameters=PARAMETERS,
        version=f"{PROGRAM} {__version__}",
        default_parameter=Parameter(consume_multiple=True, negative_iterable=(), show_default=_default_shown),  # type: ignore[arg-type]
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for position, (name, command) in enumerate(COMMANDS.items()):
        if list(words[:1]) != [name]:
            app.command(command.import_path, name=name, help=command.summary, sort_key=position)
        elif command.per_method:
            app.command(command.load()().app(words[1:]))
        elif isinstance(target := command.load(), App):
            app.command(target)
        else:
            app.command(target, name=name, help=help_text(target.__doc__))
    return app


def _default_shown(value: Any) -> str | None:
    """Show no default where it is None or empty: the help text says what happens then."""
    return None if value is None or value in ("", ()) else default_string(value)


def _check_command(name: str) -> None:
    """Raise `ExpungeError` for an unknown command. The library would import every command to suggest one."""
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        raise ExpungeError(f"there is no command '{name}'; known: {', '.join(COMMANDS)}.{hint}")


def _help_command(error: CycloptsError) -> str:
    return " ".join([PROGRAM, *(error.command_chain or ()), "--help"])


def _show_failure(failure: Failure) -> None:
    if failure.code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    else:
        _print_problems(failure.problems)


def _print_problems(problems: Sequence[str]) -> None:
    """Print one problem behind the word "error", several as a list below it."""
    text = f" {problems[0]}" if len(problems) == 1 else "".join(f"\n- {problem}" for problem in problems)
    # problems may quote files of other people
    print(f"error:{visible_lines(without_secrets(text))}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any) -> None:
    """Print a warning of this package as one line without its place in the code, and any other unchanged."""
    of_package = Path(__file__).parent.parent in Path(filename).parents
    text = (
        f"note: {visible_lines(str(message))}"
        if of_package
        else warnings.formatwarning(message, category, filename, 0, "")
    )
    print(without_secrets(text), file=sys.stderr)
