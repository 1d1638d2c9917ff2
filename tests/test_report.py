"""Test the report as text: values worked out by hand, missing parts, hostile records.

test_report_browser.py tests the page in a browser.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import expunge.report
from expunge.errors import ExpungeError
from expunge.records.record import Record
from expunge.report import page, write_report
from expunge.report.audit_details import picture, trials
from expunge.report.figures import curves
from expunge.report.group import Group
from expunge.report.number_text import compact, duration, fixed, gap_step, listed, memory
from expunge.report.strong_audit import attack_table, feature_table, verdict
from expunge.report.study import studies
from expunge.report.svg import short, spread_out, tick_text, ticks
from expunge.report.values import number
from make_records import details, generator, png, record, sample, strong

EVIL = "</title></svg>\"'><script>alert(1)</script><img src=x onerror=alert(1)>&{{7*7}}"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Collect the tags and attributes of a page. `wrong` lists elements that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open, self.wrong = "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.tags)


def words(text: str) -> str:
    """Return the text of a page with single spaces."""
    return re.sub(r"\s+", " ", Outline(re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)).text)


def one(
    kind: str, method: str, seed: int = 0, seconds: float = 1.0, scores: tuple[float, ...] = (), **more: Any
) -> Record:
    return record(
        kind, method, dict(zip(("UA", "RA", "TA", "MIA"), scores, strict=False)), seed, seconds, **more
    )


def test_without_records() -> None:
    with pytest.raises(ExpungeError, match="no records"):
        page([])


def test_well_formed_and_self_contained() -> None:
    text = page(sample(2))
    outline = Outline(text)
    assert not outline.wrong and not outline.open
    assert len(text) < 600_000
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), (
                tag,
                attributes,
            )
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert outline.count("script") == 1 and outline.count("h1") == 1
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in outline.tags:
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg" and "aria-hidden" not in attributes:
            assert attributes["role"] == "img" and len(attributes["aria-label"] or "") > 10
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "rowgroup")


def test_policy_allows_the_one_script_only() -> None:
    text = page(sample())
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text


def test_gap_by_hand() -> None:
    runs = [
        one("original", "original", scores=(0, 100, 99, 1)),
        one("retrain", "retrain", scores=(10, 98, 95, 20), seconds=10),
        one("unlearn", "far", scores=(0, 90, 90, 0)),
        one("unlearn", "near", scores=(12, 97, 95, 15), seconds=2),
    ]
    study = studies(runs)[0]
    near, far = study.methods
    assert (near.name, far.name) == ("near", "far")  # 2, 1, 0, 5 and 10, 8, 5, 20
    assert near.average is not None and near.average.mean == 2.0 and near.average.spread is None
    assert far.average is not None and far.average.mean == 10.75
    assert [near.gap(m).mean for m in ("UA", "RA", "TA", "MIA")] == [2, -1, 0, -5]  # type: ignore[union-attr]
    text = words(page(runs))
    assert "near comes closest to retraining: 2.00 points away." in text
    assert "largest gap of near is MIA, 5.0 points below Retrain" in text and "5 times faster" in text
    assert text.count("smallest gap") == 1 and "0.2 × Retrain" in text and "one seed" in text


def test_seeds_are_judged_by_their_own_reference() -> None:
    runs = []
    for seed, shift in enumerate((0.0, 1.0, 5.0)):
        runs.append(one("retrain", "retrain", seed, scores=(50 + shift, 90, 80, 50)))
        runs.append(one("unlearn", "salun", seed, scores=(52 + shift, 90, 80, 50), seconds=1 + seed))
    group = studies(runs)[0].methods[0]
    assert group.average is not None and (group.average.mean, group.average.spread, group.average.n) == (
        0.5,
        0.0,
        3,
    )
    score = group.score("UA")
    assert score is not None and math.isclose(score.mean, 54) and math.isclose(score.spread or 0, 7**0.5)
    text = words(page(runs))
    assert (
        "mean ± sample standard deviation over 3 seeds" in text
        and "54.0 ± 2.6" in text
        and "means over 3 seeds" in text
    )


def test_level_within_the_spread_is_said() -> None:
    runs = [one("retrain", "retrain", s, scores=(50, 90, 80, 50)) for s in (0, 1)]
    runs += [one("unlearn", "a", s, scores=(50 + 4 * s, 90, 80, 50)) for s in (0, 1)]
    runs += [one("unlearn", "b", s, scores=(52 + 4 * s, 90, 80, 50)) for s in (0, 1)]
    text = words(page(runs))
    assert "a and b come closest to retraining. Their gaps are equal within the spread over seeds." in text
    assert text.count("equal within the spread") == 2


def test_equal_figures_share_the_headline() -> None:
    runs = [one("retrain", "retrain", scores=(50, 90, 80, 50))]
    for method, seconds, loss in (("a", 2, 0), ("b", 1, 0.01), ("c", 1, 4)):
        runs.append(one("unlearn", method, seconds=seconds, scores=(50, 90 - loss, 80, 50)))
    text = words(page(runs))
    assert "b and a come closest to retraining: 0.00 points away" in text and text.count("smallest gap") == 2


def test_a_method_alone_has_no_smallest_gap_and_a_badge_stands_apart_from_the_name() -> None:
    runs = [one("retrain", "retrain", scores=(50, 90, 80, 50)), one("unlearn", "a", scores=(50, 90, 80, 50))]
    assert "smallest gap" not in words(page(runs))
    text = words(page([*runs, one("unlearn", "b", scores=(40, 90, 80, 50))]))
    assert "a smallest gap" in text and "Retrain the reference" in text


def test_close_scores_with_other_predictions_are_not_praised_alone() -> None:
    moved = {"redistribution": {"unlearned": [60, 40, 0], "retrained": [0.2, 0.2, 0.6]}}
    runs = [one(kind, "a", scores=(50, 90, 80, 50), details=moved) for kind in ("retrain", "unlearn")]
    assert "But 60 % of the forgotten samples would need another class to match Retrain." in words(page(runs))


def test_without_a_reference_it_says_so() -> None:
    runs = [r for r in sample() if r.kind != "retrain"]
    text = words(page(runs))
    assert (
        re.search("The distance of .* to retraining is unknown.", text)
        and "contain no retrained model" in text
    )
    assert "smallest gap" not in text and "Distance to retraining" not in text


def test_stored_gap_serves_without_a_retrained_record() -> None:
    run = one("unlearn", "salun", scores=(50, 90, 80, 50))
    run.scores["gap"] = {"UA": 1.0, "RA": 2.0, "TA": 0.0, "MIA": 1.0, "avg": 1.0}
    text = words(page([run]))
    assert "SalUn is 1.00 points from retraining" in text


def test_a_stored_gap_has_a_direction_only_where_the_score_of_retrain_is_known() -> None:
    run = one("unlearn", "salun", scores=(0, 90, 80, 50), goal="untrain")
    run.scores["gap"] = {"UA": 11.11, "RA": 2.0, "TA": 0.0, "MIA": 1.0, "avg": 3.5}
    text = words(page([run]))
    assert "UA 11.1 points from Retrain" in text
    assert "+11.1" not in text and "gets more of the forget set wrong" not in text
    run.details["verdict"] = {"words": [], "figures": {"UA": {"value": 0.0, "retrained": 11.11}}}
    assert f"UA {fixed(-11.1)}: still gets more of the forget set right" in words(page([run]))


@pytest.mark.parametrize(
    ("lr", "ended", "expected", "used"),
    [
        (0.1, "finished", "Tuning chose the first row", 1),
        (0.2, "finished", "closer to Retrain than the original, so tuning took the marked row", 1),
        (0.3, "finished", "No row has the settings of this run", 0),
        (0.1, "unchanged", "so the run kept that model", 0),
    ],
)
def test_the_trial_with_the_settings_of_the_run_is_marked(
    lr: float, ended: str, expected: str, used: int
) -> None:
    rows = [{"settings": {"lr": v}, "distance": d, "status": "finished"} for v, d in ((0.1, 1.0), (0.2, 2.0))]
    run = one("unlearn", "ft", scores=(0, 90, 80, 50), settings={"lr": lr, "epochs": 2}, status=ended)
    run.details["trials"] = rows
    shown = trials(run, "original")
    assert [r["used"] for r in shown["rows"]].count(True) == used
    text = words(page([run]))
    assert expected in text and text.count("finished · used") == used
    assert ("chose the first row" in text) == (expected == "Tuning chose the first row")


def test_a_union_of_a_class_and_other_samples_is_not_all_of_the_class() -> None:
    split = {"sizes": {"forget": 149, "retain": 900}, "forget_classes": [3]}
    for scenario, text in (
        ("ids", "149 samples, among them all of “class 3”"),
        ("class", "149 samples, all of “class 3”"),
    ):
        run = one("unlearn", "ft", scores=(0, 90, 80, 50), split={**split, "scenario": scenario})
        assert f"To forget: {text}." in words(page([replace(run, data={})]))


def test_same_method_with_other_settings_stands_apart() -> None:
    runs = [one("retrain", "retrain", scores=(50, 90, 80, 50))]
    runs += [
        one("unlearn", "salun", scores=(50, 90 - d, 80, 50), settings={"density": d, "lr": 0.1})
        for d in (0.1, 0.5)
    ]
    assert [g.difference for g in studies(runs)[0].methods] == ["density 0.1", "density 0.5"]


def test_settings_of_data_and_split_are_not_mixed() -> None:
    other = [replace(r, data={"name": "cifar10"}) for r in sample()]
    text = page([*sample(), *other])
    assert text.count("<h2>Scores beside Retrain</h2>") == 2 and Outline(text).count("h1") == 1
    assert len(studies(sample(3))) == 1


def test_missing_figures_are_dashes_with_a_reason() -> None:
    run = one("unlearn", "salun", scores=(50, 90))
    run.scores |= {"TA": float("nan"), "MIA": None}
    run.seconds, run.peak_memory = float("nan"), None
    text = page([one("retrain", "retrain", scores=(50, 91, 80, 50)), run])
    assert not re.search(r"\bnan\b|None", words(text)) and 'title="not measured in this run">–' in text
    assert "without TA and MIA" in words(text)


@pytest.mark.parametrize(
    ("key", "heading"),
    [
        ("histograms", ">Confidence<"),
        ("per_class", "Accuracy change by class"),
        ("redistribution", "Predictions on the forget set"),
        ("embedding", ">Features<"),
        ("examples", "<h3>Forgotten samples<"),
        ("table2x2", "NHLE × masking"),
        ("trials", "Tuning trials"),
        ("images", "Generated images"),
        ("attacks", "Strong audit: attacks"),
        ("features", "Strong audit: features"),
        ("verdict", "Verdict of the audit"),
    ],
)
def test_parts_are_left_out(key: str, heading: str) -> None:
    run = next(r for r in sample() if r.method == "nhle")
    run.details |= {
        "images": [{"title": "before", "png": run.details["examples"][0]["png"], "note": "n"}],
        "verdict": "It is well.",
        "trials": [{"settings": {"lr": 0.01}, "distance": 1.5, "status": "finished", "seconds": 2.0}],
        "attacks": {"u_lira": {"auc": 0.51, "retrained": {"auc": 0.5}}},
        "features": [{"name": "probe", "unlearned": 61.0}],
    }
    assert heading in page([run])
    del run.details[key]
    assert heading not in page([run])


def test_bare_record_is_a_page() -> None:
    text = page([Record(kind="unlearn", method="salun")])
    assert not Outline(text).wrong and "scores only" in text


def test_two_of_the_forgotten_move() -> None:
    run = one(
        "unlearn",
        "salun",
        details={"redistribution": {"unlearned": [0.5, 0.5, 0.0], "retrained": [0.3, 0.5, 0.2]}},
    )
    assert "20.0 % would need another class to match Retrain" in words(page([run]))


def test_generators_have_words_of_their_own() -> None:
    runs = generator()
    assert "UA changed from 2.0 to 99.0 with SalUn" in words(page(runs)) and "0.0123" in page(runs)
    runs.append(one("retrain", "retrain", scores=(60.0, 95.0)))
    runs[-1].task, runs[-1].model = "diffusion", runs[0].model
    text = words(page(runs))
    assert "shows the forgotten classes even less often than a model" in text
    assert "a value is missing" not in text and "without TA" not in text  # generators have no TA


def test_many_classes_are_cut_to_those_that_matter() -> None:
    original, unlearned = [90.0] * 100, [90.0] * 99 + [10.0]
    unlearned[3], original[50] = 0.0, 95.0
    run = one(
        "unlearn",
        "salun",
        details={"per_class": {"original": original, "unlearned": unlearned}},
        data={"name": "x", "classes": []},
    )
    text = page([run])
    assert (
        "24 largest changes of 100 classes" in words(text)
        and "class 50: −5.00" in text
        and "Worst retained class: class 99" in text
    )


def every_string(value: Any) -> Any:
    """`value` with every string in it, keys included where the report shows them, made hostile."""
    if isinstance(value, dict):
        return {k: every_string(v) for k, v in value.items()}
    if isinstance(value, list):
        return [every_string(v) for v in value]
    return EVIL if isinstance(value, str) else value


def hostile() -> list[Record]:
    records = []
    for run in sample():
        run.details |= {
            "images": [{"title": "t", "png": png_of(run), "note": "n"}],
            "verdict": ["v"],
            "limits": ["l"],
            "attacks": {EVIL: {EVIL: 1.0}},
            "features": [{"name": "x", EVIL: "y"}],
        }
        values = {f.name: getattr(run, f.name) for f in fields(run)}
        evil = {k: v if k in ("kind", "task") else every_string(v) for k, v in values.items()}
        evil["settings"] = {**evil["settings"], EVIL: EVIL}
        evil["scores"] = {**evil["scores"], EVIL: 3.0}
        evil["details"] |= {"images": [{"title": EVIL, "png": png_of(run), "note": EVIL}]}
        records.append(Record(**evil))
    return records


def png_of(run: Record) -> str:
    return run.details["examples"][0]["png"] if run.details.get("examples") else ""


def test_hostile_strings_stay_text() -> None:
    text = page(hostile(), title=EVIL)
    outline = Outline(text)
    assert not outline.wrong and not outline.open
    assert outline.count("script") == 1 and "alert(1)" in outline.text
    for tag, attributes in outline.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert (attributes.get("src") or "data:").startswith("data:image/png;base64,") or tag != "img"
    assert "{{7*7}}" in outline.text  # the text is never run as a template


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_json_is_survived(data: st.DataObject) -> None:
    """The page is well formed whatever value an entry of a record has: anyone can edit the file."""
    runs = few()
    runs[-1].split["scenario"] = data.draw(st.sampled_from(["class", "group", "random"]))
    runs[-1].split["forget_classes"] = data.draw(st.sampled_from([[3], []]))
    for _ in range(data.draw(st.integers(1, 3))):
        run: Any = data.draw(st.sampled_from(runs))
        path = data.draw(st.sampled_from(PLACES))
        held = getattr(run, path[0])
        if len(path) == 1:
            setattr(run, path[0], data.draw(JSON))
        elif isinstance(held, dict):
            for step in path[1:-1]:
                held = held[step] if isinstance(held, dict) and isinstance(held.get(step), dict) else {}
            held[path[-1]] = data.draw(JSON)
    assert not Outline(page(runs)).wrong


def few() -> list[Record]:
    return json_copy([r for r in sample() if r.method in ("original", "retrain", "nhle")])


def json_copy(runs: list[Record]) -> list[Record]:
    return [Record(**json.loads(json.dumps({f.name: getattr(r, f.name) for f in fields(r)}))) for r in runs]


PLACES = (
    [(f.name,) for f in fields(Record) if f.name not in ("kind",)]
    + [
        ("details", k)
        for k in (
            "histograms",
            "per_class",
            "redistribution",
            "embedding",
            "examples",
            "table2x2",
            "trials",
            "images",
            "attacks",
            "features",
            "verdict",
            "worst_class",
            "limits",
        )
    ]
    + [
        ("details", "histograms", "bins"),
        ("details", "histograms", "unlearned"),
        ("details", "histograms", "original", "forget"),
        ("details", "per_class", "unlearned"),
        ("details", "redistribution", "unlearned"),
        ("details", "redistribution", "retrained"),
        ("details", "embedding", "label"),
        ("details", "embedding", "set"),
        ("details", "embedding", "original", "x"),
        ("details", "worst_class", "class"),
        ("scores", "UA"),
        ("scores", "gap"),
        ("split", "sizes"),
        ("split", "forget_classes"),
        ("split", "sizes", "forget"),
        ("split", "scenario"),
        ("split", "values"),
        ("data", "classes"),
        ("data", "name"),
        ("model", "parameters"),
    ]
)


@pytest.mark.parametrize(
    ("value", "text"),
    [("<svg onload=alert(1)>", ""), (None, ""), ("iVBORw0K", ""), ("AAAA" * 9, ""), (7, "")],
)
def test_only_png_is_shown(value: Any, text: str) -> None:
    assert picture(value) == text


def test_png_is_kept() -> None:
    import numpy as np

    data = png(np.random.default_rng(0))
    assert picture(data) == picture("data:image/png;base64," + data) == "data:image/png;base64," + data


def test_figures_of_attacks_find_their_model() -> None:
    table = attack_table(strong()["attacks"])
    assert table["titles"] == ["unlearned", "original", "Retrain", "chance"]
    groups = {name: dict(rows) for name, rows in table["groups"]}
    assert (
        groups["U-LiRA"]["AUC"] == ["0.530", "0.970", "", "0.500"] and groups["U-LiRA"]["shadows"][0] == "32"
    )
    assert groups["label-only"]["AUC"] == ["0.550", "0.700", "0.510", ""]
    assert groups["relearning delay"]["sgd, steps"] == ["4", "", "–", ""]
    assert groups["learned condition"]["steps"] == ["–", "", "25", ""]
    rows = dict(feature_table(strong()["features"])["groups"][0][1])
    assert rows["CKA to the original"] == ["0.800", "1.000", "0.600"]
    assert all(f(v) == {} for f in (attack_table, feature_table, verdict) for v in (None, [], {}, 3))


def test_verdicts_in_any_form() -> None:
    assert verdict("One.")["sentences"] == ["One."] and verdict(["One.", "Two."])["sentences"] == [
        "One.",
        "Two.",
    ]
    parts = verdict(strong()["verdict"])
    assert parts["words"] == "under-forgotten" and parts["rows"] == [
        ("UA", ["99.60", "100.00", "0.80"], False)
    ]


def test_words() -> None:
    assert [fixed(v, 1, True) for v in (-0.04, 0.04, -1.25, None, math.inf)] == [
        "0.0",
        "0.0",
        "−1.2",
        "–",
        "–",
    ]
    assert [duration(v) for v in (0.081, 4.21, 185, 7800)] == ["0.08 s", "4.2 s", "3 min 5 s", "2 h 10 min"]
    assert [memory(v) for v in (312 * 2**20, 2.5 * 2**30, None)] == ["312 MiB", "2.5 GiB", "–"]
    assert [gap_step(v) for v in (0.0, -1.0, 1.1, -10, 10.1, None)] == [0, 0, 1, 2, 3, -1]
    assert [compact(v) for v in (123.45, 1.2345, -0.012345, None)] == ["123.5", "1.23", "−0.0123", "–"]
    assert listed(["a", "b", "c"]) == "a, b and c" and listed([]) == ""
    assert number(True) is None and number("3") is None and number(10**400) is None and number(3) == 3.0
    assert [tick_text(v) for v in (-0.5, 1e6, 0.25, 0)] == ["−0.5", "1e6", "0.25", "0"]
    assert [short(v) for v in (-0.01, 3.0, 2.55)] == ["0", "3", "2.5"]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, size: float) -> None:
    values = ticks(low, low + size)
    slack = 1e-6 * (size + abs(low))
    assert 1 <= len(values) <= 11 and all(low - slack <= t <= low + size + slack for t in values)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=6))
def test_labels_do_not_collide(places: list[float]) -> None:
    placed = spread_out([(p, "", "") for p in places], 13, 0, 200)
    ys = [p for p, _, _ in placed]
    assert (
        all(b - a >= 13 - 1e-9 for a, b in itertools.pairwise(ys)) and ys[0] >= -1e-9 and ys[-1] <= 200 + 1e-9
    )


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast(theme: int) -> None:
    """WCAG 2.2: text at 4.5 to 1 on whatever it stands on, marks at 3 to 1; light and dark."""
    style = Path(expunge.report.__file__).with_name("style.css").read_text(encoding="utf-8")
    colours = dict(
        re.findall(
            r"--([\w-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\n\s*\}", style, re.DOTALL)[theme]
        )
    )

    def ratio(a: str, b: str) -> float:
        high, low = sorted((luminance(colours[a]), luminance(colours[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "raised", "faint"):
        assert all(ratio(ink, ground) >= 4.5 for ink in ("ink", "muted", "u", "r")), ground
        assert ratio("o", ground) >= 3
    assert all(ratio("ink", f"g{i}") >= 4.5 for i in range(4))
    assert ratio("u-fill", "paper") >= 2.9


def test_report_needs_no_torch() -> None:
    """The report imports no torch. An empty package stands in for expunge, which would import it."""
    root = Path(expunge.report.__file__).parents[1]
    code = (
        f"import sys, types; p = types.ModuleType('expunge'); p.__path__ = [{str(root)!r}]; "
        "sys.modules['expunge'] = p; "
        "import expunge.report; print(sorted({'torch', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert process.stdout.strip() == "[]", process.stderr


def test_written_whole(tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", sample())
    assert path.read_text(encoding="utf-8") == page(sample()) and [p.name for p in path.parent.iterdir()] == [
        "report.html"
    ]
    saved = [Record.load(r.save(tmp_path / f"{i}.json")) for i, r in enumerate(sample())]
    assert page(saved) == page(sample())


def test_details_of_the_first_seed_stand_for_the_group() -> None:
    import numpy as np

    runs = [one("unlearn", "salun", s, scores=(1, 1, 1, 1)) for s in range(2)]
    runs[1].details = details(np.random.default_rng(0), 0.1, 0.1)
    assert Group(runs).shown is runs[1]


def test_the_unit_of_curves_follows_from_the_scores_not_from_the_name_of_the_task():
    rows = [{"step": s, "loss": 1.0, "forget": f, "retain": 90.0} for s, f in ((0, 80.0), (10, 20.0))]
    named = {"kind": "unlearn", "method": "salun", "curves": rows}
    own = Record(task="tags", scores={"UA": 80.0, "RA": 90.0, "TA": 85.0}, **named)
    without = Record(task="classification", **named)
    judged = Record(task="tags", scores={"UA": 80.0, "TA": 85.0, "FID_judge": 3.0}, **named)
    units = ["accuracy, %" in curves(r, None)[1].svg for r in (own, without, judged)]
    assert units == [True, False, False]
    assert "Accuracy on samples of both sets." in page([own])
    for other in (without, judged):
        assert "Score on samples of both sets" in page([other])
