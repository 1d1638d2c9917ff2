"""Answer requests: one run, its audit, and the files that belong to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..audit.earlier_requests import audit_earlier
from ..audit.standard import audit
from ..data.past_requests import PastRequest, remember_requests, requests_of
from ..data.split import Split
from ..errors import ExpungeError
from ..pipeline.outcome import Outcome, Reference
from ..pipeline.pipeline import Pipeline
from ..pipeline.watch import Watch
from ..receipts.issue import issue, record_hash
from ..receipts.keys import read_passphrase
from ..receipts.receipt import Receipt
from ..records.checkpoint import Checkpoint, write_checkpoint
from ..records.checkpoint_metadata import metadata_for
from ..records.record import Record, plain
from ..records.request_file import requests_path, write_requests
from ..sources.source import Source
from ..tasks.classification import Classification
from ..training.method import Method
from ..training.run import Row, Run
from .requested import split_of
from .settings import Settings
from .state import ProjectRequest


@dataclass(frozen=True)
class Answered:
    """Hold the record of a run and the requests it answered."""

    record: Record
    requests: list[ProjectRequest]


def answer(
    model: nn.Module,
    checkpoint: Checkpoint,
    split: Split,
    requests: Sequence[ProjectRequest],
    source: Source,
    settings: Settings,
    out: Path,
    *,
    command: str = "",
    on_row: Callable[[Row], None] | None = None,
) -> Answered:
    """Run the project's method, audit the result, and write its files.

    Args:
        model: The latest model. It knows its earlier requests.
        checkpoint: Its checkpoint.
        split: The split of the requests together.
        requests: The requests.
        source: The data.
        settings: The settings of the project.
        out: Path of the new checkpoint, without ending. The files beside it get its name.
        command: The command as it can be typed again.
        on_row: Called with each row of the curves.

    Raises:
        ExpungeError: The run failed or changed nothing.
    """
    task, method = Classification(len(source.classes)), settings.make_method(split.scenario)
    outcome = _run(model, split, method, task, source, settings, command, on_row)
    record = outcome.record
    if record.ended not in ("finished", "stopped"):
        raise ExpungeError(
            f"the run {record.status}; the request waits. Change [method] in expunge.toml, and answer it with --pending."
        )
    earlier = audit_earlier(outcome.evaluation, tolerance=settings.limits.tolerance)
    record.details["earlier_requests"] = plain([e.to_dict() for e in earlier])
    past = _past_requests(outcome, requests, source, settings, task)
    if len(past) > 1:
        record.details["answered"] = [
            {"request": r.number, "samples": len(p.ids), **p.scores}
            for r, p in zip(requests, past, strict=True)
        ]
    written = _write(outcome, past, checkpoint, method, settings, out)
    answered = [
        replace(r, status="answered", model=out.name, request=p.request, scores=p.scores, now={})
        for r, p in zip(requests, past, strict=True)
    ]
    return Answered(written, answered)


def _run(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Classification,
    source: Source,
    settings: Settings,
    command: str,
    on_row: Callable[[Row], None] | None,
) -> Outcome:
    seed = settings.method.seed
    pipeline = Pipeline(
        split=replace(split, rehearse=settings.method.rehearse),
        task=task,
        seed=seed,
        compute=settings.make_compute(),
        names={"model": settings.model.model, "data": source.name, "classes": source.classes},
        command=command,
        watch=lambda label, _: nullcontext(Watch(on_row=on_row)),
    )
    start = Reference(Run(model, split, task, seed))
    return pipeline.run({method.name(): method}, original=lambda: start, retrained=lambda _: None)[-1]


def _past_requests(
    outcome: Outcome,
    requests: Sequence[ProjectRequest],
    source: Source,
    settings: Settings,
    task: Classification,
) -> list[PastRequest]:
    """Return one past request per request, each with its own scores. The model then knows each of them, not their union."""
    *earlier, last = requests_of(outcome.model)
    if len(requests) == 1:
        return [last]
    splits = [split_of(request, source, settings.split) for request in requests]
    named = [split.as_request(last.method) for split in splits]
    remember_requests(outcome.model, [*earlier, *named])
    scored = []
    for split, request in zip(splits, named, strict=True):
        scores = audit(outcome.model, split, task, seed=settings.method.seed).scores
        scored.append(replace(request, scores={k: float(scores[k]) for k in ("UA", "MIA")}))
    return scored


def _write(
    outcome: Outcome,
    past: list[PastRequest],
    checkpoint: Checkpoint,
    method: Method,
    settings: Settings,
    out: Path,
) -> Record:
    """Write requests, checkpoint, record, receipt and secret beside each other."""
    earlier = list(requests_of(outcome.model)[: -len(past)])
    split, seed = outcome.run.split, settings.method.seed
    metadata = metadata_for("unlearn", split, method, seed)
    metadata["requests"] = json.dumps(plain([r.public() for r in (*earlier, *past)]))
    path = out.with_suffix(checkpoint.path.suffix)
    write_checkpoint(path, outcome.model.state_dict(), like=checkpoint, metadata=metadata)
    record = outcome.record.save(out.with_suffix(".json"))
    keys = settings.keys
    receipt, secret = issue(
        outcome.record,
        split.forget.ids,
        after=path,
        parent=earlier[-1].receipt or None if earlier else None,
        key=keys.sign_key or None,
        passphrase=read_passphrase(Path(keys.passphrase_file)) if keys.passphrase_file else None,
    )
    # the secret first: nobody could open the commitment of a receipt whose secret was lost
    if secret is not None:
        secret.save(out.with_suffix(".secret.json"))
    receipt.save(out.with_suffix(".receipt.json"))
    proof: Any = {"record": record_hash(record), **proof_of(receipt)}
    write_requests(requests_path(path), [*earlier, *(replace(p, **proof) for p in past)])
    return outcome.record


def proof_of(receipt: Receipt) -> dict[str, str]:
    """Return what a past request keeps of its receipt."""
    return {"receipt": receipt.id, "commitment": receipt.statement["forget_commitment"] or ""}
