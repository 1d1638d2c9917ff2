"""Meaning of each score, and what a gap above or below Retrain says about the model."""

from __future__ import annotations

from collections.abc import Iterable

from ..records.record import Record
from .values import table

CLASSIFIER = {
    "UA": "100 − accuracy on the forget set: the share of it that the model gets wrong",
    "RA": "accuracy on the retain set",
    "TA": "accuracy on the test set",
    "MIA": "share of the forget set that the membership attack classifies as non-member",
    "MIA_entropy": "share of the forget set that a threshold attack on corrected entropy classifies as non-member",
    "TFA": "accuracy on test samples of the forgotten classes",
}
GENERATOR = {
    "UA": "share of the images sampled for forgotten classes in which the judge sees another class",
    "RA": "share of the images sampled for retained classes in which the judge sees the right class",
    "FID_judge": "distance between images of retained classes and real images, in the judge’s features; smaller is closer",
    "KID_judge": "kernel distance of the same images; it depends less on the number of images; smaller is closer",
    "diversity": "spread of the images within retained classes, in percent of the spread of real images",
    "entropy": "entropy of the judge’s prediction on images sampled for forgotten classes, in nats",
    "confidence": "probability that the judge gives to the forgotten class on images sampled for it, in percent",
}
_HIGH = {
    "UA": "gets more of the forget set wrong than a model that never saw it",
    "RA": "fits the retain set more closely than Retrain",
    "TA": "is more accurate on test data than Retrain",
    "MIA": "makes the forget set look less like training data than data it never saw",
}
_LOW = {
    "UA": "still gets more of the forget set right than a model that never saw it",
    "RA": "has lost accuracy on the retain set",
    "TA": "has lost accuracy on test data",
    "MIA": "leaves forgotten samples that the attack still classifies as members",
}
_HIGH_GENERATOR = {
    "UA": "shows the forgotten classes even less often than a model that never saw them",
    "RA": "shows the retained classes more recognizably than Retrain",
}
_LOW_GENERATOR = {
    "UA": "still shows the forgotten classes more often than a model that never saw them",
    "RA": "shows the retained classes less recognizably than Retrain",
}


def meanings(generator: bool) -> dict[str, str]:
    """Return the meaning of each score of a generator, or of any other model."""
    return GENERATOR if generator else CLASSIFIER


def extra_meanings(records: Iterable[Record]) -> dict[str, str]:
    """Return the glossary entries of extra measures (`expunge.audit.measure`), which records carry."""
    measures = [table(record.details.get("measures")) for record in records]
    return {
        name: str(table(measure).get("glossary", name))
        for group in measures
        for name, measure in group.items()
    }


def gap_meaning(generator: bool, metric: str, gap: float) -> str:
    """Return what a gap says about the model, as the rest of a sentence that begins with "it"."""
    if generator:
        return (_HIGH_GENERATOR if gap > 0 else _LOW_GENERATOR).get(metric, "differs from Retrain")
    return (_HIGH if gap > 0 else _LOW).get(metric, "differs from Retrain")
