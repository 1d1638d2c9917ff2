"""Fill the disk at every write of every command, and check the error, the exit code, and that no work is lost.

Two ways. With strace, a system call that changes the disk fails with ENOSPC from its n-th time on, for every n. Where a small
tmpfs can be mounted, the disk is full for every kind of call at once; elsewhere the largest file is limited (RLIMIT_FSIZE).
"""

from __future__ import annotations

import random
import shutil
import subprocess
from functools import partial
from pathlib import Path

from checks import check_disturbed, check_end, check_result, check_settled, is_hidden
from children import Ended, run
from digests import contents
from kills import Kills
from runner import Case
from scenarios import Scenario
from stage import Undisturbed
from system_calls import CHANGES, Injection

# share of the cases on a small disk, where each call at each of its times has its turn as well
SMALL_DISK = 0.4
# bytes that a small disk has beyond what the folder takes, at most; folders on a tmpfs take whole pages
PAGE = 4096
# what an error says if the work is done, or may be
SAYS_DONE = ("the change is made", "may be there all the same")


def can_mount(folder: Path) -> bool:
    """Return whether a tmpfs can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    if not shutil.which("mount") or subprocess.run(_mount(folder, 1 << 20), capture_output=True).returncode:
        return False
    return subprocess.run(["umount", folder], capture_output=True).returncode == 0


def _mount(folder: Path, size: int, *more: str) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", ",".join((*more, f"size={size}")), "tmpfs", str(folder)]


class Disk(Kills):
    """The part "disk"."""

    part = "disk"

    def prepare(self) -> None:
        """Import what the commands need, and see what this machine allows."""
        super().prepare()
        self.mounts = can_mount(self.folder / "small")
        self._turns: dict[str, list[tuple[str, int]]] = {}

    def do(self, case: Case, chance: random.Random) -> None:
        """Do one case."""
        scenario, known = self.drawn(case, chance)
        if self.traces and chance.random() >= SMALL_DISK:
            self._at_call(case, chance, scenario, known)
        elif self.mounts:
            self._on_small_disk(case, chance, scenario, known)
        else:
            self._with_small_files(case, chance, scenario, known)

    def _at_call(self, case: Case, chance: random.Random, scenario: Scenario, known: Undisturbed) -> None:
        from kills import watched

        if scenario.name not in self._calls:
            self._calls[scenario.name] = watched(self.stage, scenario, self.folder / "watched")
        points = [point for point in self._calls[scenario.name] if point[0] in CHANGES]
        if not points:
            return
        name = chance.choice(sorted({name for name, _ in points}))
        number = chance.choice([n for other, n in points if other == name])
        place = self.stage.copy(scenario, self.folder / "full")
        case.what = f"{scenario.name}, no space from {name} number {number} on"
        ended = run(scenario.call(), place, inject=Injection((name,), number, "ENOSPC"))
        case.count("writes that failed", int(ended.injected))
        check_full(case, ended, scenario, place, known, ended.injected)

    def _on_small_disk(
        self, case: Case, chance: random.Random, scenario: Scenario, known: Undisturbed
    ) -> None:
        place = self.folder / "small"
        used, needed = disk_size(self.stage.template(scenario)), self._needed(scenario, known)
        room = chance.randrange(0, needed + PAGE, PAGE)
        case.what = f"{scenario.name}, disk with {room:,} bytes of room"
        subprocess.run(_mount(place, 1 << 30), check=True)
        try:
            shutil.copytree(self.stage.template(scenario), place, dirs_exist_ok=True, symlinks=True)
            subprocess.run(_mount(place, used + room, "remount"), check=True)
            ended = run(scenario.call(), place)
            full = ended.code == 2
            case.count("full disks", int(full))
            subprocess.run(_mount(place, 1 << 30, "remount"), check=True)
            check_full(case, ended, scenario, place, known, full)
        finally:
            subprocess.run(["umount", place], check=True)

    def _with_small_files(
        self, case: Case, chance: random.Random, scenario: Scenario, known: Undisturbed
    ) -> None:
        place = self.stage.copy(scenario, self.folder / "full")
        largest = chance.randrange(1, 2 * max(map(len, contents(place).values()), default=PAGE) + PAGE)
        case.what = f"{scenario.name}, files of at most {largest:,} bytes"
        ended = run(scenario.call(), place, largest=largest)
        case.count("full disks", int(ended.code == 2))
        check_full(case, ended, scenario, place, known, ended.code == 2)

    def _needed(self, scenario: Scenario, known: Undisturbed) -> int:
        """Return about how many bytes a command needs: its outputs, and about as much for states and parts."""
        new = disk_size(self.folder / "undisturbed" / "second")
        return (
            PAGE * 8
            + 2 * max(new - disk_size(self.stage.template(scenario)), 0)
            + 4 * PAGE * len(known.outputs())
        )


def disk_size(folder: Path) -> int:
    """Return the bytes that a folder takes on a tmpfs: whole pages of each file."""
    sizes = [f.stat().st_size for f in folder.rglob("*") if f.is_file()] if folder.exists() else []
    return sum(-(-size // PAGE) * PAGE for size in sizes) + PAGE


def check_full(
    case: Case, ended: Ended, scenario: Scenario, place: Path, known: Undisturbed, full: bool
) -> None:
    """Check a command on a full disk: exit code 2 and one error, or the whole result; then the same command with room."""
    allowed = {known.ended.code, 2} if full else {known.ended.code}
    check_end(case, ended, allowed)
    check_disturbed(case, place, known)
    run_command = partial(run, folder=place)
    case.count("cases")
    case.count(f"cases: {scenario.name}")
    if ended.code == known.ended.code:
        case.count("went on without what failed", int(full))
        check_result_but_states(case, place, known)
        return
    done = check_settled(case, place, known, scenario, run_command) if not scenario.repeats else False
    if done and any(words in ended.err for words in SAYS_DONE):
        case.count("done, and said so beside the error")
        return
    if done:
        case.fault(
            "unclear error", f"exit code {ended.code}, but the command did all its work: {ended.err[-300:]}"
        )
        return
    check_end(case, run(scenario.call(), place), {known.ended.code})
    check_result(case, place, known)


def check_result_but_states(case: Case, place: Path, known: Undisturbed) -> None:
    """Check a result, after `expunge clean --states`: what could not be removed may stay until then."""
    before = len(case.faults)
    if [name for name in contents(place) if is_hidden(name) and name not in known.after]:
        case.count("left something for `expunge clean`")
        from scenarios import command

        check_end(case, run(command("clean", ".", "--states"), place), {0})
    check_result(case, place, known)
    assert len(case.faults) >= before
