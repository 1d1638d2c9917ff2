"""What must hold of a folder after a command was disturbed."""

from __future__ import annotations

import re
from pathlib import Path

from children import Ended
from digests import contents, fingerprints
from runner import Case
from scenarios import Scenario, command, settle
from stage import Undisturbed

from expunge.records.part_files import SUFFIX

# an error has one beginning, and each further problem stands behind a dash
BEGINNING = re.compile(r"^error:", re.M)
# hidden files that belong to a run which can go on, and to one that wrote its outputs without moving them
STATES = (".state", ".trials", ".latents", "-journal", "-wal", "-shm", "expunge-journal")


def is_hidden(name: str) -> bool:
    """Return whether a file belongs to an unfinished run: a state, a part folder, or a folder of an uncommitted change."""
    return any(part.startswith(".") for part in Path(name).parts) or name.endswith(STATES)


def check_end(case: Case, ended: Ended, allowed: set[int]) -> None:
    """Check the exit code, the words, and that no process is left. A command that the harness killed has no exit code."""
    if ended.hung:
        case.fault("hang", f"no end after {ended.seconds:.0f} s; {ended.err[-200:]}")
    elif ended.killed:
        pass
    elif ended.code < 0 or ended.code == 70:
        case.fault("died", f"ended with {ended.code}: {ended.err[-400:]}")
    elif ended.code not in allowed:
        case.fault("unclear error", f"exit code {ended.code}, allowed {sorted(allowed)}: {ended.err[-400:]}")
    if "Traceback (most recent call last)" in ended.err + ended.out or "unexpected " in ended.err:
        case.fault("traceback", ended.err[-500:])
    if ended.code == 2 and len(BEGINNING.findall(ended.err)) != 1:
        case.fault(
            "unclear error", f"{len(BEGINNING.findall(ended.err))} errors instead of 1: {ended.err[-400:]}"
        )
    if ended.left:
        case.fault("process left", "; ".join(ended.left))


def check_disturbed(case: Case, folder: Path, known: Undisturbed) -> None:
    """Check a folder right after the end: inputs as they were, each output either as before, or whole and new."""
    outputs, now = known.outputs() | known.written, contents(folder)
    for name, data in known.files.items():
        if now.get(name) == data or name in outputs:
            continue
        kind = "old output changed" if name in now else "lost work"
        case.fault(
            kind, f"{name}, which the command does not write, {'was changed' if name in now else 'is gone'}"
        )
    for name, seen in fingerprints(folder).items():
        if seen.startswith("broken") and not is_hidden(name):
            case.fault("partial output", f"{name}: {seen}")


def check_settled(case: Case, folder: Path, known: Undisturbed, scenario: Scenario, run_command) -> bool:  # type: ignore[no-untyped-def]
    """Let the next command finish or remove what is left, and check that all outputs are there or none.

    Args:
        case: Where faults are noted.
        folder: The folder.
        known: What the command gives undisturbed.
        scenario: The command.
        run_command: Runs a function in a child with the folder as working folder.

    Returns:
        Whether the disturbed command had done its work.
    """
    check_end(case, run_command(settle), {0})
    check_end(case, run_command(command("clean", ".", "--states")), {0})
    now, names = fingerprints(folder), contents(folder)
    done = all(now.get(name) == known.after.get(name) for name in known.outputs())
    undone = all(now.get(name) == known.before.get(name) for name in known.outputs())
    stray = sorted(name for name in now if name not in known.before and name not in known.after)
    if hidden := [name for name in names if SUFFIX in name or (is_hidden(name) and name not in known.files)]:
        case.fault("stray weights", f"after `expunge clean --states`: {', '.join(hidden)[:300]}")
    elif stray and not steps_are_kept(scenario):
        case.fault("stray weights", f"files that no command writes: {', '.join(stray)[:300]}")
    if not done and not undone and not steps_are_kept(scenario):
        differ = [n for n in known.outputs() if now.get(n) != known.after.get(n)]
        case.fault(
            "partial output", f"neither as before nor as afterwards: {', '.join(sorted(differ))[:300]}"
        )
    return done


def steps_are_kept(scenario: Scenario) -> bool:
    """Return whether a command keeps finished parts of its work: runs of a grid, or a new ledger before its first request."""
    return scenario.name.startswith("bench") or scenario.name == "ledger add, new file"


def check_result(case: Case, folder: Path, known: Undisturbed) -> None:
    """Check that the result equals the undisturbed one, and that nothing else is there."""
    now = fingerprints(folder)
    for name in sorted({*now, *known.after}):
        if now.get(name) == known.after.get(name):
            continue
        if name not in known.after:
            case.fault("stray weights", f"{name} is there after the command was given again")
        elif name not in now:
            case.fault("lost work", f"{name} is missing after the command was given again")
        else:
            row = "rows" in known.after[name]
            case.fault(
                "lost row" if row else "wrong result", f"{name}: {now[name]} instead of {known.after[name]}"
            )
