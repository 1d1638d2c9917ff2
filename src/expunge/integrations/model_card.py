"""The model card of an unlearned model: what was removed, how it was audited, its limits, and the id of its receipt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..audit.verdict_sentences import GOALS, NO_REFERENCE
from ..receipts.receipt import Receipt
from ..records.record import Record
from ..report.glossary import CLASSIFIER
from ..report.number_text import DASH, fixed
from ..version import __version__

# how the forget set was drawn -> what was removed, with the number of samples before it
REMOVED = {
    "class": "training samples: all of {classes}",
    "part of a class": "training samples of {classes}",
    "random": "training samples, drawn at random",
    "ids": "training samples that were named one by one",
    "group": "training samples of one group, such as a person",
}
STANDING = (
    "Membership attacks and accuracies show what these attacks see. They do not prove that nothing of the samples is left in the "
    "parameters.",
    "Copies of the original model, and models that were trained from it, still know the removed samples.",
)


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says. Nothing of it names a removed sample, a group or a person.

    Args:
        title: Title of the card.
        library: Library that loads the folder: "transformers", "timm", "peft" or "expunge".
        usage: Lines of Python that load the model.
        pipeline_tag: Task of the hub, such as "image-classification"; empty for none.
        record: Record of the run or of its audit; None if it is not known.
        receipt: Receipt of the run, or None.
        tags: Further tags.
    """

    title: str
    library: str
    usage: str
    pipeline_tag: str = ""
    record: Record | None = None
    receipt: Receipt | None = None
    tags: tuple[str, ...] = field(default_factory=tuple)

    @property
    def shows_unlearning(self) -> bool:
        """Whether record or receipt show that the model is the result of an unlearning, not only of an audit."""
        record = self.record
        of_run = record is not None and record.kind in ("unlearn", "retrain") and record.method != "unknown"
        return of_run or self.receipt is not None


def card_text(facts: CardFacts) -> str:
    """Return the content of README.md, with the metadata of the hub at its head.

    huggingface_hub writes it where it is installed.
    """
    tags = ["machine-unlearning", "expunge"] if facts.shows_unlearning else ["expunge"]
    metadata: dict[str, Any] = {
        "library_name": facts.library,
        "tags": [*tags, *facts.tags],
        **({"pipeline_tag": facts.pipeline_tag} if facts.pipeline_tag else {}),
    }
    body = "\n\n".join([f"# {_line(facts.title)}", *_sections(facts)]) + "\n"
    try:
        from huggingface_hub import ModelCard, ModelCardData
    except ImportError:
        # every value of JSON is one of YAML
        head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in metadata.items())
        return f"---\n{head}\n---\n\n{body}"
    data: Any = ModelCardData(**metadata)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")) + "\n"


def _sections(facts: CardFacts) -> list[str]:
    record = facts.record
    return [
        f"Expunge {__version__} {_origin(facts)}",
        f"```python\n{facts.usage}\n```",
        "## What was removed",
        *(
            ["This is not known: the folder was made without a record."]
            if record is None
            else _removed(record)
        ),
        "## How it was audited",
        *(
            ["This is not known: the folder was made without a record."]
            if record is None
            else _audited(record)
        ),
        "## Limits",
        "\n".join(f"- {text}" for text in (*_limits(record), *STANDING)),
        "## Receipt",
        _receipt(facts.receipt),
    ]


def _origin(facts: CardFacts) -> str:
    if not facts.shows_unlearning:
        return (
            "wrote this folder. No record or receipt shows that the model was changed by machine unlearning."
        )
    if facts.record is not None and facts.record.kind == "retrain":
        return "trained this model without the samples below."
    return "changed this model by machine unlearning."


def _line(text: object) -> str:
    """Return a text as one line: names may have line breaks, which end headings and tables."""
    return " ".join(str(text).split())


def _removed(record: Record) -> list[str]:
    if record.method == "unknown":
        return [
            "This is not known: the record is that of an audit, and it names no method that removed the samples."
        ]
    split = record.split
    sizes = split.get("sizes", {})
    classes = record.data.get("classes", [])
    names = [_line(classes[k] if k < len(classes) else k) for k in split.get("forget_classes", [])]
    named = f"the class {', '.join(names)}" if len(names) == 1 else f"the classes {', '.join(names)}"
    what = REMOVED.get(str(split.get("scenario")), "training samples").format(classes=named)
    texts = [f"{sizes.get('forget', 0):,} {what}. {GOALS.get(record.goal, '')}"]
    if earlier := record.details.get("earlier"):
        count = sum(int(entry.get("count", 0)) for entry in earlier)
        texts.append(f"The model had answered {len(earlier)} earlier requests, with {count:,} samples.")
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items() if value is not None)
    texts.append(f"Method: {record.method}" + (f" ({settings})." if settings else "."))
    return texts


def _audited(record: Record) -> list[str]:
    gaps = record.scores.get("gap", {})
    rows = [
        f"| {name} | {fixed(record.scores[name])} | {fixed(gaps.get(name), sign=True) if gaps else DASH} | {meaning} |"
        for name, meaning in CLASSIFIER.items()
        if isinstance(record.scores.get(name), int | float)
    ]
    if not rows:
        return ["The record has no scores."]
    texts = [
        "\n".join(["| score (%) | value | gap to Retrain | meaning |", "| --- | --- | --- | --- |", *rows])
    ]
    if "avg" in gaps:
        texts.append(
            f"The average gap to a model that was trained without the samples (Retrain) is {fixed(gaps['avg'], 2)} points."
        )
    verdict: Mapping[str, Any] = record.details.get("verdict") or {}
    if words := verdict.get("words"):
        texts.append(f"Verdict: {', '.join(words)}. {' '.join(verdict.get('sentences', []))}".strip())
    return texts


def _limits(record: Record | None) -> list[str]:
    if record is None:
        return []
    verdict: Mapping[str, Any] = record.details.get("verdict") or {}
    if limits := verdict.get("limits"):
        return [text for text in limits if text not in GOALS.values()]
    return [] if "gap" in record.scores else [NO_REFERENCE]


def _receipt(receipt: Receipt | None) -> str:
    if receipt is None:
        return "No receipt was issued for this model."
    signed = "signed" if receipt.signature else "unsigned"
    return f"The receipt `{receipt.id}` ({signed}) states which method ran on which model. Its owner can check it with `expunge verify`."
