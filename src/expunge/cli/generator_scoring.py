"""The scores of generators, by the images that they sample: for `Pipeline`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..audit.generators import JudgedImages, audit_generator
from ..audit.image_judge import Judge
from ..generation.runs import Generation
from ..records.record import Record, plain
from ..training.run import Run


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
