"""Choosing a method's settings by a few trials, on validation data, without the model that never saw the forget set."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from ..audit.accuracy import Judged, Scores, gaps, judge
from ..audit.mia import best_threshold, members_and_nonmembers
from ..data.likeness import importance_weights, weighted_mean
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..masks.mask_file import Mask
from ..records.atomic_files import write_json
from ..records.hashing import mask_hash, state_hash
from ..records.record import plain
from ..tasks.classification import Classification, Predictions
from ..training.execute import execute
from ..training.method import Method
from ..training.processes import Team, first
from ..training.run import Compute, Run
from .search import Trial, following, space_of

By = Literal["validation", "gap"]
Measure = Callable[[nn.Module], float]
FOLDS = 5  # of the validation samples, for what the attack says of samples it was not fitted on


@dataclass(frozen=True, eq=False)
class Looks:
    """What a model says of the samples that may be looked at while settings are chosen."""

    forget: Predictions
    retain: Predictions
    kept: Predictions  # validation samples, without those of forgotten classes
    gone: Predictions  # validation samples of the forgotten classes

    def strangers(self, asked: torch.Tensor, nonmember: torch.Tensor | None = None) -> torch.Tensor:
        """Which of the confidences `asked` (N,) an attack calls non-members': bool (N,). Its own are validation samples, at
        the positions `nonmember` of `kept` or all.

        A threshold, not the machine that "MIA" is: that one may say anything below the confidences it was fitted on,
        where a forgotten class lies, and trials would be ranked by it.
        """
        outside = (self.kept.confidence if nonmember is None else self.kept.confidence[nonmember]).numpy()
        member, other = members_and_nonmembers(len(self.retain.labels), len(outside))
        return asked < best_threshold(self.retain.confidence.numpy()[member], outside[other])

    def mia(self) -> float:
        """Percent of the forget set that the attack calls non-member."""
        return 100 * self.strangers(self.forget.confidence).double().mean().item()


def look(model: nn.Module, split: Split, task: Classification) -> Looks:
    """The model's predictions on forget, retain and validation set; the test set is not looked at."""
    gone = torch.isin(split.validation.labels, torch.tensor(split.forget_classes))
    sets = (split.forget, split.retain, split.validation.take(~gone), split.validation.take(gone))
    return Looks(*(task.predict(model, s) for s in sets))


def expected(original: Looks, split: Split) -> Scores:
    """What Retrain's scores should be, as far as the original and validation samples can tell (percent).

    Validation samples are to the original what forget samples are to Retrain: unseen. So its error on them, weighed to be
    like those (`importance_weights`), stands for UA, and for MIA the share of each fifth of them that the attack, fitted on the other
    four, calls non-member. A class that was never seen is never predicted: 100 for both.
    """
    found: Scores = {"RA": original.retain.accuracy, "TA": original.kept.accuracy}
    if split.forget_classes:
        return {"UA": 100.0, "MIA": 100.0, **found}
    alike, sure = importance_weights(split), original.kept.confidence
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(sure)))
    parts, called = order.chunk(FOLDS), torch.zeros(len(sure))
    for part in parts if len(sure) > 1 else ():
        rest = torch.cat([p for p in parts if p is not part])
        called[part] = original.strangers(sure[part], rest).float()
    right = weighted_mean(original.kept.correct, alike)
    return {"UA": 100 - 100 * right, "MIA": 100 * weighted_mean(called, alike), **found}


def estimated_gap(model: Looks, wanted: Scores) -> float:
    """The average gap to Retrain with what `expected` gives in the place of Retrain's scores; points, smaller is better.

    RA and TA count where they fell: what more training gained, Retrain may have too. Of a forgotten class, UA is the mean
    of that on the forget set and on validation samples of the class, where there are some.
    """
    errors = [100 - p.accuracy for p in (model.forget, model.gone) if len(p.labels)]
    found = [
        abs(sum(errors) / len(errors) - wanted["UA"]),
        max(0.0, wanted["RA"] - model.retain.accuracy),
    ]
    if len(model.kept.labels):
        found += [abs(model.mia() - wanted["MIA"]), max(0.0, wanted["TA"] - model.kept.accuracy)]
    return sum(found) / len(found)


def distance_from_unseen(model: nn.Module, original: nn.Module, split: Split, task: Classification) -> float:
    """`estimated_gap` of a model, from its original; the largest there is where its outputs are no numbers."""
    return _to_expected(original, split, task)(model)


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of trials."""

    trials: list[Trial]  # best first
    method: Method  # with the settings of the best
    untouched: float  # the distance of the model as it came
    run: Run | None  # the best one's run, None where an interrupted call made it


def tune(
    model: nn.Module,
    split: Split,
    method: Method,
    task: Classification,
    *,
    count: int = 4,
    fixed: Collection[str] = (),
    by: By = "validation",
    retrained: Judged | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    on_trial: Callable[[list[Trial]], None] | None = None,
    trials_file: Path | str | None = None,
    state_file: Path | str | None = None,
    **options: Any,
) -> Tuned:
    """Try `count` settings of a method on this original and split, and choose the nearest to what Retrain should be.

    The field's published settings were chosen by the smallest gap to Retrain itself, which nobody has who must unlearn:
    `by="gap"` does so, needs `retrained`, and is an oracle. `fixed` names fields that are not to be tried. `on_trial` is
    called after each trial with all there are. `trials_file` keeps finished trials, from which an interrupted call is
    gone on from; it is left for the caller to remove. `seed`, `compute`, `state_file` and `options` are those of `execute`.
    Raises `ExpungeError` for a method that has nothing to try, without validation samples, without `retrained` where the
    gap chooses, and for the trials of another call.
    """
    how = compute or Compute()
    raise_all(_problems(split, method, count, fixed, by, retrained))
    state, kept = (None if f is None else Path(f) for f in (state_file, trials_file))
    measure = (
        _to_retrain(retrained) if by == "gap" and retrained is not None else _to_expected(model, split, task)
    )
    untouched = measure(model)
    mask: Mask | None = options.get("mask")
    given = None if mask is None else mask_hash(mask)
    identity = repr((type(method).__name__, plain(asdict(method)), split.hash, split.preparation, seed, asdict(how), given,
                     state_hash(model.state_dict()), count, sorted(fixed), by))  # fmt: skip
    found = _done(kept, identity)
    best: Run | None = None
    team = Team(how.processes)
    while len(found) < count and (settings := following(method, found, count, fixed)) is not None:
        chosen = replace(method, **settings)
        run = execute(model, split, chosen, task, seed=seed, compute=how, state_file=state, **options)
        # every process chooses alike, and none goes on while another still writes the state of this trial
        mine = torch.tensor([measure(run.model)], dtype=torch.float64)
        distance = team.mean([mine], run.device) or 0.0
        if state is not None:
            state.unlink(missing_ok=True)
        if all(distance < t.distance for t in found):
            best = run
        found.append(Trial(settings, distance, run.status, run.seconds))
        if kept is not None and first():
            write_json(kept, plain({"identity": identity, "trials": [asdict(t) for t in found]}))
        if on_trial is not None:
            on_trial(found)
    found = sorted(found, key=lambda t: t.distance)
    if found[0].distance >= untouched:
        warnings.warn(
            f"no trial of {method.name()} came nearer to what Retrain should be than the model as it came ({untouched:.2f} "
            f"points; the best trial {found[0].distance:.2f}): more epochs, other settings or another method may.",
            RuntimeWarning,
            stacklevel=2,
        )
    return Tuned(found, replace(method, **found[0].settings), untouched, best)


def _to_expected(original: nn.Module, split: Split, task: Classification) -> Measure:
    wanted = expected(look(original, split, task), split)

    def measure(model: nn.Module) -> float:
        found = look(model, split, task)
        sets = (found.forget, found.retain, found.kept, found.gone)
        return estimated_gap(found, wanted) if all(p.logits.isfinite().all() for p in sets) else 100.0

    return measure


def _to_retrain(retrained: Judged) -> Measure:
    """The average gap to the retrained model itself."""

    def measure(model: nn.Module) -> float:
        task = Classification(retrained.test.logits.shape[1])
        found = judge(model, retrained.split, task, seed=retrained.seed)
        sets = (found.forget, found.retain, found.test, found.test_forgotten)
        if not all(p.logits.isfinite().all() for p in sets):
            return 100.0
        return gaps(found.scores, retrained.scores)["avg"]

    return measure


def _problems(
    split: Split, method: Method, count: int, fixed: Collection[str], by: By, retrained: Judged | None
) -> list[str]:
    found = []
    own = {f.name for f in fields(method)}
    if type(count) is not int or count < 1:
        found.append(f"{count} trials came; give a whole number of 1 or more.")
    if wrong := [n for n in fixed if n not in own]:
        found.append(f"{method.name()} has no settings {wrong} to leave as they are; it has {sorted(own)}.")
    if by not in get_args(By):
        found.append(f"trials are chosen by {by!r}; it must be {' or '.join(get_args(By))}.")
    if not type(method).search:
        found.append(f"{method.name()} has no settings to try; leave the trials out.")
    elif not space_of(method, fixed):
        found.append(
            f"every setting of {method.name()} that trials may choose ({', '.join(type(method).search)}) was given; leave the "
            "trials out, or one of them."
        )
    if by == "gap" and retrained is None:
        found.append(
            "by='gap' measures from the retrained model; give `retrained`, or choose by='validation'."
        )
    if retrained is not None and retrained.split.hash != split.hash:
        found.append("the retrained model was judged on another split; judge it on this one.")
    if by == "validation" and not len(split.validation):
        found.append(
            "trials are chosen on validation samples and the split has none; draw it with a validation share, such as 0.1."
        )
    return found


def _done(file: Path | None, identity: str) -> list[Trial]:
    """The trials of an interrupted call. Raises `ExpungeError` where they are of another one."""
    if file is None or not file.exists():
        return []
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        said, trials = kept["identity"], [Trial(**t) for t in kept["trials"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExpungeError(f"{file} cannot be read as trials ({type(error).__name__}); remove it.") from error
    if said != identity:
        raise ExpungeError(
            f"{file} holds the trials of another run (model, method, settings, split, seed or their number differ); "
            "remove it to start anew, or repeat the settings it was made with."
        )
    return trials
