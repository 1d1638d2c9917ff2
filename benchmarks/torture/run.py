"""Torture Expunge for an hour: kills, full disks, broken files, very many requests, several writers at once.

    python benchmarks/torture/run.py                            # make torture: an hour on two cores, seed 0
    python benchmarks/torture/run.py --minutes 10               # the form of the nightly checks
    python benchmarks/torture/run.py --parts kills --jobs 1     # one part, in one process
    python benchmarks/torture/run.py --parts kills --case 0/17  # repeat case 17 of seed 0

Finished cases are kept in benchmarks/cache/torture, so the same command goes on after an interruption. The figures go to
benchmarks/results/torture.json. The exit code is 1 if there is a fault. docs/torture.md says what each part does and requires.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
CACHE = HERE.parent / "cache" / "torture"
RESULT = HERE.parent / "results" / "torture.json"
# module and class of each part, and its share of the time of all processes
PARTS = {
    "kills": ("kills:Kills", 0.5),
    "disk": ("disk:Disk", 0.17),
    "readers": ("readers:Readers", 0.2),
    "requests": ("many:Many", 0.08),
    "writers": ("writers:Writers", 0.05),
}


def work(name: str, seed: int, minutes: float, scenarios: tuple[str, ...], case: str = "") -> bool:
    """Do one part in this process, or repeat one of its cases. Return whether there is a fault."""
    import torch
    from runner import Notes

    torch.set_num_threads(1)
    module, _, kind = PARTS[name][0].partition(":")
    folder = CACHE / f"work-{seed}" / name
    if not (folder.exists() and name == "requests"):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    part = getattr(importlib.import_module(module), kind)(folder, scenarios)
    part.prepare()
    if case:
        done = part.repeat(case)
        print(f"{done.what}: {json.dumps(done.counts)}")
        print("\n".join(f"{kind}: {text}" for kind, text in done.faults) or "no fault")
        return bool(done.faults)
    notes = Notes(CACHE / f"seed-{seed}" / f"{name}.jsonl")
    part.run(seed, notes, minutes - (time.monotonic() - started) / 60)
    spent = CACHE / f"seed-{seed}" / f"{name}.minutes"
    before = float(spent.read_text()) if spent.exists() else 0.0
    spent.write_text(f"{before + (time.monotonic() - started) / 60:.2f}")
    return any(each["faults"] for each in notes.cases)


def lanes(parts: list[str], jobs: int, minutes: float) -> list[list[tuple[str, float]]]:
    """Divide parts among processes. Each lane is a list of (part, minutes), done one after the other."""
    total = sum(PARTS[name][1] for name in parts)
    found: list[list[tuple[str, float]]] = [[] for _ in range(jobs)]
    for name in sorted(parts, key=lambda part: -PARTS[part][1]):
        shortest = min(found, key=lambda lane: sum(length for _, length in lane))
        shortest.append((name, minutes * jobs * PARTS[name][1] / total))
    return [lane for lane in found if lane]


def result_of(seed: int, command: str) -> dict[str, Any]:
    """Return the figures of all finished cases of a seed."""
    from runner import FAULTS, Notes

    from expunge.records.record import machine

    parts: dict[str, Any] = {}
    faults = []
    for name in PARTS:
        file = CACHE / f"seed-{seed}" / f"{name}.jsonl"
        if not file.exists():
            continue
        notes = Notes(file)
        spent = file.with_suffix(".minutes")
        parts[name] = {
            "minutes": float(spent.read_text()) if spent.exists() else None,
            "cases": len(notes.cases),
            **notes.counts(),
        }
        faults += [{"part": c["part"], "seed": c["seed"], "what": c["what"], "kind": kind, "text": text}
                   for c in notes.cases for kind, text in c["faults"]]  # fmt: skip
    totals = {kind: sum(fault["kind"] == kind for fault in faults) for kind in FAULTS}
    about = {
        "command": command,
        "seed": seed,
        "commit": commit(),
        "machine": machine(),
        "load": os.getloadavg(),
    }
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {**about, "finished": finished, "parts": parts, "faults": totals, "failed": faults}


def commit() -> str:
    """Return the commit of the checkout, with a plus if files were changed since."""
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--abbrev=10"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def main() -> int:
    """Run the parts, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time; parts share it")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument(
        "--only", nargs="+", default=[], help="names of commands or readers, to look at one of them"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with one thread")
    parser.add_argument("--case", default="", help="repeat one case of one part, by its seed in the result")
    parser.add_argument("--result", type=Path, default=RESULT, help="the file of figures")
    parser.add_argument("--note", default="", help="what a reader of the figures should know")
    parser.add_argument("--fresh", action="store_true", help="forget the finished cases of this seed")
    given = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    if given.fresh:
        shutil.rmtree(CACHE / f"seed-{given.seed}", ignore_errors=True)
        shutil.rmtree(CACHE / f"work-{given.seed}", ignore_errors=True)
    if given.case:
        return int(work(given.parts[0], given.seed, given.minutes, tuple(given.only), given.case))
    children = []
    for lane in lanes(given.parts, given.jobs, given.minutes):
        child = os.fork()
        if not child:
            _lane(lane, given.seed, tuple(given.only))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    from expunge.records.atomic_files import write_json
    from expunge.records.record import plain

    result = {"note": given.note} if given.note else {}
    result |= result_of(given.seed, f"python {shlex.join([str(Path(sys.argv[0]).name), *sys.argv[1:]])}")
    given.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.result, plain(result))
    for name, counts in result["parts"].items():
        print(f"{name}: {json.dumps(counts)}")
    print(f"faults: {json.dumps({k: v for k, v in result['faults'].items() if v})}, in {given.result}")
    return int(any(codes) or any(result["faults"].values()))


def _lane(lane: list[tuple[str, float]], seed: int, scenarios: tuple[str, ...]) -> None:
    """Do parts one after the other, each in a process of its own. Never returns."""
    wrong = 0
    for name, minutes in lane:
        child = os.fork()
        if not child:
            code = 2
            try:
                code = int(work(name, seed, minutes, scenarios))
            except SystemExit as error:
                print(error, file=sys.stderr)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        wrong |= int(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0)
    os._exit(wrong)


if __name__ == "__main__":
    sys.exit(main())
