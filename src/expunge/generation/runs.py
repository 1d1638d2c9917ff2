"""Runs on one class-conditional generator: what they share, and their records with scores and pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..audit.generators import JudgedImages, audit_generator, generate_and_judge
from ..audit.image_judge import Judge, train_judge
from ..data.samples import Data, Samples
from ..data.split import Split
from ..data.transforms import CropFlip
from ..errors import ExpungeError, raise_all
from ..models import build
from ..models.unet import for_data, unserved
from ..pipeline.factory import seeded_factory
from ..pipeline.outcome import record_of
from ..records.record import Record, plain
from ..sources.source import Source
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..training.method import Method
from ..training.run import Run
from ..tuning import presets


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Hold what all runs of one generator share: data set, forget set, U-Net, judge and sampler.

    Args:
        source: The data set.
        data: Its name, for example "digits". It selects the U-Net and the settings.
        split: Forget, retain, validation and test set.
        task: The diffusion task.
        device: Device of every network.
        sampler: Sampler of the images to judge.
        seed: Seed of initial parameters, judge and sampled images.
        per_class: Number of images to sample per class.
        command: Command line to store in records.

    Raises:
        ExpungeError: If `per_class` is below 2.
    """

    source: Source
    data: str
    split: Split
    task: Diffusion
    device: str = "cpu"
    sampler: Sampler = Sampler(kind="dpm", steps=10, guidance=1.0)  # noqa: RUF009
    seed: int = 0
    per_class: int = 50
    command: str = ""

    def __post_init__(self) -> None:
        if self.per_class < 2:
            raise ExpungeError(
                f"--per-class is {self.per_class}; it must be at least 2, because distances need 2 images of each class."
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
        """Set up the runs of a data set.

        Args:
            source: The data set.
            data: Its spec.
            forget: Class or classes to forget, by number or name.
            validation: Share of the training set to hold out.
            more: Further fields.

        Raises:
            ExpungeError: If no U-Net suits the data set or a class is unknown.
        """
        raise_all(unserved(presets.data_name(data)))
        split = without_crops(Split.by_class(source.train, source.test, forget, validation=validation))
        return cls(
            source=source,
            data=presets.data_name(data),
            split=split,
            task=Diffusion(len(source.classes)),
            **more,
        )

    @property
    def factory(self) -> Callable[[], nn.Module]:
        """A function that makes the U-Net with the same initial parameters at each call."""

        def make() -> nn.Module:
            shape: Any = self.source.shape
            return for_data(self.data, len(self.source.classes), shape).to(self.device)

        return seeded_factory(make, self.seed)

    def judge(self) -> Judge:
        """Train the classifier that judges images."""

        def make() -> nn.Module:
            model = build("cnn", num_classes=len(self.source.classes), shape=self.source.shape)
            return model.to(self.device)

        # the judge trains on crops, unlike the generator
        real = _with_data(self.split, self.source.train)
        return train_judge(real, make, presets.recipe(self.data), seed=self.seed)

    def sample(self, model: nn.Module, judge: Judge) -> JudgedImages:
        """Sample images from a model and judge them. Every model starts from the same noise."""
        more = {"sampler": self.sampler, "per_class": self.per_class, "seed": self.seed}
        return generate_and_judge(model, self.split, self.task, judge, **more)  # type: ignore[arg-type]

    def bare_record(self, kind: str, run: Run, method: Method, before: str = "") -> Record:
        """Return the record of a run without scores of images."""
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
        """Return the record of a run with its scores and pictures.

        Args:
            kind: Kind of the run, for example "unlearn".
            run: The run.
            method: Its method.
            drawn: The judged images of its model.
            judge: The judge.
            before: Hash of the model before the run.
            label: Name of the model in the pictures. Default: `kind`.
            beside: Judged images of the original and the retrained model, to compare with.
        """
        record = self.bare_record(kind, run, method, before)
        audit = audit_generator(drawn, judge, names={"unlearned": label or kind}, **beside)
        record.scores = plain(audit.scores)
        record.details.update(plain(audit.details))
        return record


def without_crops(split: Split) -> Split:
    """Return the split without random crops. A generator would learn the borders of the crops; flips stay."""
    data = split.forget.data
    if not isinstance(data.augment, CropFlip):
        return split
    uncropped = copy.copy(data)
    uncropped.augment = replace(data.augment, pad=0)
    return _with_data(split, uncropped)


def _with_data(split: Split, data: Data) -> Split:
    """Return the split with the same indices into `data`."""
    names = ("forget", "retain", "withheld", *(() if split.validation_from_test else ("validation",)))
    samples: dict[str, Any] = {name: Samples(data, getattr(split, name).index) for name in names}
    return replace(split, **samples)


class GeneratorScoring:
    """Sampled images of each model, judged by a classifier.

    Args:
        setting: The data, and how images are sampled.
        judge: The classifier that judges images.
        titles: {label of a run: title of its images}; by default "after LABEL".
    """

    def __init__(self, setting: Generation, judge: Judge, titles: Mapping[str, str]):
        self.setting, self.judge, self.titles = setting, judge, titles

    def measure(self, run: Run) -> JudgedImages:
        """Return sampled images of the run's model. The noise is the same for every model."""
        return self.setting.sample(run.model, self.judge)

    def describe(self, record: Record, label: str, own: Any, original: Any, retrained: Any) -> None:
        """Write scores and images into the record, beside those of the original and the retrained model."""
        title = self.titles.get(label, f"after {label}")
        audit = audit_generator(
            own, self.judge, names={"unlearned": title}, original=original, retrained=retrained
        )
        record.scores = plain(audit.scores)
        record.details.update(plain(audit.details))


def names_for(setting: Generation) -> dict[str, Any]:
    """Return the names of model, data and classes, as a record keeps them."""
    return {"model": "unet", "data": setting.source.name, "classes": setting.source.classes}
