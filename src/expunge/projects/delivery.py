"""Write the files of an answered request: checkpoint, record, receipt, request file, report, ledger entries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.past_requests import remember_requests, requests_of
from ..receipts.attachments import part_of
from ..receipts.deletion import Status, ids_hash
from ..receipts.issue import issue, record_hash
from ..receipts.ledger import Ledger
from ..receipts.limits import LONGEST, visible
from ..receipts.receipt import Receipt, receipt_paths
from ..records.checkpoint import write_checkpoint
from ..records.checkpoint_metadata import metadata_for
from ..records.keyed import new_key, public_entries
from ..records.record import Record, settings_of
from ..records.request_file import requests_path, write_requests
from ..records.statistics import contradicted
from ..report import write_report
from .answered import Answer, Setting
from .folder import MODELS, REPORT, sha256
from .ledger_limits import signing_key
from .no_effect import NO_EFFECT, changes, direction_without_effect, not_shown
from .prepared import Prepared
from .request_scores import apply_audit, numbers_of, renumber
from .requests import ProjectRequest, audit_file
from .words import for_project, rewrite

# Records that the report shows: all of them would make each request slower than the one before.
SHOWN_RECORDS = 12


def deliver(
    latest: Prepared,
    work: Path,
    ledger: Ledger,
    entries: Sequence[ProjectRequest],
    found: Answer,
    setting: Setting,
) -> dict[str, str]:
    """Write everything below the hidden folder `work`, and attach it to the requests in `ledger`.

    Returns:
        The entry of the new model for `state.json`.
    """
    models = latest.state["models"]
    out = work / MODELS / f"{len(models):04d}.safetensors"
    out.parent.mkdir()
    record_file = found.record.save(out.with_suffix(".json"))
    key, passphrase = signing_key(latest.settings)
    split = found.outcome.run.split
    write_checkpoint(
        out, found.model.state_dict(), metadata=_metadata(latest, found, setting, hash_key := new_key())
    )
    receipt, secret = issue(
        Record.load(record_file),
        split.forget.ids,
        before=latest.model,
        after=found.model,
        mask=found.outcome.run.mask,
        parent=models[-1].get("receipt") or None,
        key=key,
        passphrase=passphrase,
        files={"model": out, "record": record_file},
    )
    receipt_file, secret_file = receipt_paths(out, receipt.id)
    assert secret is not None
    secret.save(secret_file)
    receipt.save(receipt_file)
    proof = {
        "record": record_hash(record_file),
        "receipt": receipt.id,
        "commitment": receipt.statement["forget_commitment"],
    }
    new = {r.request: replace(r, **proof) for r in found.requests}
    remember_requests(found.model, [new.get(r.request, r) for r in requests_of(found.model)])
    requests = write_requests(requests_path(out), requests_of(found.model), hash_key)
    evidence = {"record": record_file, "receipt": receipt_file, "secret": secret_file}
    known = numbers_of(r for r in latest.requests if r.state != "waiting" and r not in entries)
    unsure = not_shown(found)
    for at, (entry, own) in enumerate(zip(entries, found.splits, strict=True)):
        audit = record_file
        if found.parts and not found.parts[at].whole:
            owner = part_of(ledger.request(entry.number), own.request, own.forget.ids, secret)
            part_audit = rewrite(found.parts[at].audit_of(found.record, owner))
            audit = part_audit.save(audit_file(out, entry.number))
        remark = _remark(found, at, setting) if entry.number in unsure else ""
        _attach(ledger, entry, own.forget.ids, remark, {**evidence, "audit": audit, "known": known})
    _write_report(work / REPORT, latest, found)
    return {
        "file": f"{MODELS}/{out.name}",
        "sha256": sha256(out),
        "receipt": receipt.id,
        "requests": sha256(requests),
    }


def _remark(found: Answer, at: int, setting: Setting) -> str:
    """Return for the ledger that a request shows no effect, and what to change."""
    direction = direction_without_effect([found.parts[at].verdict["words"]])
    return f"{NO_EFFECT}; {changes(setting.method.search, direction)}"


def _write_report(path: Path, latest: Prepared, found: Answer) -> None:
    """Write the report of this run and earlier ones. With forgotten samples, it is private."""
    project, show_forgotten = latest.model_file.parents[1], latest.settings.show_forgotten
    files = [(project / m["file"]).with_suffix(".json") for m in latest.state["models"][-SHOWN_RECORDS + 1 :]]
    earlier = shown_records(files)
    last = found.outcome.shown_record if show_forgotten else found.record
    write_report(path, [*(o.record for o in found.outcomes[:-1]), *earlier, last])
    if show_forgotten:
        path.chmod(0o600)


def shown_records(files: Sequence[Path]) -> list[Record]:
    """Return the records that exist, without forgotten samples, which records of earlier versions hold."""
    records = [Record.load(file) for file in files if file.exists()]
    for record in records:
        record.details.pop("examples", None)
    return records


def _metadata(latest: Prepared, found: Answer, setting: Setting, key: bytes) -> dict[str, str]:
    """Return the metadata of the new checkpoint, with hashes under `key`."""
    method = found.outcome.method or setting.method
    metadata = metadata_for("unlearn", found.outcome.run.split, method, setting.seed, key=key)
    metadata["requests"] = public_entries(requests_of(found.model), key)
    if latest.trained is not None:
        # later plans and references are trained as the original was
        metadata["recipe"] = json.dumps(settings_of(latest.trained))
    return metadata


def _attach(
    ledger: Ledger, entry: ProjectRequest, ids: Sequence[str], remark: str, files: dict[str, Any]
) -> None:
    """Attach a run to a request, with the proof that the ids it had when it came are in the forget set `ids`."""
    request, removed = ledger.request(entry.number), set(ids)
    if request.note and not remark:
        # the ledger shows the last note, which is of an earlier run
        remark = "answered by a later run"
    own = [name for name in entry.what["ids"] if name in removed]
    if ids_hash(request.ids_salt, own) == request.ids_hash:
        ledger.attach(entry.number, ids=own, project=True, note=remark, **files)
        return
    note = f"the run covers {len(own)} of its {request.ids} samples; the data no longer has the others"
    note = f"{note}; {remark}" if remark else note
    del files["secret"]
    if ledger.answered_by(Receipt.load(files["receipt"]).id):
        # without a proof, a receipt answers one request only
        del files["receipt"]
    ledger.attach(entry.number, status="done", note=note, project=True, **files)


def mark_failed(
    ledger: Ledger, entries: Sequence[ProjectRequest], reasons: Sequence[str], method: str
) -> None:
    """Write into state and ledger why a run did not answer requests. They stay open."""
    for entry, reason in zip(entries, map(for_project, reasons), strict=True):
        entry.reason = reason
        status: Status = "done" if ledger.request(entry.number).status == "done" else "open"
        note = visible(f"a run of {method} did not answer it: {reason}")[: LONGEST["note"]]
        ledger.attach(entry.number, status=status, note=note)


def mark_answered(
    prepared: Prepared,
    ledger: Ledger,
    entries: Sequence[ProjectRequest],
    found: Answer,
    model: dict[str, str],
) -> None:
    """Write into the state what a run has answered, and which earlier requests came back."""
    run = len(prepared.state["models"])
    unsure = not_shown(found)
    remembered = {past.request: past.ids for past in requests_of(prepared.model)}
    for entry, past in zip(entries, found.requests, strict=True):
        entry.not_shown = entry.number in unsure
        entry.unreliable_mia = contradicted(found.record.scores)
        entry.tried = prepared.settings.attempt(len(entry.what["ids"]))
        entry.answered(run, past, remembered)
    known = [r for r in prepared.requests if r not in entries]
    # requests for the same samples share the run, and no other audit scores them
    scores = {past.request: past.scores for past in found.requests}
    for entry in known:
        if entry.request in scores and entry.state != "waiting":
            entry.now, entry.audited = dict(scores[entry.request]), run
    for entry in apply_audit(known, found.earlier, run):
        # the ledger has reopened it where it found its receipt in the audit
        if ledger.request(entry.number).status == "done":
            ledger.attach(entry.number, status="open", note=entry.reason)
    prepared.state = {**prepared.state, "models": [*prepared.state["models"], model]}


def deliver_answer(
    prepared: Prepared,
    work: Path,
    ledger: Ledger,
    entries: Sequence[ProjectRequest],
    found: Answer,
    setting: Setting,
) -> None:
    """Write the files of an answer below `work`, and its results into state and ledger. Failed requests stay open."""
    answered = [entry for k, entry in enumerate(entries) if k not in found.failures]
    left = [entries[k] for k in found.failures]
    renumber(found.record, prepared.requests, zip(answered, found.requests, strict=True), left)
    model = deliver(prepared, work, ledger, answered, found, setting)
    mark_answered(prepared, ledger, answered, found, model)
    mark_failed(ledger, left, list(found.failures.values()), setting.method.name())
