"""`expunge hub-folder`: a folder with an unlearned model and its card, ready for the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import ExpungeError, raise_all
from ..summaries import short
from .flags import MODEL, ModelFlags
from .output_checks import output_problems

if TYPE_CHECKING:
    from ..records.record import Record
    from ..sources.preview import Preview


def hub_folder(
    checkpoint: Path,
    /,
    *,
    model: Annotated[ModelFlags, MODEL],
    out: Path,
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
        record: Record of the run, or of its audit, which has the verdict. By default the one beside the checkpoint.
        receipt: Receipt of the run. By default the one beside the checkpoint. Record or receipt is needed.
        title: Title of the card. By default the name of the folder.
    """
    beside = {"record": ".json", "receipt": ".receipt.json"}
    found = {name: checkpoint.with_suffix(suffix) for name, suffix in beside.items()}
    record = record or (found["record"] if found["record"].is_file() else None)
    receipt = receipt or (found["receipt"] if found["receipt"].is_file() else None)
    raise_all(_problems(checkpoint, out, record, receipt) + model.problems())
    from ..integrations.hub_folder import preparation_files, write_hub_folder
    from ..receipts.receipt import Receipt
    from ..records.checkpoint import read_checkpoint
    from ..records.checkpoint_loading import load_into
    from ..records.hashing import state_hash

    of_run = None if record is None else _record_of_unlearning(record)
    content = read_checkpoint(checkpoint, ema)
    if (made := content.metadata.get("kind", "unlearn")) not in ("unlearn", "retrain"):
        raise ExpungeError(f"{checkpoint} is an {made}; give an unlearned model.")
    file_hash, network = state_hash(content.state), model.build(_preview(model))
    load_into(network, content)
    write_hub_folder(
        out,
        network,
        spec=model.model,
        record=of_run,
        receipt=None if receipt is None else Receipt.load(receipt),
        title=title,
        file_hash=file_hash,
    )
    print(f"folder: {out}\nmodel card: {out / 'README.md'}")
    _note(record, [file.name for file in preparation_files(model.model)[1]])


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


def _preview(model: ModelFlags) -> Preview:
    from ..sources.preview import Preview

    if (data := model.preview()) is not None:
        return data
    # only the data itself can tell
    source = model.source()
    return Preview(len(source.classes), source.shape)


def _note(record: Path | None, left_out: list[str]) -> None:
    """Tell what is not in the folder."""
    from .terminal import notice

    if left_out:
        notice(
            f"files beside the model that no tokenizer or image processor writes were left out: {short(', '.join(left_out), 200)}."
        )
    if record is None:
        notice(
            "there is no record beside the checkpoint, so the card does not say what was removed; give --record."
        )
