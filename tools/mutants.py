"""Change the core one small piece at a time, and count how many changes the tests notice.

    python tools/mutants.py collect            # which tests run which line, and for how long (once; about as long as the suite)
    python tools/mutants.py run --count 300    # resumable: finished changes are kept
    python tools/mutants.py report             # write benchmarks/results/mutants.json

`make mutants` does all three. A change counts as caught if one of the tests that run its line fails or does not end in time. Each
change is made in a copy of the package, so nothing in the checkout changes. Changes that cannot alter what the code does are listed
with their reasons in `tools/equivalent_mutants.json`, and do not count.

Of a line that very many tests run, those run that look at its file most closely for their time, a minute of them: all of them would cost
an hour for one change. So the score can only be too low.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from mutation_sites import Site, sites

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "benchmarks" / "cache" / "mutants"
RESULT = ROOT / "benchmarks" / "results" / "mutants.json"
EQUIVALENT = Path(__file__).parent / "equivalent_mutants.json"
# share of the changes that each part of the core gets
AREAS = {
    "masks": 30,
    "methods": 80,
    "audit": 60,
    "training": 50,
    "generation": 25,
    "data": 30,
    "receipts": 25,
}
# a change is not tested for longer than this many seconds, plus ten times what the tests took unchanged
PATIENCE = 60
# seconds of the tests of a changed line that run first, from how many files, of those that run after them, and of the other tests
# of the same files
FIRST_RUN, FIRST_FILES, SECOND_RUN, THIRD_RUN = 15, 4, 45, 20
OVERHEAD = 0.15


def collect(tests: list[str]) -> None:
    """Run the default suite, or some of its files, once, and keep which test runs which line."""
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "COVERAGE_FILE": str(CACHE / "coverage"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    areas = [f"--cov={ROOT}/src/expunge/{area}" for area in AREAS]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", "-p", "no:cacheprovider",
               *areas, "--cov-context=test", "--cov-report=", f"--junit-xml={CACHE}/times.xml", *tests]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if code:
        sys.exit(f"the suite fails without any change (pytest ended with {code}): repair it first")


def tests_of_lines() -> dict[tuple[str, int], set[str]]:
    """Return the tests that run each line, by the file's path within the package and the line."""
    from coverage.numbits import numbits_to_nums

    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    with sqlite3.connect(CACHE / "coverage") as base:
        rows = base.execute(
            "select file.path, context.context, line_bits.numbits from line_bits"
            " join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
        )
        for path, context, bits in rows:
            if "|" not in context:
                continue
            name = str(Path(path).relative_to(ROOT / "src"))
            for line in numbits_to_nums(bits):
                found[name, line].add(context.split("|")[0])
    return found


def seconds_of_tests() -> dict[str, float]:
    """Return the seconds of each test by its name, as the run with coverage measured them."""
    from xml.etree import ElementTree

    times: dict[str, float] = {}
    for case in ElementTree.parse(CACHE / "times.xml").iter("testcase"):
        path = (case.get("classname") or "").replace(".", "/") + ".py"
        times[f"{path}::{case.get('name')}"] = float(case.get("time") or 0)
    return times


def chosen(count: int, seed: int) -> list[tuple[str, Site]]:
    """Draw changes: as many of each part of the core as AREAS says, at most one of a line."""
    rng = random.Random(seed)
    total = sum(AREAS.values())
    drawn: list[tuple[str, Site]] = []
    for area, share in AREAS.items():
        by_line: dict[tuple[str, int], list[Site]] = defaultdict(list)
        for path in sorted((ROOT / "src" / "expunge" / area).rglob("*.py")):
            name = str(path.relative_to(ROOT / "src"))
            for site in sites(path.read_text()):
                by_line[name, site.line].append(site)
        lines = sorted(by_line)
        rng.shuffle(lines)
        kept: list[tuple[str, Site]] = []
        for name, line in lines:
            site = rng.choice(by_line[name, line])
            try:
                site.apply((ROOT / "src" / name).read_text())
            except SyntaxError:
                continue
            kept.append((name, site))
            if len(kept) == round(count * share / total):
                break
        drawn += kept
    # any number of finished changes is a fair sample of all parts
    rng.shuffle(drawn)
    return drawn


def run(count: int, seed: int, minutes: float, jobs: int) -> None:
    """Test the changes that were not tested yet, a few at a time, each in its own copy of the package."""
    covered, times = tests_of_lines(), seconds_of_tests()
    todo = chosen(count, seed)
    deadline = time.time() + 60 * minutes
    done = {(row["file"], row["line"], row["operator"], row["after"]) for row in finished()}
    todo = [(name, site) for name, site in todo if (name, site.line, site.operator, site.after) not in done]
    # heavy packages are loaded once, before the forks; never the package itself
    for name in ("hypothesis", "numpy", "pytest", "safetensors.torch", "scipy.stats", "sklearn.svm", "torch"):
        import_module(name)

    stages = _stages(covered, times)
    running: dict[int, tuple[int, str, Site, float, float, list[list[str]]]] = {}
    # changes that no test saw so far, with the tests that are left
    again: list[tuple[str, Site, list[list[str]]]] = []
    free = list(range(jobs))
    while todo or again or running:
        while (again or todo) and free and time.time() < deadline:
            if again:
                name, site, left = again.pop(0)
            else:
                name, site = todo.pop(0)
                left = stages(name, site.line)
            if not left:
                keep(name, site, "not run by any test", [], 0)
                continue
            place = free.pop()
            limit = PATIENCE + 10 * sum(times.get(test, 1.0) for test in left[0])
            running[_start(place, name, site, left[0])] = (place, name, site, time.time(), limit, left[1:])
        if not running:
            break
        time.sleep(0.2)
        for process, (place, name, site, begun, limit, left) in list(running.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            late = not ended and time.time() - begun > limit
            if late:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
            if ended or late:
                del running[process]
                free.append(place)
                code = os.waitstatus_to_exitcode(status) if ended else None
                unseen = code == 0 or (code == 4 and _unknown_test(place))
                if unseen and left:
                    again.append((name, site, left))
                    continue
                outcome = "took too long" if late else "not seen" if unseen else "caught"
                keep(name, site, outcome, _failed(place), time.time() - begun)
    print(f"{len(finished())} changes tested, {len(todo)} left")


def _stages(
    covered: dict[tuple[str, int], set[str]], times: dict[str, float]
) -> Callable[[str, int], list[list[str]]]:
    """Return what chooses the tests of a line: lists of tests, of which the next runs if no test of the one before failed."""
    lines_of: dict[str, Counter[str]] = defaultdict(Counter)
    for (file, _), tests in covered.items():
        for test in tests:
            lines_of[test][file] += 1

    def chosen_tests(file: str, line: int) -> list[list[str]]:
        ran = covered.get((file, line), set())

        # the share of a test's lines that are in the file, per second
        def worth(test: str) -> float:
            return lines_of[test][file] / lines_of[test].total() / (times.get(test, 1.0) + 0.1)

        ordered = sorted(ran, key=lambda test: (-worth(test), test))
        files = list(dict.fromkeys(_file(test) for test in ordered))
        # few files first: to read 25 files of tests takes longer than most tests
        near = [test for test in ordered if _file(test) in files[:FIRST_FILES]]
        first = _within(near, times, FIRST_RUN)
        rest = _within([test for test in ordered if test not in set(first)], times, SECOND_RUN)
        # a shared fixture counts for the first test that uses it, so other tests of these files may see its lines too
        others = {test for test in times if _file(test) in files} - ran
        last = _within(sorted(others, key=lambda test: (times.get(test, 1.0), test)), times, THIRD_RUN)
        return [tests for tests in (first, rest, last) if tests]

    return chosen_tests


def _file(test: str) -> str:
    return test.split("::")[0]


def _within(tests: list[str], times: dict[str, float], seconds: float) -> list[str]:
    """Return the first tests that together take at most these seconds, and at least one."""
    spent, kept = 0.0, []
    for test in tests:
        # pytest's own work for a test is not in its time
        spent += times.get(test, 1.0) + OVERHEAD
        if kept and spent > seconds:
            break
        kept.append(test)
    return kept


def _start(place: int, name: str, site: Site, tests: list[str]) -> int:
    copy = CACHE / f"copy{place}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (copy / "src" / name).write_text(site.apply((ROOT / "src" / name).read_text()))
    (copy / "tests.txt").write_text("\n".join(tests))
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)
    os.chdir(ROOT)
    os.environ.update(PYTHONPATH=str(copy / "src"), PYTHONDONTWRITEBYTECODE="1")
    sys.path[:] = [str(copy / "src"), *(entry for entry in sys.path if entry != str(ROOT / "src"))]
    sys.dont_write_bytecode = True
    out = os.open(copy / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import pytest

    code = 2
    try:
        # in the order of the list
        code = int(
            pytest.main(
                ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=line", *tests]
            )
        )
    finally:
        os._exit(code)


def _unknown_test(place: int) -> bool:
    """Whether pytest ended because the report names a test that it does not know, not because the package cannot be imported."""
    return "ERROR: not found: " in (CACHE / f"copy{place}" / "out.txt").read_text(errors="replace")


def _failed(place: int) -> list[str]:
    lines = (CACHE / f"copy{place}" / "out.txt").read_text(errors="replace").splitlines()
    return [line.split(" ")[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]


def keep(name: str, site: Site, outcome: str, failed: list[str], seconds: float) -> None:
    """Add one finished change to the file of results."""
    row = {"file": name, "line": site.line, "operator": site.operator, "before": site.before, "after": site.after,
           "outcome": outcome, "by": failed[:1], "seconds": round(seconds, 1)}  # fmt: skip
    with (CACHE / "done.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(
        f"{outcome:20} {name}:{site.line} {site.operator}: {site.before[:60]!r} -> {site.after[:60]!r}",
        flush=True,
    )


def finished() -> list[dict[str, Any]]:
    """Return the finished changes."""
    path = CACHE / "done.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(seed: int) -> None:
    """Write the score, and every change that no test saw."""
    known = {
        (row["file"], row["before"], row["after"]): row["reason"]
        for row in json.loads(EQUIVALENT.read_text())
    }
    areas: dict[str, Counter[str]] = defaultdict(Counter)
    unseen, equivalent = [], []
    for row in finished():
        caught = row["outcome"] in ("caught", "took too long")
        reason = known.get((row["file"], row["before"], row["after"]))
        area = row["file"].split("/")[1]
        if caught:
            areas[area]["caught"] += 1
        elif reason:
            areas[area]["equivalent"] += 1
            equivalent.append({**row, "reason": reason})
        else:
            areas[area]["not seen"] += 1
            unseen.append(row)
    caught, missed = (sum(area[word] for area in areas.values()) for word in ("caught", "not seen"))
    result = {
        "command": "make mutants", "commit": _commit(), "seed": seed, "date": time.strftime("%Y-%m-%d"), "changes": len(finished()),
        "caught": caught, "not seen": missed, "equivalent": len(equivalent),
        "score": round(100 * caught / max(caught + missed, 1), 1),
        "areas": {area: dict(counts) for area, counts in areas.items()},
        "changes that no test saw": unseen, "equivalent changes": equivalent,
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"score {result['score']} %: {caught} caught, {missed} not seen, {len(equivalent)} equivalent")


def _commit() -> str:
    made = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return made.stdout.strip()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("collect", "run", "report", "all"))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600, help="start no change after this many minutes")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--tests", nargs="*", default=[], help="test files of `collect`; default: the default suite"
    )
    arguments = parser.parse_args()
    if arguments.step in ("collect", "all") and not (
        arguments.step == "all" and (CACHE / "coverage").exists()
    ):
        collect(arguments.tests)
    if arguments.step in ("run", "all"):
        run(arguments.count, arguments.seed, arguments.minutes, arguments.jobs)
    if arguments.step in ("report", "all"):
        report(arguments.seed)


if __name__ == "__main__":
    main()
