"""Three processes write to one ledger, and three commands work in one project, at once. One of them may be killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from children import run
from kills import Kills
from runner import Case
from scenarios import LEDGER, OFFICE, PROJECT, Scenario

from expunge.cli import main

WRITERS = 3
# rows that each writer of a ledger enters, and commands that each writer of a project gives
ROWS, COMMANDS = 12, 2
# share of the cases in which one writer is killed
KILLED = 0.3


def at_once(writers: list[Callable[[], int]], kill_after: float | None) -> int:
    """Start writers at the same moment, each in its own process, and wait for all. The last one may be killed.

    Returns:
        0 if each ended by itself, or by the kill.
    """
    children, moment = [], time.monotonic() + 0.05
    for number, writer in enumerate(writers):
        child = os.fork()
        if not child:
            code = 70
            try:
                time.sleep(max(0.0, moment - time.monotonic()))
                with Path(f"writer{number}.txt").open("w", encoding="utf-8", buffering=1) as said:
                    sys.stdout = sys.stderr = said
                    code = writer()
                    print(f"ended with {code}", file=said)
            finally:
                os._exit(code)
        children.append(child)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(children[-1], signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    wrong = [c for k, c in enumerate(codes) if c < 0 and not (kill_after is not None and k == len(codes) - 1)]
    return int(bool(wrong))


def ledger_writer(number: int) -> Callable[[], int]:
    """Return a writer that enters requests and attaches a note to each by the command line."""

    def write() -> int:
        for k in range(ROWS):
            code = main(["ledger", "add", LEDGER, f"writer {number} row {k}", "--class", "3"])
            print(f"added {k} {code}")
        return 0

    return write


def project_writer(number: int, ids: Path) -> Callable[[], int]:
    """Return a writer that enters requests into the project; every second command waits for the others."""

    def write() -> int:
        for k in range(COMMANDS):
            words = [
                "forget",
                "--project",
                PROJECT,
                "--ids",
                str(ids),
                "--subject",
                f"writer {number} row {k}",
                "--wait",
            ]
            code = main([*words, *(["--wait-for", "120"] if (k + number) % 2 else [])])
            print(f"added {k} {code}")
        return 0

    return write


def said(folder: Path, number: int) -> tuple[list[int], str]:
    """Return which rows a writer says that it entered, and all its words."""
    file = folder / f"writer{number}.txt"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [
        int(line.split()[1]) for line in text.splitlines() if line.startswith("added") and line.endswith(" 0")
    ], text


def check_writers(case: Case, folder: Path, subjects: list[str], killed: bool, refusals: str) -> None:
    """Check that each row that a writer entered is there once, no other is there, and that each writer got a clear answer.

    Args:
        case: Where faults are noted.
        folder: The folder with the words of the writers.
        subjects: Subjects of the rows in the file.
        killed: Whether the last writer was killed.
        refusals: Words of a refusal that is a clear answer; empty if no writer may be refused.
    """
    allowed: set[str] = set()
    for number in range(WRITERS):
        rows, text = said(folder, number)
        names = [f"writer {number} row {k}" for k in rows]
        allowed |= set(names)
        if lost := [name for name in names if name not in subjects]:
            case.fault("lost row", f"{', '.join(lost)}: entered with code 0, and not in the file")
        for line in text.splitlines():
            if line.startswith("error:") and not (refusals and refusals in line):
                case.fault("unclear error", line)
            if "Traceback" in line or "unexpected " in line:
                case.fault("traceback", text[-400:])
        if not text.rstrip().endswith("ended with 0") and not (killed and number == WRITERS - 1):
            case.fault("died", f"writer {number}: {text[-300:]}")
        # a writer may be killed between the row and its words
        if killed and number == WRITERS - 1:
            allowed.add(f"writer {number} row {len(rows)}")
        case.count("rows", len(rows))
    written = [subject for subject in subjects if subject.startswith("writer")]
    if more := [s for s in written if s not in allowed]:
        case.fault("wrong result", f"{', '.join(more)}: in the file, and no writer entered it")
    if len(set(written)) != len(written):
        case.fault("wrong result", "a row is there twice")


class Writers(Kills):
    """The part "writers"."""

    part = "writers"

    def do(self, case: Case, chance: random.Random) -> None:
        """Do one case."""
        in_project = chance.random() < 0.5
        place, kill_after = (
            self.folder / "writers",
            chance.uniform(0.1, 3.0) if chance.random() < KILLED else None,
        )
        case.what = f"{WRITERS} writers, {'project' if in_project else 'ledger'}, kill {'after ' + format(kill_after, '.3f') if kill_after else 'none'}"
        if in_project:
            self.stage.copy(Scenario("writers", [], OFFICE), place)
            writers = []
            for number in range(WRITERS):
                (place / f"ids{number}.txt").write_text(
                    "".join(f"{20 + 10 * number + k}\n" for k in range(4))
                )
                writers.append(project_writer(number, Path(f"ids{number}.txt")))
        else:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            writers = [ledger_writer(number) for number in range(WRITERS)]
        ended = run(lambda: at_once(writers, kill_after), place)
        if ended.hung or ended.code:
            case.fault(
                "hang" if ended.hung else "died", f"the writers ended with {ended.code}: {ended.err[-300:]}"
            )
        case.count("cases")
        case.count("killed writers", int(kill_after is not None))
        self._check(case, place, in_project, kill_after is not None)

    def _check(self, case: Case, place: Path, in_project: bool, killed: bool) -> None:
        """Check the rows of the ledger, and the state of the project."""
        from expunge.projects.project import Project
        from expunge.receipts.ledger import Ledger

        if in_project:
            project = Project(place / PROJECT)
            with project.folder.locked():
                pass
            subjects = [r.subject for r in project.status().listed]
            check_writers(case, place, subjects, killed, "another command works in")
        ledger = Ledger(place / PROJECT / "ledger.db" if in_project else place / LEDGER)
        check_writers(
            case,
            place,
            [r.subject for r in ledger.requests()],
            killed,
            "another command works in" if in_project else "",
        )
        if failed := [check.message for check in ledger.check(full=True) if check.ok is False]:
            case.fault("lost row", "; ".join(failed))
