"""What the runs of one generator share: data, split, task, judge and sampler; and a record of each with its pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..audit.generators import JudgedImages, audit_generator, generate_and_judge
from ..audit.image_judge import Judge, train_judge
from ..data.batch import CropFlip
from ..data.samples import Data, Samples
from ..data.split import Split
from ..errors import ExpungeError, raise_all
from ..models import build
from ..models.unet import for_data, unserved
from ..pipeline.experiment import record_of, seeded_factory
from ..records.record import Record, plain
from ..sources import Source
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..training.method import Method
from ..training.run import Run
from ..tuning import presets


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A data set with a class to forget, the U-Net that suits it, and how its images are judged."""

    source: Source
    data: str  # the data's kind, as "digits"
    split: Split
    task: Diffusion
    device: str = "cpu"
    sampler: Sampler = Sampler(kind="dpm", steps=10, guidance=1.0)  # noqa: RUF009 frozen
    seed: int = 0
    per_class: int = 50
    command: str = ""

    def __post_init__(self) -> None:
        if self.per_class < 2:
            raise ExpungeError(
                f"--per-class is {self.per_class}; distances of drawn images need at least 2 of each class."
            )

    @classmethod
    def of(
        cls,
        source: Source,
        data: str,
        forget: int | Sequence[int | str],
        *,
        validation: float = 0.1,
        **more: Any,
    ) -> Generation:
        """The setting of a data set by its spec; `forget` is a class, or several, by number or name. Raises `ExpungeError`s."""
        raise_all(unserved(presets.data_name(data)))
        split = for_drawing(Split.by_class(source.train, source.test, forget, validation=validation))
        return cls(
            source=source,
            data=presets.data_name(data),
            split=split,
            task=Diffusion(len(source.classes)),
            **more,
        )

    @property
    def factory(self) -> Callable[[], nn.Module]:
        """Makes the U-Net with fresh weights, the same at each call."""
        made = lambda: for_data(self.data, len(self.source.classes), self.source.shape).to(self.device)  # type: ignore[arg-type]  # noqa: E731
        return seeded_factory(made, self.seed)

    def judge(self) -> Judge:
        """A judge trained on the data with its own recipe."""
        make = lambda: build(  # noqa: E731
            "cnn", num_classes=len(self.source.classes), shape=self.source.shape
        ).to(self.device)
        real = _of(self.split, self.source.train)  # with the crops that a classifier trains on
        return train_judge(real, make, presets.recipe(self.data), seed=self.seed)

    def look(self, model: nn.Module, judge: Judge) -> JudgedImages:
        """What a model draws, from the same noise as every other."""
        more = {"sampler": self.sampler, "per_class": self.per_class, "seed": self.seed}
        return generate_and_judge(model, self.split, self.task, judge, **more)  # type: ignore[arg-type]

    def bare_record(self, kind: str, run: Run, method: Method, before: str = "") -> Record:
        """The record of a run, not yet judged."""
        names = {"model": "unet", "data": self.source.name, "classes": self.source.classes}
        return record_of(kind, run, method, before=before, names=names, command=self.command)

    def record(
        self,
        kind: str,
        run: Run,
        method: Method,
        drawn: JudgedImages,
        judge: Judge,
        *,
        before: str = "",
        label: str = "",
        **beside: JudgedImages | None,
    ) -> Record:
        """The record of a run, with its scores and pictures, `beside` an original and a retrained model's."""
        record = self.bare_record(kind, run, method, before)
        found = audit_generator(drawn, judge, names={"unlearned": label or kind}, **beside)
        record.scores = plain(found.scores)
        record.details.update(plain(found.details))
        return record


def for_drawing(split: Split) -> Split:
    """The split as a generator trains on it: images flipped but not cropped, or it would learn to draw the crops' borders."""
    data = split.forget.data
    if not isinstance(data.augment, CropFlip):
        return split
    whole = copy.copy(data)
    whole.augment = replace(data.augment, pad=0)
    return _of(split, whole)


def _of(split: Split, data: Data) -> Split:
    """The split with the same training samples of `data`."""
    sets = ("forget", "retain", "validation", "withheld")
    same: dict[str, Any] = {k: Samples(data, getattr(split, k).index) for k in sets}
    return replace(split, **same)
