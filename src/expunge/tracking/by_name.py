"""Trackers by name: `tensorboard:DIR`, `mlflow:URI`, `wandb:PROJECT`, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from ..errors import ExpungeError, MissingExtra, raise_all
from ..imports import call_object
from .mlflow import MLflow
from .mlflow_uri import divided, uri_problem
from .tensorboard import TensorBoard
from .tracker import Tracker
from .wandb import WandB

TrackerLike = Tracker | str | Sequence["Tracker | str"] | None
ALLOWED = "tensorboard:DIR, mlflow:URI, mlflow:URI#EXPERIMENT, wandb:PROJECT or package.module:function"


def _mlflow(text: str) -> Tracker:
    uri, experiment = divided(text)
    return MLflow(uri, experiment or "expunge")


# name -> what makes the tracker from the rest of the text; the name is also that of library and extra
KINDS: dict[str, Callable[[str], Tracker]] = {"tensorboard": TensorBoard, "mlflow": _mlflow, "wandb": WandB}


def make_trackers(trackers: TrackerLike) -> list[Tracker]:
    """Return the trackers that objects and texts stand for. No file and no server is touched.

    Args:
        trackers: A tracker, a text, several of them, or None.

    Raises:
        ExpungeError: A text names no tracker, a library is missing, or an object is no tracker. Lists every problem.

    Example:
        >>> make_trackers(["tensorboard:runs", "mlflow:sqlite:///runs.db#unlearning"])  # doctest: +SKIP
    """
    several = trackers if isinstance(trackers, list | tuple) else [] if trackers is None else [trackers]
    made: list[Tracker] = []
    problems: list[str] = []
    for tracker in several:
        try:
            made.append(_named(tracker) if isinstance(tracker, str) else _checked(tracker))
        except ExpungeError as error:
            problems += error.problems
    raise_all(problems)
    return made


def _named(text: str) -> Tracker:
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        if ":" not in text:
            raise ExpungeError(f"the tracker is '{text}'; write {ALLOWED}.")
        return _checked(call_object(text, {}, ExpungeError), text)
    if not rest:
        raise ExpungeError(f"the tracker is '{text}', which names no place; write {ALLOWED}.")
    if kind == "mlflow" and (problem := uri_problem(rest)):
        raise ExpungeError(problem)
    if find_spec(kind) is None:
        raise MissingExtra(f"the tracker {kind}", kind)
    return KINDS[kind](rest)


def _checked(tracker: object, text: str = "") -> Tracker:
    if isinstance(tracker, Tracker) and not isinstance(tracker, type):
        return tracker
    kind = tracker.__name__ if isinstance(tracker, type) else type(tracker).__name__
    named = f"{text} is" if text else "tracker is"
    raise ExpungeError(
        f"{named} {kind}, without start, log and finish of a tracker; write {ALLOWED}, or give an object with these methods."
    )
