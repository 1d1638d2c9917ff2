"""Find the reasons why an audit must not conclude: a reference that is not comparable, or a model that did not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.past_requests import requests_of
from ..data.split import Goal
from ..torch_utils.module_state import same_buffers, same_parameters
from .evaluation import Evaluation
from .over_forgotten import UNKNOWN_SIZE, number, over_forgotten, over_forgotten_by_scores
from .result import Grounds
from .strong_findings import sampling_error
from .tolerances import Tolerances

# Scores of a reference that must be near the original's, and the set of the split that each is a share of.
COMPARED = {"RA": "retain", "TA": "test"}
ORIGINAL = "the original"


def find_grounds(
    unlearned: Evaluation,
    original: Evaluation | None = None,
    retrained: Evaluation | None = None,
    tolerances: Tolerances | None = None,
) -> Grounds:
    """Return the grounds of an audit from the evaluations of its models.

    Args:
        unlearned: The evaluation of the audited model.
        original: The evaluation of the original.
        retrained: The evaluation of the retrained model.
        tolerances: The tolerances. The default is `Tolerances()`.

    Raises:
        ExpungeError: If a tolerance is not a finite number of 0 or more.
    """
    tolerances = tolerances or Tolerances()
    tolerances.check()
    reference, before = "", _before(unlearned, original)
    if original is not None and retrained is not None:
        reference = _same_model(original, retrained, before) or reference_problem(
            retrained.scores, original.scores, unlearned.split.sizes, tolerances, before
        )
    comparable = None if reference else retrained
    return Grounds(
        _unchanged(unlearned, original, before),
        reference,
        over_forgotten(unlearned, original, comparable, tolerances),
    )


def _before(unlearned: Evaluation, original: Evaluation | None) -> str:
    """Return what tables and reports call the model before the run: one that has answered requests is not the original."""
    answered = unlearned.split.earlier or (original and original.model and requests_of(original.model))
    return "the model before this run" if answered else ORIGINAL


def grounds_of_scores(
    scores: Mapping[str, Any],
    retrained: Sequence[Mapping[str, Any]] = (),
    original: Mapping[str, Any] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    goal: Goal = "unlearn",
    tolerances: Tolerances | None = None,
) -> Grounds:
    """Return the grounds that scores alone can give. Arguments are those of `verdict`.

    Scores do not tell whether a model changed. For forgotten classes, they do not tell which classes the retain set has,
    so nothing is called over-forgotten.
    """
    tolerances, counts = tolerances or Tolerances(), sizes or {}
    tolerances.check()
    problems = [reference_problem(r, original, counts, tolerances) for r in retrained if original]
    reference = next((p for p in problems if p), "")
    found = ""
    if goal == "untrain" and scores.get("TFA") is None:
        found = over_forgotten_by_scores(scores, [] if reference else retrained, original, counts, tolerances)
    return Grounds(reference=reference, over_forgotten=found)


def reference_problem(
    retrained: Mapping[str, Any],
    original: Mapping[str, Any],
    sizes: Mapping[str, int],
    tolerances: Tolerances,
    before: str = ORIGINAL,
) -> str:
    """Return why a retrained model is not comparable with the original, called `before`, by RA and TA. Else empty."""
    differences = []
    for name, samples in COMPARED.items():
        value, expected = number(retrained.get(name)), number(original.get(name))
        if value is None or expected is None:
            continue
        size = sizes.get(samples, UNKNOWN_SIZE)
        allowed = max(tolerances.reference, sampling_error((value + expected) / 2, size))
        if abs(value - expected) > allowed:
            differences.append(
                f"Its {name} is {value:.2f}, {_of(before)} is {expected:.2f}: {abs(value - expected):.2f} points apart, "
                f"allowed are {allowed:.2f}."
            )
    if not differences:
        return ""
    return (
        f"The retrained model is not comparable with {before}. {' '.join(differences)} Train the reference on the retain "
        "set with the recipe of the original, or raise the tolerance of the audit."
    )


def _of(before: str) -> str:
    return f"{before}'s" if before == ORIGINAL else f"that of {before}"


def _unchanged(unlearned: Evaluation, original: Evaluation | None, before: str) -> str:
    if original is None or unlearned.model is None or original.model is None:
        return ""
    # of one object, the caller asks for the scores of the original
    if unlearned.model is original.model or not same_parameters(unlearned.model, original.model):
        return ""
    if same_buffers(unlearned.model, original.model):
        return f"The model is {before}: every parameter is identical. Nothing was unlearned."
    return (
        f"Every parameter is identical to {_of(before)}. Only buffers differ, such as batch-norm statistics. Nothing was "
        "unlearned."
    )


def _same_model(original: Evaluation, retrained: Evaluation, before: str) -> str:
    one, other = original.model, retrained.model
    if one is None or other is None or not same_parameters(one, other):
        return ""
    return (
        f"The retrained model is not comparable with {before}: every parameter is identical, so it saw the forget set. "
        "Train the reference on the retain set alone."
    )
