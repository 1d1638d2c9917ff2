"""The report of erased concepts, and of controls: invented records, of which nothing was measured."""

from __future__ import annotations

import re

import numpy as np

from expunge.records.record import Record
from expunge.report import erasure, page
from expunge.report.sentences import headline, standfirst
from expunge.report.study import studies
from make_records import png, record

WORDS = {"concept": ["dress", "bag"], "anchor": ["coat", "coat"], "keep": ["boot"], "prompts": ["a", "b"]}


def erased(scores: dict[str, float] | None = None, **details: object) -> Record:
    rng = np.random.default_rng(1)
    images = [{"title": t, "png": png(rng, 16), "note": "rows: “a dress”"} for t in ("before", "after esd")]
    run = record(
        "erase", "esd", scores or {}, 0, 40.0, details={"images": images, "erasure": WORDS, **details}
    )
    run.task, run.model = "diffusion", {"name": "StableDiffusionPipeline", "parameters": 859_520_964}
    return run


def text_of(shown: str) -> str:
    """The words that a reader of the page sees, with its hints."""
    return re.sub(r"<(script|style)>.*?</\1>", "", shown, flags=re.DOTALL)


def test_an_erasure_opens_with_its_pictures_and_words() -> None:
    shown = page([erased()])
    assert "“dress” and “bag”, moved to “coat” by ESD." in shown
    assert "Concept: “dress” and “bag”. Anchor: “coat”. Kept: “boot”." in shown
    start = shown.index('<div class="opening">')
    assert shown.index("</h1>") < start < shown.index("<table") and shown.count("<img") == 2
    assert shown.index("before", start) < shown.index("after esd", start)
    assert ".opening img { display: block; width: 100%" in shown
    assert "No judge scored the images" in shown


def test_an_erasure_has_no_sentence_about_ta() -> None:
    judged = erased({"UA": 90.0, "RA": 80.0}, before={"UA": 5.0, "RA": 81.0})
    judged.split = {"scenario": "class", "forget_classes": [0]}
    assert "TA leaves out" not in page([judged])
    other = record("unlearn", "salun", {"UA": 50.0, "TA": 60.0}, 0, 1.0)
    other.split = {"scenario": "class", "forget_classes": [0]}
    assert "TA leaves out" in page([other]), "the control"


def test_an_erasure_never_suggests_retraining() -> None:
    judged = erased({"UA": 90.0, "RA": 80.0}, before={"UA": 5.0, "RA": 81.0})
    for run in (erased(), judged):
        said = text_of(page([run])).lower()
        assert "retrain" not in said and "never saw it" not in said
    assert "misses the concept in 5.0 % of its images before and in 90.0 % after" in page([judged])
    # a neighbour: other methods without a reference are told what is missing
    other = record("unlearn", "salun", {"UA": 50.0}, 0, 1.0)
    assert "run Retrain" in page([other])


def test_older_records_name_one_concept_as_text() -> None:
    run = erased()
    run.details["erasure"] = {"concept": "dress", "anchor": "", "keep": []}
    study = studies([run])[0]
    assert erasure.headline(study) == "“dress”, moved to what the empty prompt shows by ESD."
    assert "Anchor: the empty prompt. Kept: nothing else." in erasure.standfirst(study)[0]
    run.details["erasure"] = None
    assert erasure.headline(studies([run])[0]).startswith("A concept, moved to")


def four(*values: float) -> dict[str, float]:
    return dict(zip(("UA", "RA", "TA", "MIA"), values, strict=True))


def test_a_control_does_not_lead_but_is_not_hidden() -> None:
    runs = [
        record("retrain", "retrain", four(10, 98, 95, 20), 0, 10.0),
        record("unlearn", "salun", four(14, 98, 95, 20), 0, 1.0, settings={"mask": "saliency"}),
        record("unlearn", "salun", four(11, 98, 95, 20), 0, 1.0, settings={"mask": "random"}),
        record("unlearn", "esd", four(18, 98, 95, 20), 0, 1.0),
    ]
    study = studies(runs)[0]
    assert headline(study).startswith("SalUn (mask saliency) comes closest to retraining: 1.00")
    assert "A control is closer to Retrain (SalUn (mask random), 0.25" in " ".join(standfirst(study))
    study = studies([runs[0], runs[2]])[0]
    assert headline(study).startswith("SalUn is 0.25")


def test_controls_of_generators_come_last_in_the_headline() -> None:
    runs = [record("original", "original", {"UA": 2.0, "FID_judge": 1.0}, 0, 1.0)]
    for ua, (method, mask) in enumerate(
        (("esd", "saliency"), ("salun", "saliency"), ("salun", "inverted"), ("salun", "random")), 96
    ):
        scores = {"UA": float(ua), "FID_judge": 1.0}
        runs.insert(1, record("unlearn", method, scores, 0, 1.0, settings={"mask": mask}))
    for run in runs:
        run.task, run.model = "diffusion", {"name": "unet"}
    said = headline(studies(runs)[0])
    assert said.startswith("UA changed from 2.0 to 97.0 with SalUn (mask saliency), to 96.0 with ESD"), said
