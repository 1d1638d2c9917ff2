"""The requests of one run: the samples of each, with the scores and the verdict of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..audit.confidence_change import ConfidenceChange, confidence_change
from ..audit.evaluation import Evaluation, gaps
from ..audit.over_forgotten import over_forgotten
from ..audit.result import Grounds
from ..audit.verdict import verdict
from ..data.split import Split
from ..pipeline.outcome import Outcome
from ..records.record import Record, plain
from ..tasks.predictions import taken


@dataclass(frozen=True, eq=False)
class Part:
    """Hold one request of a run.

    Args:
        split: The split of the request.
        own: The evaluation of the unlearned model, with the samples of this request as its forget set.
        original: That of the model before the run.
        retrained: That of the reference. None without one, and where it is not comparable with the original.
        grounds: What stands against a conclusion.
        whole: Whether the run had no other request, so that its record is the audit of this one.
    """

    split: Split
    own: Evaluation
    original: Evaluation
    retrained: Evaluation | None
    grounds: Grounds
    whole: bool

    @property
    def scores(self) -> dict[str, Any]:
        """The scores of this request, in percent, with the gap to the reference in points."""
        scores = self.own.scores
        return scores if self.retrained is None else {**scores, "gap": gaps(scores, self.retrained.scores)}

    @property
    def fresh(self) -> Tensor:
        """Which samples of this request no earlier request removed, bool (N,)."""
        index, earlier = self.own.split.forget.index, self.own.split.earlier_samples.index
        return ~torch.isin(index[torch.isin(index, self.split.forget.index)], earlier)

    @cached_property
    def confidence(self) -> ConfidenceChange | None:
        """What the run did to the confidence in the samples. None for the goal `unlearn`, which is judged by recognition."""
        fresh = self.fresh
        if self.split.goal == "unlearn" or not fresh.any():
            return None
        return confidence_change(self.original, self.own, fresh)

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdict on this request, for a record."""
        result = verdict(
            self.scores,
            [] if self.retrained is None else [self.retrained.scores],
            sizes={**self.own.split.sizes, "forget": len(self.split.forget)},
            goal=self.split.goal,
            original=self.original.scores,
            grounds=self.grounds,
        )
        return dict(plain(result.to_dict()))

    def audit_of(self, record: Record, owner: Mapping[str, Any]) -> Record:
        """Return the audit of this request alone. It names model and split of the run's record.

        Args:
            record: The record of the run.
            owner: What ties the audit to its request of the ledger (`part_of`).
        """
        own = {"request": self.split.request, "samples": len(self.split.forget), **owner}
        details = {"verdict": self.verdict, "grounds": self.grounds.to_dict(), "part": own}
        return replace(record, scores=plain(self.scores), details=details, curves=[], goal=self.split.goal)


def parts_of(splits: Sequence[Split], outcomes: Sequence[Outcome]) -> list[Part]:
    """Return the parts of a run, one for each request; none if its task has no scores.

    Args:
        splits: The split of each request.
        outcomes: The model before the run, the reference if there is one, and the unlearned model.
    """
    outcome, before = outcomes[-1], outcomes[0]
    if not isinstance(outcome.evaluation, Evaluation) or outcome.audit is None:
        return []
    grounds = outcome.audit.grounds
    references = [o.evaluation for o in outcomes[1:-1] if not grounds.reference]
    roles = [outcome.evaluation, before.evaluation, *references]
    reference = references[0] if references else None
    if len(splits) == 1:
        return [Part(splits[0], outcome.evaluation, before.evaluation, reference, grounds, True)]
    called = [torch.from_numpy(e.called_nonmember(e.forget)) for e in roles]
    found = []
    for split in splits:
        chosen = torch.isin(outcome.run.split.forget.index, split.forget.index)
        part = [_part(e, split, chosen, c) for e, c in zip(roles, called, strict=True)]
        own, original, again = part[0], part[1], part[2] if len(part) > 2 else None
        unjudged = Part(split, own, original, again, replace(grounds, over_forgotten=""), False)
        told = over_forgotten(own, original, again, requests=len(splits), fresh=unjudged.fresh)
        found.append(replace(unjudged, grounds=replace(grounds, over_forgotten=told)))
    return found


def _part(evaluation: Evaluation, split: Split, chosen: Tensor, called: Tensor) -> Evaluation:
    """Return an evaluation whose forget set is that of one request. One attack serves all requests."""
    classes = torch.tensor(split.forget_classes, dtype=torch.int64)
    forgotten = taken(evaluation.test_forgotten, torch.isin(evaluation.test_forgotten.labels, classes))
    forget = taken(evaluation.forget, chosen)
    sets = replace(evaluation.split, goal=split.goal)
    part = replace(evaluation, split=sets, forget=forget, test_forgotten=forgotten, earlier=None)
    shared = {name: evaluation.scores[name] for name in ("RA", "TA")}
    # the scores are known, so that no attack is fitted again
    vars(part)["scores"] = {
        "UA": 100 - forget.accuracy,
        **shared,
        "MIA": 100 * called[chosen].double().mean().item(),
        "TFA": forgotten.accuracy if len(forgotten.labels) else None,
    }
    return part
