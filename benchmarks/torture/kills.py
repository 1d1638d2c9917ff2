"""Kill commands at random moments and at chosen system calls, and check what is left and how the next command goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from checks import check_disturbed, check_end, check_result, check_settled
from children import Ended, can_trace, run
from digests import fingerprints
from runner import Case, Notes, cases, one, prepare, reported
from scenarios import SCENARIOS, Scenario, settle, warm
from stage import Stage, Undisturbed
from system_calls import CHANGES, REMOVALS, Injection

# share of the kills at a system call, where strace is at hand
AT_CALLS = 0.6
# share of the cases in which `expunge clean` comes before the next command, and of those with a second kill
CLEANED, TWICE = 0.4, 0.2


def watched(stage: Stage, scenario: Scenario, folder: Path) -> list[tuple[str, int]]:
    """Return the system calls of a command that change the disk, as (name, number among those of its name)."""
    place = stage.copy(scenario, folder)
    ended = run(scenario.call(), place, inject=Injection(CHANGES + REMOVALS))
    return [(name, number) for name, count in sorted(ended.calls.items()) for number in range(1, count + 1)]


def kill_once(
    scenario: Scenario, place: Path, chance: random.Random, seconds: float, calls: list[tuple[str, int]]
) -> tuple[Ended, str]:
    """Run a command and kill it. Return how it ended, and where it was to be killed."""
    if calls and chance.random() < AT_CALLS:
        # each kind of system call is as likely as another, however often it is made
        name = chance.choice(sorted({name for name, _ in calls}))
        number = chance.choice([n for other, n in calls if other == name])
        return run(scenario.call(), place, inject=Injection((name,), number)), f"at {name} number {number}"
    moment = chance.uniform(0, seconds)
    return run(scenario.call(), place, kill_after=moment), f"after {moment:.3f} s"


def kill_case(
    case: Case,
    chance: random.Random,
    scenario: Scenario,
    place: Path,
    known: Undisturbed,
    calls: list[tuple[str, int]],
) -> None:
    """Kill a command in a fresh folder once or twice, check the folder, and give the command again."""
    run_command: Callable[[Callable[[], int]], Ended] = partial(run, folder=place)
    codes, where = {known.ended.code}, []
    for _ in range(1 + (chance.random() < TWICE)):
        ended, at = kill_once(scenario, place, chance, 1.2 * known.seconds, calls)
        where.append(at)
        case.what = f"{scenario.name}, {' and '.join(where)}"
        check_end(case, ended, codes)
        check_disturbed(case, place, known)
        case.count("kills" if ended.killed else "ended before the kill")
        case.count(f"kills: {scenario.name}", int(ended.killed))
        case.count("kills at a system call", int(ended.killed and at.startswith("at")))
        if not ended.killed or (not scenario.repeats and is_done(place, known)):
            break
    done = not ended.killed
    if chance.random() < CLEANED or is_done(place, known):
        done = check_settled(case, place, known, scenario, run_command) or done
        case.count("done before the kill", int(done and ended.killed))
    elif not scenario.repeats:
        check_end(case, run_command(settle), {0})
        done = is_done(place, known)
    if not done or (scenario.repeats and ended.killed):
        check_end(case, run_command(scenario.call()), codes)
    check_result(case, place, known)


def is_done(place: Path, known: Undisturbed) -> bool:
    """Return whether a killed command had done its work."""
    now = fingerprints(place)
    return all(now.get(name) == known.after.get(name) for name in known.outputs())


class Kills:
    """The part "kills".

    Args:
        folder: Folder to work in.
        names: Names of the scenarios; empty: all.
    """

    part = "kills"

    def __init__(self, folder: Path, names: tuple[str, ...] = ()):
        self.folder, self.stage = folder, Stage(folder)
        self.scenarios = [s for s in SCENARIOS if not names or s.name in names]
        self.traces = can_trace()
        self._calls: dict[str, list[tuple[str, int]]] = {}

    def prepare(self) -> None:
        """Import what the commands need."""
        (self.folder / "warm").mkdir(parents=True, exist_ok=True)
        prepare(warm, self.folder / "warm")

    def run(self, seed: int, notes: Notes, minutes: float) -> None:
        """Do cases until the time is over."""
        for case, chance in cases(self.part, seed, notes, minutes):
            self.do(case, chance)

    def repeat(self, seed: str) -> Case:
        """Repeat one case."""
        case, chance = one(self.part, seed)
        with reported(case):
            self.do(case, chance)
        return case

    def drawn(self, case: Case, chance: random.Random) -> tuple[Scenario, Undisturbed]:
        """Return the scenario of a case, and what it gives undisturbed."""
        scenario = chance.choices(self.scenarios, [s.share for s in self.scenarios])[0]
        case.what = scenario.name
        known = self.stage.undisturbed(scenario)
        return scenario, known

    def do(self, case: Case, chance: random.Random) -> None:
        """Do one case."""
        scenario, known = self.drawn(case, chance)
        if self.traces and scenario.name not in self._calls:
            self._calls[scenario.name] = watched(self.stage, scenario, self.folder / "watched")
        place = self.stage.copy(scenario, self.folder / "kills")
        kill_case(case, chance, scenario, place, known, self._calls.get(scenario.name, []))
