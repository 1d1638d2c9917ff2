"""Time the ledger at many rows: half requests, half attachments with record, audit and receipt.

    python benchmarks/ledger_rows.py --rows 50000

Prints processor seconds of each call within one process, without the start of Python.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from expunge.receipts.canonical import parse
from expunge.receipts.deletion import request_entry
from expunge.receipts.issue import issue, record_hash
from expunge.receipts.ledger import Ledger
from expunge.receipts.ledger_rows import insert_row
from expunge.records.hashing import model_hash
from expunge.records.record import Record


def run_of(number: int) -> Record:
    """Make the record of a run with an audit."""
    return Record(
        "unlearn",
        "salun",
        {"lr": 0.01, "run": number},
        model=MODEL,
        scores={"UA": 80.0, "MIA": 70.0, "RA": 99.0, "TA": 97.0},
        details={"verdict": {"words": ["different"]}},
        machine={},
    )


def fill(ledger: Ledger, rows: int) -> None:
    """Enter rows in one transaction, as `add` and `attach` make them."""
    half = rows // 2
    with ledger.transaction() as db:
        for number in range(1, half + 1):
            insert_row(db, "request", number, request_entry(f"case {number}", [str(number)]))
        for number in range(1, half + 1):
            record = run_of(number)
            receipt = parse(issue(record, [str(number)])[0].to_bytes())
            digest, model = receipt["statement"]["record"], record.model["hash_after"]
            run = {
                "record": digest,
                "method": "salun",
                "kind": "unlearn",
                "status": "finished",
                "model": model,
                "split": "",
            }
            audit = {
                "record": digest,
                "model": model,
                "split": "",
                "scores": record.scores,
                "verdict": "different",
            }
            insert_row(
                db,
                "attach",
                number,
                {"run": run, "audit": audit, "receipt": receipt, "proved": True, "note": ""},
            )


def timed(name: str, call) -> None:
    """Print the processor seconds of a call."""
    started = time.process_time()
    call()
    print(f"{name:28} {time.process_time() - started:8.3f} s", flush=True)


def main() -> None:
    """Fill a ledger and time its calls."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "requests.db", create=True)
        fill(ledger, arguments.rows)
        record, number = run_of(0), arguments.rows // 2 + 1
        path = record.save(Path(folder) / "run.json")
        receipt, secret = issue(Record.load(path), ["x"])
        receipt.save(Path(folder) / "receipt.json")
        secret.save(Path(folder) / "secret.json")
        files = {name: Path(folder) / f"{name}.json" for name in ("receipt", "secret")}
        assert record_hash(path) == receipt.statement["record"]
        timed("first add (takes up rows)", lambda: ledger.add("new", ["x"]))
        timed("add", lambda: ledger.add("newer", ["x"]))
        timed("attach", lambda: ledger.attach(number, record=path, audit=path, ids=["x"], **files))
        timed("list (without printing)", ledger.requests)
        timed("check --full", lambda: ledger.check(full=True))
        timed("check", ledger.check)
        print(f"{ledger.head().count} rows, {ledger.path.stat().st_size / 1e6:.0f} MB")


torch.manual_seed(0)
BEFORE, AFTER = nn.Linear(2, 2), nn.Linear(2, 2)
MODEL = {"hash_before": model_hash(BEFORE.state_dict()), "hash_after": model_hash(AFTER.state_dict())}

if __name__ == "__main__":
    main()
