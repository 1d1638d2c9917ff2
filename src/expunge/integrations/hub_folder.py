"""Write a folder that can be pushed to the Hugging Face hub: the model as its own library saves it, and a model card.

Nothing is uploaded. The folder holds only what is written here: no record, no receipt, no request file, no mask.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from ..errors import ExpungeError, ModelError
from ..models.pretrained import FOLDERS
from ..receipts.receipt import Receipt
from ..records.atomic_files import atomic
from ..records.checkpoint_names import saved_state
from ..records.file_names import PREPARATION
from ..records.hashing import state_hash
from ..records.record import Record
from ..records.tensor_memory import own_memory, same_memory, unshared, without_repeats
from ..torch_utils.prepared import plain_model
from .hub_folder_usage import inputs_text, own_usage
from .model_card import CardFacts, card_text

# the model itself, which is written anew
OF_MODEL = ("config.json", "generation_config.json", "model.safetensors", "pytorch_model.bin")


def write_hub_folder(
    out: Path | str,
    model: nn.Module,
    *,
    spec: str = "",
    record: Record | None = None,
    audit: Record | None = None,
    receipt: Receipt | None = None,
    title: str = "",
    file_hash: str = "",
    shape: tuple[int, ...] = (),
    data: str = "",
) -> Path:
    """Write a folder with the model and its card.

    A model of transformers or peft is written by its own `save_pretrained`, one of timm in timm's format (`config.json` and
    `model.safetensors`). Any other model becomes `model.safetensors`.

    Args:
        out: The folder. It must not exist.
        model: The unlearned model.
        spec: What the model was made by, as for `expunge.models.build`. From `hf-config:DIR` or `hf-weights:DIR` also come the
            files of tokenizer and image processor.
        record: Record of the run, or of an audit if there is no other.
        audit: Record of an audit of the same model, beside that of the run. It has the verdict.
        receipt: Receipt of the run.
        title: Title of the card. By default the name of the folder.
        file_hash: `model_hash` of the checkpoint that the model was loaded from. A receipt states it, and the names of tensors in
            a file may differ from those of the model, as for an adapter of peft.
        shape: Shape of one input, such as (C, H, W), for the card.
        data: The data spec that the model was trained with. The card names its size, crop, mean and std, and no path.

    Returns:
        The folder.

    Raises:
        ExpungeError: A record or the receipt belongs to another model, or the folder cannot be written.

    Example:
        >>> write_hub_folder("to-push", model, spec="hf-weights:original", record=record)  # doctest: +SKIP
    """
    out, model = Path(out), plain_model(model)
    _check_belongs(model, (record, audit), receipt, file_hash)
    classes = next(
        (list(known) for r in (record, audit) if r is not None and (known := r.data.get("classes"))), []
    )
    with atomic(out, folder=True) as part:
        library, usage, tag = _write_model(part, model, spec, out.name, classes, shape)
        for file in preparation_files(spec)[0]:
            if not (part / file.name).exists():
                shutil.copyfile(file, part / file.name)
        facts = CardFacts(
            title=title or out.name,
            library=library,
            usage=usage,
            pipeline_tag=tag,
            inputs=inputs_text(shape, data),
            record=record,
            audit=audit,
            receipt=receipt,
        )
        (part / "README.md").write_text(card_text(facts), encoding="utf-8")
    return out


def preparation_files(spec: str) -> tuple[list[Path], list[Path]]:
    """Return the files of tokenizer and image processor in the folder that a model was made from, and those that are left out.

    Args:
        spec: What the model was made by. Only `hf-config:DIR` and `hf-weights:DIR` have such files.
    """
    kind, _, path = spec.partition(":")
    if kind not in FOLDERS:
        return [], []
    files = sorted(file for file in Path(path).expanduser().iterdir() if file.is_file())
    others = [file for file in files if file.name not in PREPARATION and file.name not in OF_MODEL]
    return [file for file in files if file.name in PREPARATION], others


def _check_belongs(
    model: nn.Module, records: Sequence[Record | None], receipt: Receipt | None, file_hash: str
) -> None:
    own = state_hash(model.state_dict())
    if any(record is not None and record.model.get("hash_after") != own for record in records):
        raise ExpungeError(
            "the record describes another model than the checkpoint; give the record that was written beside the checkpoint."
        )
    if receipt is None or (stated := receipt.statement.get("model_after")) in (own, file_hash or own):
        return
    # transformers names the tensors of many image models otherwise in a file
    if stated != state_hash(saved_state(model, model.state_dict())):
        raise ExpungeError(
            "the receipt is about another model than the checkpoint; give the receipt that was written beside the checkpoint."
        )


def _write_model(
    part: Path, model: Any, spec: str, name: str, classes: list[str], shape: tuple[int, ...]
) -> tuple[str, str, str]:
    """Write configuration and parameters. Returns library, lines that load the model, and its task on the hub."""
    origin, quoted = type(model).__module__.partition(".")[0], json.dumps(name)
    if origin == "peft" and hasattr(model, "save_pretrained"):
        model.save_pretrained(part)
        # the library writes a card of its own
        (part / "README.md").unlink(missing_ok=True)
        return (
            "peft",
            f"from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base_model, {quoted})",
            "",
        )
    if origin == "transformers" and hasattr(model, "save_pretrained"):
        _save_transformers(part, model, classes)
        kind, text = type(model).__name__, "ForSequenceClassification" in type(model).__name__
        usage = f"from transformers import {kind}\n\nmodel = {kind}.from_pretrained({quoted})"
        image = "ForImageClassification" in kind
        return "transformers", usage, "text-classification" if text else "image-classification" * image
    if origin == "timm" or spec.startswith("timm:"):
        _save_timm(part, model, classes)
        usage = (
            f"import timm\n\nmodel = timm.create_model({json.dumps(f'local-dir:{name}')}, pretrained=True)"
        )
        return "timm", usage, "image-classification"
    # the card loads it by `load_model` of safetensors, which refuses tied tensors under two names
    state = model.state_dict()
    state = unshared(own_memory(without_repeats(state, same_memory(state))))
    safetensors.torch.save_file(state, part / "model.safetensors", {"format": "pt"})
    return "expunge", own_usage(name, spec, classes, shape), ""


def _save_transformers(part: Path, model: Any, classes: list[str]) -> None:
    config, before = model.config, model.config.id2label
    # names that nobody chose
    unnamed = all(str(label) == f"LABEL_{k}" for k, label in before.items())
    try:
        if unnamed and len(classes) == len(before):
            config.id2label = dict(enumerate(classes))
            config.label2id = {label: k for k, label in enumerate(classes)}
        model.save_pretrained(part)
    finally:
        config.id2label, config.label2id = before, {label: k for k, label in before.items()}


def _save_timm(part: Path, model: nn.Module, classes: list[str]) -> None:
    try:
        from timm.models import save_for_hf
    except ImportError as error:
        raise ModelError(
            "the model is one of timm, which is not installed; install expunge[vision]."
        ) from error
    config = {"label_names": classes} if classes else {}
    save_for_hf(model, str(part), model_config=config, safe_serialization=True)
