"""Very many requests: a ledger with 10,000 requests through its real writer, and a chain of requests on a small model."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from children import run
from runner import Case, Notes, one, reported

# requests of the ledger; every tenth is answered with a receipt
ROWS, ANSWERED = 10_000, 10
# ids that requests of the chain name, and the share of the time that the ledger may take
POOL, LEDGER_SHARE = 300, 0.5
# a process may grow by this much between the first and the last tenth of the chain
MOST_GROWTH = 100.0


class Many:
    """The part "requests".

    Args:
        folder: Folder to work in. The ledger stays there, so that a later run goes on with it.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = ()):
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, seed: int, notes: Notes, minutes: float) -> None:
        """Enter requests into the ledger, then answer requests of the chain until the time is over."""
        started, done = time.monotonic(), notes.counts()
        if done["ledger requests"] < ROWS:
            case, _ = one("requests", f"{seed}/ledger")
            with reported(case):
                self._ledger(case, done["ledger requests"], started + 60 * minutes * LEDGER_SHARE)
            notes.add(case)
        case, _ = one("requests", f"{seed}/chain/{done['model requests']}")
        left = 60 * minutes - (time.monotonic() - started)
        with reported(case):
            result = self.folder / "chain.json"
            result.unlink(missing_ok=True)
            ended = run(lambda: chain(case, seed, left, result), self.folder, patience=left + 900)
            if ended.code or not result.exists():
                case.fault("hang" if ended.hung else "died", f"ended with {ended.code}: {ended.err[-400:]}")
            else:
                take_chain(case, result)
        notes.add(case)

    def repeat(self, seed: str) -> Case:
        """Repeat the chain for a minute."""
        notes = Notes(self.folder / "repeated.jsonl")
        self.run(int(seed.split("/")[0]), notes, 1)
        return Case("requests", seed, "repeated", faults=[f for c in notes.cases for f in c["faults"]])

    def _ledger(self, case: Case, before: int, deadline: float) -> None:
        """Enter requests until there are `ROWS`, and check all rows."""
        import torch
        from torch import nn

        from expunge.receipts.issue import issue
        from expunge.receipts.ledger import Ledger
        from expunge.records.hashing import model_hash
        from expunge.records.record import Record

        path = self.folder / "requests.db"
        ledger = Ledger(path, create=not path.exists())
        case.what = "ledger"
        torch.manual_seed(0)
        made = {f"hash_{when}": model_hash(nn.Linear(2, 2).state_dict()) for when in ("before", "after")}
        number = before
        while number < ROWS and time.monotonic() < deadline:
            got = ledger.add(f"case {number + 1}", [str(number), "all"])
            number += 1
            if got != number:
                case.fault("lost row", f"request {number} got the number {got}")
            if number % ANSWERED == 0:
                record = Record(
                    "unlearn", "salun", {"run": number}, model=made, scores={"UA": 80.0}, machine={}
                )
                record.save(self.folder / "run.json")
                receipt, secret = issue(Record.load(self.folder / "run.json"), [str(number - 1), "all"])
                receipt.save(self.folder / "receipt.json")
                (self.folder / "secret.json").unlink(missing_ok=True)
                secret.save(self.folder / "secret.json")
                proof = {"secret": self.folder / "secret.json", "ids": [str(number - 1), "all"]}
                ledger.attach(
                    number, record=self.folder / "run.json", receipt=self.folder / "receipt.json", **proof
                )
        case.count("ledger requests", number - before)
        check_ledger(case, path, number)


def check_ledger(case: Case, path: Path, requests: int) -> None:
    """Check that a ledger has its requests in order, that all checks hold, and that every tenth is answered."""
    from expunge.receipts.ledger import Ledger

    ledger = Ledger(path)
    found = ledger.requests()
    if [r.number for r in found] != list(range(1, requests + 1)):
        case.fault("lost row", f"{len(found)} requests instead of {requests}")
    if wrong := [r.number for r in found if r.subject != f"case {r.number}"]:
        case.fault("wrong result", f"requests {wrong[:5]} have other subjects")
    if wrong := [r.number for r in found if bool(r.receipt) != (r.number % ANSWERED == 0)]:
        case.fault("lost row", f"requests {wrong[:5]} have a receipt and should not, or the other way round")
    if failed := [check.message for check in ledger.check(full=True) if check.ok is False]:
        case.fault("lost row", "; ".join(failed))
    case.count("ledger rows checked", ledger.head().count)


def chain(case: Case, seed: int, seconds: float, result: Path) -> int:
    """Answer one request after the other with one model, each run audited with all earlier requests. Runs in a child."""
    import torch

    from expunge import Classification, Retrain, Split, audit, execute
    from expunge.data.past_requests import requests_of
    from expunge.methods.random_label import RandomLabel
    from expunge.models import build
    from expunge.records.atomic_files import write_json
    from expunge.sources.loading import load

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    deadline, chance = time.monotonic() + seconds, np.random.default_rng(seed)
    source, task = load("digits?limit=400&test_limit=200"), Classification(10)
    torch.manual_seed(seed)
    model = build("mlp", num_classes=10, shape=source.shape)
    split = Split.random(source.train, source.test, 0.1, validation=0)
    model = execute(model, split.for_original, Retrain(epochs=10, lr=0.1, batch_size=64), task).model
    method, rows = RandomLabel(epochs=1, lr=0.02, batch_size=64), []
    while time.monotonic() < deadline:
        ids = chance.choice(POOL, 3, replace=False).tolist()
        started = time.process_time()
        split = Split.by_ids(source.train, source.test, ids, validation=0)
        model = execute(model, split, method, task, seed=len(rows)).model
        scores = audit(model, split, task).scores
        rows.append({"seconds": time.process_time() - started, "MiB": resident(), "files": len(os.listdir("/proc/self/fd")),
                     "finite": all(np.isfinite(v) for v in scores.values() if v is not None)})  # fmt: skip
    known = requests_of(model)
    every = {sample for request in known for sample in request.ids}
    write_json(result, {"rows": rows, "known": len(known), "ids": len(every)})
    return 0


def take_chain(case: Case, result: Path) -> None:
    """Check the figures of a chain: every request is known, every score finite, and memory and open files do not grow."""
    import json

    read: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    rows, case.what = read["rows"], f"chain of {len(read['rows'])} requests"
    case.count("model requests", len(rows))
    if read["known"] != len(rows):
        case.fault("lost row", f"the model knows {read['known']} of {len(rows)} requests")
    if not all(row["finite"] for row in rows):
        case.fault("wrong result", "a score is not finite")
    if len(rows) < 20:
        return
    tenth = len(rows) // 10
    first, last = (
        {k: float(np.mean([r[k] for r in part])) for k in ("seconds", "MiB", "files")}
        for part in (rows[:tenth], rows[-tenth:])
    )
    if last["MiB"] > first["MiB"] + MOST_GROWTH or last["files"] > first["files"] + 1:
        case.fault("wrong result", f"memory or open files grow: {first}, then {last}")
    case.counts.update({"chain, milliseconds of the first tenth": round(1000 * first["seconds"]),
                        "chain, milliseconds of the last tenth": round(1000 * last["seconds"]),
                        "chain, MiB of the first tenth": round(first["MiB"]), "chain, MiB of the last tenth": round(last["MiB"])})  # fmt: skip


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
