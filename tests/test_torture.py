"""The harness of `make torture` reports each kind of fault: writers that are not atomic, readers that hang or run code, lost rows."""

import os
import pickle
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

TORTURE = Path(__file__).parents[1] / "benchmarks" / "torture"
pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not Path("/proc").exists(), reason="the harness forks, and reads /proc"
)


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(TORTURE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def case():
    from runner import Case

    return Case("kills", "0/0", "a command")


def kinds(case):
    return {kind for kind, _ in case.faults}


def scenario_of(call, **options):
    """A scenario whose command is a Python function."""
    from scenarios import Scenario

    class Own(Scenario):
        def call(self):
            return call

    return Own("own", (), **options)


def undisturbed(scenario, folder):
    """What a scenario gives when nobody disturbs it."""
    from children import run
    from digests import contents, fingerprints
    from stage import Undisturbed

    place = folder.with_name("undisturbed")
    shutil.copytree(folder, place)
    before, files = fingerprints(folder), contents(folder)
    ended = run(scenario.call(), place)
    return Undisturbed(ended, ended.seconds, files, before, fingerprints(place))


@pytest.fixture
def folder(tmp_path):
    """A folder with an input and an old output."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "input.txt").write_text("input")
    (tmp_path / "work" / "out.json").write_text('{"old": true}')
    return tmp_path / "work"


def whole():
    """A writer that is atomic."""
    from expunge.records.atomic_files import write_json

    time.sleep(0.05)
    write_json("out.json", {"new": [1, 2, 3]})
    time.sleep(0.2)
    return 0


def torn():
    """A writer that is not: a kill leaves half of the file."""
    with open("out.json", "w") as out:
        out.write('{"new": [1,')
        out.flush()
        time.sleep(0.3)
        out.write(" 2, 3]}")
    return 0


def leaky():
    """A writer that leaves a copy of the weights beside the output when it is killed."""
    Path("copy.safetensors").write_bytes(b"weights")
    time.sleep(0.3)
    Path("copy.safetensors").unlink()
    return whole()


class Moment(random.Random):
    """Chance that kills after a tenth of a second, once, without `expunge clean` before the next command."""

    def random(self):
        return 0.99

    def uniform(self, low, high):
        return 0.1


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (whole, set()),
        (torn, {"partial output"}),
    ],
)
def test_a_kill_shows_a_writer_that_is_not_atomic(folder, case, call, found):
    from kills import kill_case

    known = undisturbed(scenario_of(call), folder)
    kill_case(case, Moment(), scenario_of(call), folder, known, [])
    assert case.counts["kills"] == 1 and kinds(case) == found


def test_a_kill_shows_weights_that_stay(folder, case):
    from checks import check_settled
    from children import run

    known = undisturbed(scenario_of(leaky), folder)
    assert run(leaky, folder, kill_after=0.1).killed
    check_settled(case, folder, known, scenario_of(leaky), lambda call: run(call, folder))
    assert kinds(case) == {"stray weights"}


def test_a_changed_input_and_a_wrong_result_are_found(folder, case):
    from checks import check_disturbed, check_result

    known = undisturbed(scenario_of(whole), folder)
    (folder / "input.txt").write_text("other")
    check_disturbed(case, folder, known)
    assert kinds(case) == {"old output changed"}
    case.faults.clear()
    (folder / "input.txt").write_text("input")
    (folder / "out.json").write_text('{"new": [1, 2, 4]}')
    check_result(case, folder, known)
    assert kinds(case) == {"wrong result"}
    case.faults.clear()
    (folder / "out.json").unlink()
    check_result(case, folder, known)
    assert kinds(case) == {"lost work"}


def strays():
    """A command whose worker goes on after its end."""
    if not os.fork():
        time.sleep(60)
        os._exit(0)
    return 0


def test_a_process_that_stays_is_found_and_ended(tmp_path, case, monkeypatch):
    import children
    from checks import check_end

    monkeypatch.setattr(children, "AFTERWARDS", 0.3)
    ended = children.run(strays, tmp_path)
    check_end(case, ended, {0})
    assert kinds(case) == {"process left"} and len(ended.left) == 1


def two_errors():
    print("error: one\nerror: two", file=sys.stderr)
    return 2


def traceback_and_code():
    raise ValueError("not caught")


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (two_errors, {"unclear error"}),
        (lambda: 4, {"unclear error"}),
        (traceback_and_code, {"died", "traceback"}),
        (lambda: time.sleep(60), {"hang"}),
    ],
)
def test_ends_that_are_not_clear(tmp_path, case, call, found):
    from checks import check_end
    from children import run

    check_end(case, run(call, tmp_path, patience=0.3 if "hang" in found else 60), {0, 2})
    assert kinds(case) == found


# ---- full disks


def heedless():
    """A command that ends with 0 although its output could not be written."""
    from contextlib import suppress

    with suppress(OSError), open("out.json", "w") as out:
        out.write("[" + "1," * 5000 + "1]")
        out.flush()
        os.fsync(out.fileno())
    return 0


def careful():
    from expunge.cli.failures import failure_of
    from expunge.records.atomic_files import write_json

    try:
        write_json("out.json", [1] * 5000)
    except Exception as error:
        print(f"error: {failure_of(error).problems[0]}", file=sys.stderr)
        return 2
    return 0


@pytest.mark.parametrize(
    ("call", "found"), [(careful, set()), (heedless, {"partial output", "wrong result"})]
)
def test_a_full_disk_shows_a_command_that_does_not_notice(folder, case, call, found):
    from children import run
    from disk import check_full

    known = undisturbed(scenario_of(call), folder)
    ended = run(call, folder, largest=4000)
    check_full(case, ended, scenario_of(call), folder, known, full=True)
    assert kinds(case) == found


def test_system_calls_are_counted_and_can_fail(tmp_path):
    from children import can_trace, run
    from system_calls import Injection

    if not can_trace():
        pytest.skip("strace cannot follow processes here")

    def write():
        with open("x", "wb", buffering=0) as out:
            for _ in range(5):
                out.write(b"x")
        print("done")
        return 0

    assert run(write, tmp_path, inject=Injection(("write", "fsync"))).calls == Counter(write=5)
    assert (
        run(write, tmp_path, inject=Injection(("write",), 3)).killed
        and (tmp_path / "x").read_bytes() == b"xx"
    )
    failed = run(write, tmp_path, inject=Injection(("write",), 2, "ENOSPC"))
    assert failed.injected and "No space left" in failed.err and (tmp_path / "x").read_bytes() == b"x"


# ---- readers


def sleeps(folder):
    time.sleep(60)


def runs_code(folder):
    pickle.loads((folder / "f").read_bytes())


def starts_a_shell(folder):
    os.system("true")


def changes_its_input(folder):
    (folder / "f").write_bytes(b"")


def fails(folder):
    raise KeyError("x")


def dies(folder):
    os._exit(3)


def refuses(folder):
    from expunge.errors import ExpungeError

    raise ExpungeError("the file is broken; give another.")


def test_each_fault_of_a_reader_is_found_and_the_next_input_is_read(tmp_path, monkeypatch):
    import one_input
    from valid_files import Dangerous

    monkeypatch.setattr(one_input, "SECONDS", 1)
    files = {"f": pickle.dumps(Dangerous())}
    expected = [
        (refuses, "refused"),
        (sleeps, "hang"),
        (runs_code, "executed code"),
        (starts_a_shell, "executed code"),
        (changes_its_input, "changed input"),
        (fails, "traceback"),
        (dies, "died"),
        (lambda folder: None, "accepted"),
    ]
    batch = [(reader, files) for reader, _ in expected]
    answers = one_input.answers_of(batch, tmp_path / "work", None)
    assert [answer["kind"] for answer in answers] == [kind for _, kind in expected]


def test_inputs_that_reach_new_lines_are_kept_and_can_be_repeated(tmp_path):
    from inputs import READERS
    from mutate import mutated
    from readers import Readers
    from runner import Notes

    chosen = tuple(r for r in READERS if r.name in ("request csv", "expunge.toml"))
    part = Readers(tmp_path, readers=chosen)
    part.prepare()
    notes = Notes(tmp_path / "notes.jsonl")
    part.run(0, notes, 5, most=1)
    counts = notes.counts()
    assert (
        counts["inputs"] == 100
        and counts["inputs that reached new lines"] > 0
        and not notes.cases[0]["faults"]
    )
    assert Notes(tmp_path / "notes.jsonl").counts() == counts
    files = {"r.csv": b"id,subject\n1,x\n"}
    assert mutated(files, [files], 5) == mutated(files, [files], 5) and files == {
        "r.csv": b"id,subject\n1,x\n"
    }
    assert len({str(mutated(files, [files], seed)) for seed in range(50)}) > 30


# ---- rows


def test_a_ledger_that_loses_rows_is_found(tmp_path, case):
    import many

    from expunge.receipts.ledger import Ledger

    ledger = Ledger(tmp_path / "l.db", create=True)
    for k in range(1, 4):
        ledger.add(f"case {k}")
    many.check_ledger(case, tmp_path / "l.db", 3)
    assert not case.faults and case.counts["ledger rows checked"] == 4
    many.check_ledger(case, tmp_path / "l.db", 4)
    assert kinds(case) == {"lost row"}


def test_writers_that_lose_double_or_invent_rows_are_found(tmp_path, case):
    from writers import WRITERS, check_writers

    for number in range(WRITERS):
        (tmp_path / f"writer{number}.txt").write_text("added 0 0\nadded 1 2\nended with 0\n")
    right = [f"writer {number} row 0" for number in range(WRITERS)]
    check_writers(case, tmp_path, ["case 1", *right], False, "")
    assert not case.faults and case.counts["rows"] == WRITERS
    for subjects, kind in (
        (right[1:], "lost row"),
        ([*right, right[0]], "wrong result"),
        ([*right, "writer 0 row 1"], "wrong result"),
    ):
        case.faults.clear()
        check_writers(case, tmp_path, subjects, False, "")
        assert kinds(case) == {kind}
    case.faults.clear()
    (tmp_path / "writer1.txt").write_text("added 0 0\nerror: database is locked\n")
    check_writers(case, tmp_path, right, False, "another command works in")
    assert kinds(case) == {"unclear error", "died"}


def test_time_is_shared_by_lanes_and_figures_count_faults(tmp_path, monkeypatch, case):
    import run
    from runner import Notes

    both = run.lanes(list(run.PARTS), 2, 60)
    assert [name for name, _ in both[0]] == ["kills"] and both[0][0][1] == pytest.approx(60)
    assert sum(minutes for lane in both for _, minutes in lane) == pytest.approx(120)
    monkeypatch.setattr(run, "CACHE", tmp_path)
    case.count("kills")
    case.fault("hang", "no end")
    Notes(tmp_path / "seed-7" / "kills.jsonl").add(case)
    result = run.result_of(7, "a command")
    assert (
        result["faults"]["hang"] == 1
        and result["failed"][0]["seed"] == "0/0"
        and result["parts"]["kills"]["kills"] == 1
    )
