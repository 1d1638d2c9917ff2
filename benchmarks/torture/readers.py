"""Give changed files to every reader, in child processes with limits, guided by the lines of `src/expunge` that they reach.

An input is a valid input and a list of seeds: each seed changes what the seeds before it gave. So the list repeats the input.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inputs import READERS, Reader
from mutate import Files, mutated
from one_input import BATCH, answers_of, files_of, try_input
from runner import Case, Notes, cases, one, prepare

# changes behind each other, and inputs that are kept for each reader
LONGEST, KEPT = 12, 400


@dataclass
class Kept:
    """The inputs of a reader that reached new lines.

    Args:
        valid: The valid inputs, by name.
        chosen: [name of a valid input, seeds] of the kept inputs.
    """

    valid: dict[str, Files]
    chosen: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def built(kept: Kept, name: str, seeds: tuple[int, ...]) -> Files:
    """Return an input."""
    files = kept.valid[name]
    for seed in seeds:
        files = mutated(files, list(kept.valid.values()), seed)
    return files


class Readers:
    """The part "readers".

    Args:
        folder: Folder to work in.
        names: Names of the readers; empty: all.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = (), readers: tuple[Reader, ...] = READERS):
        self.folder, self.seen = folder, set()  # type: ignore[var-annotated]
        self.readers = [r for r in readers if not names or r.name in names]
        self.kept: dict[str, Kept] = {}

    def prepare(self) -> None:
        """Make the valid inputs, and import what the readers need. A valid input that is refused ends the run."""
        warm = self.folder / "warm"
        warm.mkdir(parents=True, exist_ok=True)
        prepare(self._make, warm)
        for number, reader in enumerate(self.readers):
            inputs = sorted(p for p in (self.folder / "valid" / str(number)).iterdir() if p.is_dir())
            self.kept[reader.name] = Kept({p.name: files_of(p) for p in inputs})
            self.kept[reader.name].chosen = [(p.name, ()) for p in inputs]

    def _make(self) -> int:
        for number, reader in enumerate(self.readers):
            place = self.folder / "valid" / str(number)
            if not place.exists():
                reader.make(place)
            for valid in sorted(place.iterdir()):
                kind, text = try_input(reader.read, files_of(valid), Path("in").absolute())
                if kind != "accepted":
                    print(f"{reader.name}, {valid.name}: {kind}: {text}", file=sys.stderr)
        return 0

    def run(self, seed: int, notes: Notes, minutes: float, most: int | None = None) -> None:
        """Read changed inputs until the time is over."""
        for case in notes.cases:
            for name, valid, seeds in case.get("kept", []):
                self.kept[name].chosen.append((valid, tuple(seeds)))
        for case, chance in cases("readers", seed, notes, minutes, most):
            self.do(case, chance)

    def do(self, case: Case, chance: random.Random) -> None:
        """Do one case: a batch of inputs."""
        chosen = []
        for _ in range(BATCH):
            reader = chance.choice(self.readers)
            kept = self.kept[reader.name]
            # the newest inputs are more likely: they reached what others did not
            valid, seeds = chance.choice(kept.chosen[-20:] if chance.random() < 0.5 else kept.chosen)
            chosen.append((reader, valid, (*seeds, chance.randrange(2**32))))
        batch = [
            (reader.read, built(self.kept[reader.name], valid, seeds)) for reader, valid, seeds in chosen
        ]
        answers = answers_of(batch, self.folder / "work", self.seen)
        case.what = f"{BATCH} inputs"
        for (reader, valid, seeds), (_, files), answer in zip(chosen, batch, answers, strict=True):
            case.count("inputs")
            case.count(f"inputs: {reader.name}")
            self._take(case, (reader.name, valid, seeds), files, answer)
        case.counts["lines reached"] = len(self.seen) - self._noted
        self._noted = len(self.seen)

    _noted = 0

    def _take(
        self, case: Case, which: tuple[str, str, tuple[int, ...]], files: Files, answer: dict[str, Any]
    ) -> None:
        name, valid, seeds = which
        kept, new = self.kept[name], set(answer["new"]) - self.seen
        self.seen |= new
        if new and len(seeds) < LONGEST:
            kept.chosen = [*kept.chosen[-KEPT:], (valid, seeds)]
            case.count("inputs that reached new lines")
        if answer["kind"] in ("accepted", "refused", "refused by the system"):
            case.count(answer["kind"])
            return
        saved = self.folder / "faults" / f"{case.seed.replace('/', '-')}-{case.counts['inputs']}"
        for file, data in files.items():
            (saved / file).parent.mkdir(parents=True, exist_ok=True)
            (saved / file).write_bytes(data)
        which_text = f"{name}, valid input {valid}, seeds {list(seeds)}"
        case.fault(answer["kind"], f"{which_text}: {answer['text']}")

    def repeat(self, seed: str) -> Case:
        """Repeat one input: "READER, VALID INPUT, SEED SEED ..."."""
        name, valid, numbers = (part.strip() for part in seed.split(","))
        case, _ = one("readers", seed)
        kept = self.kept[name]
        files = built(kept, valid, tuple(int(n) for n in numbers.split()))
        reader = next(r for r in self.readers if r.name == name)
        answer = answers_of([(reader.read, files)], self.folder / "work", None)[0]
        case.counts["inputs"] = 1
        self._take(case, (name, valid, tuple(int(n) for n in numbers.split())), files, answer)
        print(answer)
        return case
