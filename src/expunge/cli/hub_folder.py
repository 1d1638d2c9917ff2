"""`expunge hub-folder`: a folder with an unlearned model and its card, ready for the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import ExpungeError, raise_all
from ..records.file_names import existing_beside
from ..summaries import short
from .flags import MODEL, ModelFlags
from .output_checks import output_problems
from .settings_flags import REQUIRED

if TYPE_CHECKING:
    from ..records.record import Record
    from ..sources.preview import Preview


def hub_folder(
    checkpoint: Path,
    /,
    *,
    model: Annotated[ModelFlags, MODEL],
    out: Annotated[Path, REQUIRED],
    ema: str | None = None,
    record: Path | None = None,
    receipt: Path | None = None,
    title: str = "",
) -> None:
    """Write a folder with an unlearned model and a model card, ready for the Hugging Face hub.

    The model's own library reads the folder: transformers and peft with from_pretrained, timm as local-dir:FOLDER. The card says
    what was removed, how it was audited, its limits and the id of the receipt. Nothing is uploaded, and no private file is copied.

    Args:
        checkpoint: The unlearned model.
        model: The model and its data.
        out: The folder to write. It must not exist.
        ema: Entry of the checkpoint that holds the model, if it has several.
        record: Record of `expunge audit --out`, which has the verdict, or of the run. The record beside the checkpoint is read too.
        receipt: Receipt of the run. By default the one beside the checkpoint. Record or receipt is needed.
        title: Title of the card. By default the name of the folder.
    """
    of_run, of_receipt = (existing_beside(checkpoint, ending) for ending in (".json", ".receipt.json"))
    record = record or (of_run if of_run.is_file() else None)
    receipt = receipt or (of_receipt if of_receipt.is_file() else None)
    raise_all(_problems(checkpoint, out, record, receipt) + model.problems())
    from ..integrations.hub_folder import write_hub_folder
    from ..receipts.receipt import Receipt
    from ..records.checkpoint import read_checkpoint
    from ..records.checkpoint_loading import load_into
    from ..records.hashing import state_hash

    given = None if record is None else _record_of_unlearning(record)
    content = read_checkpoint(checkpoint, ema)
    if (made := content.metadata.get("kind", "unlearn")) not in ("unlearn", "retrain"):
        raise ExpungeError(f"{checkpoint} is an {made}; give an unlearned model.")
    data = _preview(model)
    file_hash, network = state_hash(content.state), model.build(data)
    load_into(network, content)
    other = None
    if record is not None and of_run.is_file() and not record.samefile(of_run):
        other = _run_beside(of_run, state_hash(network.state_dict()))
    write_hub_folder(
        out,
        network,
        spec=model.model,
        record=other or given,
        audit=given if other is not None else None,
        receipt=None if receipt is None else Receipt.load(receipt),
        title=title,
        file_hash=file_hash,
        shape=data.shape,
        data=model.prepared(),
    )
    print(f"folder: {out}\nmodel card: {out / 'README.md'}")
    _note(out, model.model, [r for r in (other, given) if r is not None])


def _problems(checkpoint: Path, out: Path, record: Path | None, receipt: Path | None) -> list[str]:
    problems = output_problems({"--out": out}, checkpoint, record, receipt)
    if os.path.lexists(out):
        problems = [f"--out {out} exists; give a new folder."]
    if record is None and receipt is None:
        problems.append(
            f"there is no record and no receipt beside {checkpoint}, so nothing shows that it was unlearned; give --record or "
            "--receipt of the run."
        )
    return problems


def _record_of_unlearning(path: Path) -> Record:
    from ..records.record import Record

    record = Record.load(path)
    if record.kind not in ("unlearn", "retrain"):
        raise ExpungeError(
            f"{path} is the record of an {record.kind}; give an unlearned model with the record of its run or audit."
        )
    return record


def _run_beside(path: Path, own_hash: str) -> Record | None:
    """Return the record beside the checkpoint; None with a notice if it is not that of a run that gave this model."""
    from .terminal import notice

    try:
        record = _record_of_unlearning(path)
    except ExpungeError as error:
        notice(f"{path} is left out of the card: {error}")
        return None
    if record.model.get("hash_after") != own_hash:
        notice(f"{path} is left out of the card: it describes another model than the checkpoint.")
        return None
    return record


def _preview(model: ModelFlags) -> Preview:
    from ..sources.preview import Preview

    if (data := model.preview()) is not None:
        return data
    # only the data itself can tell
    source = model.source()
    return Preview(len(source.classes), source.shape)


def _note(out: Path, spec: str, records: list[Record]) -> None:
    """Tell what is not in the folder, or not in its card."""
    from ..integrations.hub_folder import preparation_files
    from ..integrations.hub_folder_usage import code_module
    from .terminal import notice

    if left_out := ", ".join(file.name for file in preparation_files(spec)[1]):
        notice(
            f"files beside the model that no tokenizer or image processor writes were left out: {short(left_out, 200)}."
        )
    # other libraries write a configuration and need no code of the user
    if (module := code_module(spec)) and not list(out.glob("*.json")):
        notice(
            f"the card imports the code of the model, {module}, from {out}; copy it there, unless it is an installed package."
        )
    if not records:
        notice(
            "there is no record beside the checkpoint, so the card does not say what was removed; give --record."
        )
    elif not any(record.details.get("verdict") for record in records):
        notice(
            "the card has no verdict; run `expunge audit` with --out audit.json, and give --record audit.json here."
        )
