"""What the parts share: seeds of cases, findings, the file of finished cases, and the time that is left."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from children import run

# kinds of faults; the required number of each is 0
FAULTS = ("traceback", "unclear error", "hang", "wrong result", "lost row", "stray weights", "old output changed", "partial output",
          "lost work", "process left", "changed input", "executed code", "died")  # fmt: skip


@dataclass
class Case:
    """One case: what was done and what was wrong.

    Args:
        part: The part, such as "kills".
        seed: Its seed. `run.py --part PART --case SEED` repeats it.
        what: What was done.
        counts: What it adds to the counts of the part.
        faults: [kind, sentence] of each fault.
    """

    part: str
    seed: str
    what: str
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[list[str]] = field(default_factory=list)

    def fault(self, kind: str, text: str) -> None:
        """Note a fault."""
        assert kind in FAULTS, kind
        self.faults.append([kind, text[:600]])

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number


class Notes:
    """The finished cases of a part, one line of JSON each. A run goes on behind the last whole line.

    Args:
        file: The file.
    """

    def __init__(self, file: Path):
        self.file = file
        self.cases: list[dict[str, Any]] = []
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    self.cases.append(json.loads(line))

    def add(self, case: Case) -> None:
        """Note a finished case, and print it if something was wrong."""
        self.cases.append(asdict(case))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(case)) + "\n")
        for kind, text in case.faults:
            print(f"{case.part} {case.seed}: {kind}: {case.what}: {text}", file=sys.stderr, flush=True)

    def counts(self) -> Counter[str]:
        """Return the sum of the counts of all cases."""
        total: Counter[str] = Counter()
        for case in self.cases:
            total.update(case["counts"])
            # figures of the last chain, no numbers of cases
            total.update({k: v - total[k] for k, v in case["counts"].items() if k.startswith("chain,")})
        return total


def cases(
    part: str, seed: int, notes: Notes, minutes: float, most: int | None = None
) -> Iterator[tuple[Case, random.Random]]:
    """Yield new cases with their own random generators until the time is over, and note each one afterwards.

    Args:
        part: The part.
        seed: The seed of the run.
        notes: The finished cases.
        minutes: The time.
        most: Largest number of cases, finished ones included.
    """
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline and (most is None or len(notes.cases) < most):
        case, chance = one(part, f"{seed}/{len(notes.cases)}")
        with reported(case):
            yield case, chance
        notes.add(case)


def one(part: str, seed: str) -> tuple[Case, random.Random]:
    """Return a case and its random generator."""
    return Case(part, seed, ""), random.Random(f"{part}/{seed}")


@contextlib.contextmanager
def reported(case: Case) -> Iterator[None]:
    """Note an exception of a check as a fault."""
    try:
        yield
    except Exception:
        case.fault("traceback", f"in the harness: {traceback.format_exc()[-500:]}")


def prepare(warm: Callable[[], int], folder: Path) -> None:
    """Import into this process what commands import, so that their forks start within milliseconds.

    Args:
        warm: Runs some commands. It runs in a child, and its modules are imported here.
        folder: The working folder of the child.
    """

    def names() -> int:
        code = warm()
        Path("modules").write_text("\n".join(sys.modules))
        return code

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    ended = run(names, folder)
    if ended.code:
        raise SystemExit(f"a command for warming up ended with {ended.code}: {ended.err}")
    for name in (folder / "modules").read_text().split():
        # modules of a main program and of generated code cannot be imported by name
        with contextlib.suppress(Exception):
            importlib.import_module(name)
