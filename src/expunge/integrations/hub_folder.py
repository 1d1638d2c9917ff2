"""Write a folder that can be pushed to the Hugging Face hub: the model as its own library saves it, and a model card.

Nothing is uploaded. The folder holds only what is written here: no record, no receipt, no request file, no mask.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from ..errors import ExpungeError, ModelError
from ..models.pretrained import FOLDERS
from ..receipts.receipt import Receipt
from ..records.atomic_files import atomic
from ..records.hashing import state_hash
from ..records.record import Record
from ..records.tensor_memory import own_memory, unshared
from ..torch_utils.prepared import plain_model
from .model_card import CardFacts, card_text

# files that tokenizers and image processors of transformers read, by the beginnings of their names
PREPARATION = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "spiece", "sentencepiece",
               "preprocessor_config", "processor_config", "chat_template")  # fmt: skip


def write_hub_folder(
    out: Path | str,
    model: nn.Module,
    *,
    spec: str = "",
    record: Record | None = None,
    receipt: Receipt | None = None,
    title: str = "",
) -> Path:
    """Write a folder with the model and its card.

    A model of transformers or peft is written by its own `save_pretrained`, one of timm in timm's format (`config.json` and
    `model.safetensors`). Any other model becomes `model.safetensors`.

    Args:
        out: The folder. It must not exist.
        model: The unlearned model.
        spec: What the model was made by, as for `expunge.models.build`. From `hf-config:DIR` or `hf-weights:DIR` also come the
            files of tokenizer and image processor.
        record: Record of the run or of its audit.
        receipt: Receipt of the run.
        title: Title of the card. By default the name of the folder.

    Returns:
        The folder.

    Raises:
        ExpungeError: Record or receipt belong to another model, or the folder cannot be written.

    Example:
        >>> write_hub_folder("to-push", model, spec="hf-weights:original", record=record)  # doctest: +SKIP
    """
    out, model = Path(out), plain_model(model)
    _check_belongs(model, record, receipt)
    with atomic(out, folder=True) as part:
        library, usage, tag = _write_model(part, model, spec, out.name, record)
        _copy_preparation(part, spec)
        facts = CardFacts(
            title=title or out.name,
            library=library,
            usage=usage,
            pipeline_tag=tag,
            record=record,
            receipt=receipt,
        )
        (part / "README.md").write_text(card_text(facts), encoding="utf-8")
    return out


def _check_belongs(model: nn.Module, record: Record | None, receipt: Receipt | None) -> None:
    own = state_hash(model.state_dict())
    if record is not None and record.model.get("hash_after") != own:
        raise ExpungeError(
            "the record describes another model than the checkpoint; give the record that was written beside the checkpoint."
        )
    if receipt is not None and receipt.statement.get("model_after") != own:
        raise ExpungeError(
            "the receipt is about another model than the checkpoint; give the receipt that was written beside the checkpoint."
        )


def _write_model(part: Path, model: Any, spec: str, name: str, record: Record | None) -> tuple[str, str, str]:
    """Write configuration and parameters. Returns library, lines that load the model, and its task on the hub."""
    origin = type(model).__module__.partition(".")[0]
    classes = list(record.data.get("classes", [])) if record is not None else []
    if origin == "peft" and hasattr(model, "save_pretrained"):
        model.save_pretrained(part)
        # the library writes a card of its own
        (part / "README.md").unlink(missing_ok=True)
        return (
            "peft",
            f'from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base_model, "{name}")',
            "",
        )
    if origin == "transformers" and hasattr(model, "save_pretrained"):
        _save_transformers(part, model, classes)
        kind, text = type(model).__name__, "ForSequenceClassification" in type(model).__name__
        usage = f'from transformers import {kind}\n\nmodel = {kind}.from_pretrained("{name}")'
        image = "ForImageClassification" in kind
        return "transformers", usage, "text-classification" if text else "image-classification" * image
    if origin == "timm" or spec.startswith("timm:"):
        _save_timm(part, model, classes)
        usage = f'import timm\n\nmodel = timm.create_model("local-dir:{name}", pretrained=True)'
        return "timm", usage, "image-classification"
    state = unshared(own_memory(model.state_dict()))
    safetensors.torch.save_file(state, part / "model.safetensors", {"format": "pt"})
    make = "module:factory" if not spec or Path(spec.partition(":")[2]).exists() else spec
    usage = (
        "from expunge.models import build\nfrom safetensors.torch import load_model\n\n"
        f'model = build("{make}", num_classes={len(classes) or "K"}, shape=SHAPE)\n'
        f'load_model(model, "{name}/model.safetensors")'
    )
    return "expunge", usage, ""


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


def _copy_preparation(part: Path, spec: str) -> None:
    """Copy tokenizer and image processor of the folder that the model was made from."""
    kind, _, path = spec.partition(":")
    if kind not in FOLDERS:
        return
    for file in sorted(Path(path).expanduser().iterdir()):
        if file.is_file() and file.name.startswith(PREPARATION) and not (part / file.name).exists():
            shutil.copyfile(file, part / file.name)
