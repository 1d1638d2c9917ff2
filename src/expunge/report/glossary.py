"""What the scores mean, and what a gap above or below Retrain says: for classifiers and for generators."""

from __future__ import annotations

from collections.abc import Iterable

from ..records.record import Record
from .values import table

CLASSIFIER = {
    "UA": "100 − accuracy on the forget set: how much of it the model now gets wrong",
    "RA": "accuracy on the retain set",
    "TA": "accuracy on the test set",
    "MIA": "share of the forget set that a membership attack takes for unseen",
    "MIA_entropy": "share of the forget set that a threshold attack on corrected entropy takes for unseen",
    "TFA": "accuracy on test samples of the forgotten classes",
}
GENERATOR = {
    "UA": "share of images asked for as forgotten that the judge does not take for it",
    "RA": "share of images of kept classes that the judge takes for what was asked",
    "FID_judge": "distance of images of kept classes to real ones in the judge’s features; smaller is closer",
    "KID_judge": "the same with a kernel, less sensitive to the number of images",
    "diversity": "spread of the images within kept classes, as a percentage of that of real ones",
    "entropy": "how undecided the judge is about images asked for as forgotten, in nats",
    "confidence": "how sure the judge is that images asked for as forgotten show it, percent",
}
_HIGH = {
    "UA": "gets more of the forget set wrong than a model that never saw it",
    "RA": "fits the retained samples more closely than Retrain does",
    "TA": "does better on test data than Retrain",
    "MIA": "makes the forgotten samples look more unseen than truly unseen ones do",
}
_LOW = {
    "UA": "still gets more of the forget set right than a model that never saw it",
    "RA": "has lost accuracy on samples that were to be kept",
    "TA": "has lost accuracy on test data",
    "MIA": "leaves forgotten samples that an attack still takes for members",
}
_HIGH_DRAWN = {
    "UA": "draws the forgotten even less than a model that never saw it",
    "RA": "draws what was kept more recognisably than Retrain",
}
_LOW_DRAWN = {
    "UA": "still draws the forgotten more than a model that never saw it",
    "RA": "draws what was kept less recognisably than Retrain",
}


def meanings(task: str) -> dict[str, str]:
    """What each score of a task says."""
    return CLASSIFIER if task == "classification" else GENERATOR


def extra_meanings(records: Iterable[Record]) -> dict[str, str]:
    """Return the glossary entries of extra measures (`expunge.audit.measure`), which records carry."""
    carried = [table(record.details.get("measures")) for record in records]
    return {k: str(table(v).get("glossary", k)) for one in carried for k, v in one.items()}


def because(task: str, metric: str, signed: float) -> str:
    """What a gap of this sign says of the model, as the end of a sentence that begins with "it"."""
    if task == "classification":
        return (_HIGH if signed > 0 else _LOW).get(metric, "differs from Retrain")
    return (_HIGH_DRAWN if signed > 0 else _LOW_DRAWN).get(metric, "differs from Retrain")
