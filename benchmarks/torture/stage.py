"""The folders of the scenarios, and what their commands give when nobody disturbs them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from children import Ended, run
from digests import contents, fingerprints
from scenarios import Scenario, command, extra_files


class Stage:
    """The folders of the scenarios, and what their commands give when nobody disturbs them.

    Args:
        folder: Folder for the templates and the copies that are worked on.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._made: dict[tuple[tuple[str, ...], ...], Path] = {}
        self._known: dict[str, Undisturbed] = {}
        self.modules: set[str] = set()

    def template(self, scenario: Scenario) -> Path:
        """Return the folder that a scenario starts from. Nobody changes it."""
        place = self.folder / "templates" / scenario.name.replace(" ", "_")
        if not place.exists():
            part = self._after(tuple(tuple(words) for words in scenario.before))
            shutil.copytree(part, place.with_suffix(".part"), dirs_exist_ok=True)
            scenario.make(place.with_suffix(".part"))
            place.with_suffix(".part").rename(place)
        return place

    def _after(self, commands: tuple[tuple[str, ...], ...]) -> Path:
        """Return a folder after some commands. Scenarios share the beginnings of their commands."""
        if commands in self._made:
            return self._made[commands]
        earlier = self._after(commands[:-1]) if commands else None
        place = self.folder / "made" / str(len(self._made))
        if earlier is not None:
            shutil.copytree(earlier, place)
            extra_files(place)
            ended = run(command(*commands[-1]), place)
            if ended.code not in (0, 1):
                raise RuntimeError(
                    f"{' '.join(commands[-1])} ended with {ended.code}: {ended.out}{ended.err}"
                )
            for name in ("ids.txt", "two.csv", "grid.toml"):
                (place / name).unlink()
        else:
            place.mkdir(parents=True, exist_ok=True)
        self._made[commands] = place
        return place

    def copy(self, scenario: Scenario, place: Path) -> Path:
        """Make a fresh copy of a template."""
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self.template(scenario), place, symlinks=True)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """Return what a scenario gives when nobody disturbs it. Two runs must give the same."""
        if scenario.name not in self._known:
            ends = []
            for name in ("first", "second"):
                place = self.copy(scenario, self.folder / "undisturbed" / name)
                ended = run(scenario.call(), place)
                ends.append((ended, fingerprints(place)))
            (first, result), (ended, other) = ends
            if ended.code not in (0, 1) or result != other:
                differs = {
                    k: (result.get(k), other.get(k))
                    for k in {*result, *other}
                    if result.get(k) != other.get(k)
                }
                raise RuntimeError(
                    f"{scenario.name}: code {ended.code}, differs between two runs: {differs} {ended.err}"
                )
            template = self.template(scenario)
            self._known[scenario.name] = Undisturbed(
                ended,
                min(first.seconds, ended.seconds),
                contents(template),
                fingerprints(template),
                result,
                frozenset(changed_files(contents(template), contents(place))),
            )
        return self._known[scenario.name]


@dataclass(frozen=True)
class Undisturbed:
    """What a command gives when nobody disturbs it.

    Args:
        ended: How it ended.
        seconds: How long it took.
        files: {file: bytes} of the folder before.
        before: Fingerprints of the folder before.
        after: Fingerprints of the folder after.
        written: Files whose bytes the command changes.
    """

    ended: Ended
    seconds: float
    files: dict[str, bytes]
    before: dict[str, str]
    after: dict[str, str]
    written: frozenset[str] = frozenset()

    def outputs(self) -> set[str]:
        """Return the files that the command writes, changes or removes."""
        return {name for name in {*self.before, *self.after} if self.before.get(name) != self.after.get(name)}


def changed_files(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Return the files that were written, changed or removed."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
