"""The model card of an unlearned model: what was removed, how it was audited, its limits, and the id of its receipt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..audit.verdict_sentences import GOALS, NO_REFERENCE
from ..receipts.receipt import Receipt
from ..records.record import Record
from ..report.glossary import CLASSIFIER
from ..report.group import Group
from ..report.number_text import fixed
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
        inputs: How an input is prepared; empty if it is not known.
        record: Record of the run, or of an audit; None if it is not known.
        audit: Record of an audit beside that of the run, or None.
        receipt: Receipt of the run, or None.
        tags: Further tags.
    """

    title: str
    library: str
    usage: str
    pipeline_tag: str = ""
    inputs: str = ""
    record: Record | None = None
    audit: Record | None = None
    receipt: Receipt | None = None
    tags: tuple[str, ...] = field(default_factory=tuple)

    @property
    def shows_unlearning(self) -> bool:
        """Whether record or receipt show that the model is the result of an unlearning, not only of an audit."""
        record = self.run
        of_run = record is not None and record.kind in ("unlearn", "retrain") and record.method != "unknown"
        return of_run or self.receipt is not None

    @property
    def records(self) -> list[Record]:
        """The records that are known, that of the audit first."""
        return [record for record in (self.audit, self.record) if record is not None]

    @property
    def run(self) -> Record | None:
        """The record that names the method: that of the run if there is one."""
        given = self.records[::-1]
        return next((record for record in given if record.method != "unknown"), given[0] if given else None)

    @property
    def scored(self) -> Record | None:
        """The record whose scores the card shows: one with gaps to Retrain, and of two such that of the audit."""
        return next(
            (r for r in self.records if r.scores.get("gap")), self.records[0] if self.records else None
        )

    @property
    def verdicts(self) -> list[Mapping[str, Any]]:
        """The verdicts of the records, each once."""
        given = [record.details.get("verdict") or {} for record in self.records]
        return [v for k, v in enumerate(given) if v.get("words") and v not in given[:k]]


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
    run, scored = facts.run, facts.scored
    unknown = ["This is not known: the folder was made without a record."]
    return [
        f"Expunge {__version__} {_origin(facts)}",
        f"```python\n{facts.usage}\n```",
        *([facts.inputs] if facts.inputs else []),
        "## What was removed",
        *(unknown if run is None else _removed(run)),
        "## How it was audited",
        *(unknown if scored is None else _audited(scored, facts.verdicts)),
        "## Limits",
        "\n".join(f"- {text}" for text in dict.fromkeys((*_limits(facts), *STANDING))),
        "## Receipt",
        _receipt(facts.receipt),
    ]


def _origin(facts: CardFacts) -> str:
    if not facts.shows_unlearning:
        return (
            "wrote this folder. No record or receipt shows that the model was changed by machine unlearning."
        )
    if facts.run is not None and facts.run.kind == "retrain":
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


def _audited(record: Record, verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [name for name in CLASSIFIER if isinstance(record.scores.get(name), int | float)]
    texts = _score_texts(record, names) if names else ["The record has no scores."]
    if not verdicts:
        return [*texts, "There is no verdict: no record of `expunge audit` was given with the folder."]
    return [
        *texts,
        *(f"Verdict: {', '.join(v['words'])}. {' '.join(v.get('sentences', []))}".strip() for v in verdicts),
    ]


def _score_texts(record: Record, names: Sequence[str]) -> list[str]:
    """Return the table of scores, and what it says of the gaps."""
    group = Group([record])
    gaps = {name: gap for name in names if (gap := group.gap_of(record, name)) is not None}
    # a gap is method minus Retrain; a record without Retrain's scores has only its size
    signed = all(map(group.signed, gaps))
    heading = "gap to Retrain" if signed else "size of the gap to Retrain"
    rows = [
        f"| {name} | {fixed(record.scores[name])} | {fixed(gaps.get(name), sign=signed)} | {CLASSIFIER[name]} |"
        for name in names
    ]
    texts = ["\n".join([f"| score (%) | value | {heading} | meaning |", "| --- | --- | --- | --- |", *rows])]
    if gaps:
        texts.append(
            "A gap is this model's score minus that of a model that was trained without the samples (Retrain), in points."
            if signed
            else "The size of a gap is the distance to a model that was trained without the samples (Retrain), in points. The "
            "record does not say which of the two is higher."
        )
    if (average := group.average_of(record)) is not None:
        texts.append(f"The average size of the gaps is {fixed(average, 2)} points.")
    return texts


def _limits(facts: CardFacts) -> list[str]:
    scored = facts.scored
    if scored is None:
        return []
    compared = bool(scored.scores.get("gap"))
    limits = [text for verdict in facts.verdicts for text in verdict.get("limits", [])]
    if not facts.verdicts and not compared:
        limits = [NO_REFERENCE]
    return [text for text in limits if text not in GOALS.values() and not (compared and text == NO_REFERENCE)]


def _receipt(receipt: Receipt | None) -> str:
    if receipt is None:
        return "No receipt was issued for this model."
    signed = "signed" if receipt.signature else "unsigned"
    return f"The receipt `{receipt.id}` ({signed}) states which method ran on which model. Its owner can check it with `expunge verify`."
