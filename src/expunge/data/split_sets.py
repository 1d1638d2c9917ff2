"""`SplitSets`: the sets of one run, their sizes and their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from ..errors import SplitError
from ..summaries import short, summary
from .copies import Copies
from .earlier_samples import find_samples
from .past_requests import EarlierRequest, Goal, PastRequest, joined
from .sample_contents import contents_of
from .samples import Samples
from .validation_set import validation_without

_NO_POSITIONS = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class SplitSets:
    """Hold the sets of one run. `Split` draws them.

    Args:
        forget: Training samples to forget. They are those that were requested, and with `copies="include"` their exact copies.
        retain: Training samples to keep.
        validation: Samples that no model is trained on. Tuning uses them. None of them was requested. They are training
            samples that were held out, or test samples that left the test set (`validation_from_test`).
        test: Test samples. After a class request they have no sample of the forgotten classes.
        test_forgotten: Test samples of the forgotten classes.
        withheld: Training samples that the method does not get: the other samples of the forgotten classes, if goal is
            "unlearn" and only a share of each class was requested, and those of requests that wait.
        num_classes: Number of classes.
        scenario: "class", "part of a class", "random", "ids" or "group".
        goal: "untrain" to remove the influence of the samples, "unlearn" to remove the ability.
        spec: How the split was drawn.
        forget_classes: Numbers of the forgotten classes of a class request.
        held_out: Positions (n,) of those samples of `forget` that were drawn for validation. An original that Expunge
            trained never saw them.
        removed: Positions (n,) of the samples that earlier requests took out of the retain set.
        earlier: The earlier requests of the model, with their samples.
        rehearse: Whether a method's forget set also holds the samples of earlier requests.
        drawn: Hash of the split as it was drawn, before samples of other requests were taken out; empty if there are none.
        waiting: {number of a request that waits: number of its samples}, which are left out of retain and validation set.
        copies: The copies of forget samples that were found when the split was drawn.
    """

    forget: Samples
    retain: Samples
    validation: Samples
    test: Samples
    test_forgotten: Samples
    withheld: Samples
    num_classes: int
    scenario: str
    goal: Goal
    spec: dict[str, Any]
    forget_classes: tuple[int, ...] = ()
    held_out: Tensor = field(default_factory=lambda: _NO_POSITIONS)
    removed: Tensor = field(default_factory=lambda: _NO_POSITIONS)
    earlier: tuple[EarlierRequest, ...] = ()
    rehearse: bool = False
    drawn: str = ""
    copies: Copies = field(default_factory=Copies)
    waiting: dict[int, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        classes = f", classes {list(self.forget_classes)}" if self.forget_classes else ""
        return summary(
            f"{type(self).__name__}({self.scenario}, goal {self.goal}{short(classes)})",
            ", ".join(f"{name} {size:,}" for name, size in self.sizes.items()),
            f"earlier requests: {len(self.earlier)}, {len(self.removed):,} samples" if self.earlier else "",
            f"data {self.forget.data!r}",
        )

    @property
    def train(self) -> Samples:
        """The samples that the original was trained on, in data order.

        They are forget, retain and withheld set and what earlier requests removed, without `held_out`.
        """
        forget = _without(self.forget.index, self.held_out)
        parts = [forget, self.retain.index, self.withheld.index, self.removed]
        return Samples(self.forget.data, torch.cat(parts).unique())

    @property
    def validation_from_test(self) -> bool:
        """Whether the validation set was taken out of the test set, so that the original saw all training samples."""
        return self.validation.data is self.test.data

    @property
    def unseen(self) -> Samples:
        """The samples that no model saw: validation set and `held_out`, without earlier requests and copies of forget samples."""
        if self.validation_from_test:
            return self.validation
        held_out = _without(self.held_out, torch.cat([self.copies.included, self.earlier_samples.index]))
        return Samples(self.forget.data, torch.cat([self.validation.index, held_out]).sort().values)

    @property
    def without_held_out(self) -> Self:
        """This split with a forget set that has only samples on which the original was trained."""
        forget = Samples(self.forget.data, _without(self.forget.index, self.held_out))
        return replace(self, forget=forget) if len(self.held_out) else self

    @property
    def for_method(self) -> Self:
        """The split that a method works on. With `rehearse`, its forget set also has the samples of earlier requests."""
        if not (self.earlier and self.rehearse):
            return self
        parts = [self.forget.index, self.earlier_samples.index]
        # an earlier request for samples has no class, and a later one for a class has only its own
        classes = {*self.forget_classes, *(self.earlier_classes if self.forget_classes else ())}
        return replace(
            self,
            forget=Samples(self.forget.data, torch.cat(parts).unique()),
            forget_classes=tuple(sorted(classes)),
        )

    @property
    def earlier_samples(self) -> Samples:
        """The samples of all earlier requests, request by request. A sample of two requests is there twice."""
        return Samples(self.forget.data, joined(e.places for e in self.earlier))

    @property
    def earlier_test_samples(self) -> Samples:
        """The test samples of those earlier requests for classes whose training samples are gone, request by request."""
        return Samples(self.test.data, joined(e.test_places for e in self.earlier if e.is_scored_by_test))

    @property
    def earlier_classes(self) -> tuple[int, ...]:
        """Classes that earlier requests removed."""
        return tuple(sorted({k for e in self.earlier for k in e.past.classes}))

    @property
    def request(self) -> str:
        """Hash of the split as it was drawn. It identifies the request, whatever was forgotten before."""
        return self.drawn or self.hash

    @property
    def answers_request(self) -> bool:
        """Whether a run on this split removes its forget set: it is not in the retain set, as it is for an original."""
        return len(self.forget) > 0 and not bool(torch.isin(self.forget.index, self.retain.index).any())

    def as_request(self, method: str, *, with_contents: bool = False) -> PastRequest:
        """Return the request that a run of a method on this split answers.

        Args:
            method: Name of the method.
            with_contents: Whether to read the samples and keep hashes of their contents. Those of classes are found by their labels.
        """
        data, by_position = self.forget.data, self.forget.data.ids is None
        is_read = with_contents and (by_position or not self.forget_classes)
        return PastRequest(
            request=self.request,
            scenario=self.scenario,
            goal=self.goal,
            ids=tuple(self.forget.ids),
            data=data.fingerprint() if by_position else "",
            contents=contents_of(data, self.forget.index) if is_read else (),
            classes=self.forget_classes if self.goal == "unlearn" else (),
            method=method,
            # a list of all earlier requests in each would grow with the square of their number
            description={k: v for k, v in {**self.spec, **self.to_dict()}.items() if k != "earlier"},
        )

    def after(self, requests: Sequence[PastRequest], *, rehearse: bool | None = None) -> Self:
        """Return this split for a model that has answered other requests.

        Their samples leave retain and validation set. Test samples of classes they removed leave the test set. The forget
        set stays exactly what was requested. `unlearn` and `audit` call this for you.

        Args:
            requests: The requests, as `requests_of` returns them. One for this split's own forget set is left out.
            rehearse: Whether a method's forget set also has the samples of these requests. By default as the split has it.

        Raises:
            SplitError: The samples of a request cannot be found, or nothing would be retained.

        Example:
            >>> second = split.after(requests_of(unlearned), rehearse=True)  # doctest: +SKIP
        """
        rehearse = self.rehearse if rehearse is None else rehearse
        known = {self.request, *(e.past.request for e in self.earlier)}
        new = [r for r in requests if r.request not in known]
        if not new:
            return self if rehearse == self.rehearse else replace(self, rehearse=rehearse)
        found = find_samples(new, self.forget.data, self.test.data)
        data, positions = self.forget.data, joined(e.places for e in found).unique()
        test_positions = joined(e.test_places for e in found)
        retain, withheld = (_without(s.index, positions) for s in (self.retain, self.withheld))
        validation, test = (
            validation_without(self, positions, test_positions),
            _without(self.test.index, test_positions),
        )
        if not len(retain) or not len(test):
            raise SplitError(
                f"earlier requests leave no {'test' if len(retain) else 'retained'} samples; train a new model instead."
            )
        trained = torch.cat([self.retain.index, self.withheld.index])
        removed = trained[torch.isin(trained, positions)]
        return replace(
            self,
            retain=Samples(data, retain),
            validation=validation,
            withheld=Samples(data, withheld),
            test=Samples(self.test.data, test),
            removed=torch.cat([self.removed, removed]).unique(),
            earlier=(*self.earlier, *found),
            rehearse=rehearse,
            drawn=self.request,
        )

    @property
    def for_original(self) -> Self:
        """The split to train an original with: its retain set is all of `train`, and nothing is withheld."""
        nothing = Samples(self.withheld.data, torch.empty(0, dtype=torch.int64))
        return replace(self, retain=self.train, withheld=nothing)

    @cached_property
    def train_hash(self) -> str:
        """SHA-256 (hex) of `train`. It is equal for all forget sets with the same validation set."""
        return hash_parts(self.forget.data.fingerprint(), self.train.index)

    @cached_property
    def retain_hash(self) -> str:
        """SHA-256 (hex) of the retain set. Retrain depends on nothing else of a split."""
        return hash_parts(self.retain.data.fingerprint(), self.retain.index)

    @property
    def preparation(self) -> str:
        """How the inputs of training and test data are prepared. The hashes do not contain it."""
        return f"{self.retain.data.preparation}; test: {self.test.data.preparation}"

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the whole split: the content of the data and the positions of each set."""
        sets = [self.forget, self.retain, self.validation, self.test, self.test_forgotten, self.withheld]
        later = [self.held_out] if len(self.held_out) or self.earlier else []
        later += [self.removed] if self.earlier else []
        source = "validation from test" if self.validation_from_test else ""
        return hash_parts(
            self.forget.data.fingerprint() + self.test.data.fingerprint() + self.goal + source,
            *(s.index for s in sets),
            *later,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each set."""
        names = ("forget", "retain", "validation", "test", "test_forgotten", "withheld")
        return {name: len(getattr(self, name)) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return what a record stores of the split: how it was drawn, sizes and hashes. No ids and group values: they name people."""
        later: dict[str, Any] = {"held_out": len(self.held_out)} if len(self.held_out) else {}
        if self.earlier:
            later |= {
                "request": self.request,
                "earlier": [e.past.request for e in self.earlier],
                "removed": len(self.removed),
                "rehearse": self.rehearse,
            }
        if self.waiting:
            later |= {"request": self.request, "waiting": {str(n): k for n, k in self.waiting.items()}}
        later |= {"copies_found": self.copies.to_dict()} if len(self.copies) or self.copies.limits else {}
        spec = {k: v for k, v in self.spec.items() if k != "values"}
        if values := self.spec.get("values"):
            spec["forget_hash"] = hash_parts(self.forget.data.fingerprint(), self.forget.index)
            spec["group_values"] = len(values)
        return {
            **spec,
            **later,
            "scenario": self.scenario,
            "goal": self.goal,
            "sizes": self.sizes,
            "classes": self.num_classes,
            "forget_classes": list(self.forget_classes),
            "hash": self.hash,
            "train_hash": self.train_hash,
        }


def _without(positions: Tensor, others: Tensor) -> Tensor:
    """Return the positions that are not among `others`, in their order."""
    return positions[~torch.isin(positions, others)] if len(others) else positions


def hash_parts(*parts: str | Tensor) -> str:
    """Return the SHA-256 (hex) of texts and positions (n,). The encoding separates the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            json.dumps(part).encode()
            if isinstance(part, str)
            else f"{len(part)}:".encode() + part.to(torch.int64).numpy().tobytes()
        )
    return digest.hexdigest()
