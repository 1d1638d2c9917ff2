"""The strong audit on scikit-learn's digits: SalUn against shadow models, and what features tell of a forgotten class.

    python benchmarks/strong_audit.py [--shadows 32] [--work DIR] [--out benchmarks/results/strong_audit_digits.json]

Model, recipe and methods' settings are those of `expunge demo --data digits`, seed 0; Retrain has seeds 0, 1, 2. Shadow models
that lie in the work folder are not trained again: the seconds in the JSON are of those that were `made`.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import cyclopts
import torch

from expunge.audit.strong import StrongSettings, strong_audit
from expunge.bench.results import revision
from expunge.data.split_settings import SplitSpec
from expunge.models import build
from expunge.pipeline.experiment import Outcome, experiment, judge_run, seeded_factory, train
from expunge.records.atomic_files import write_json
from expunge.records.record import machine, plain
from expunge.records.statistics import stat_text
from expunge.sources import load
from expunge.tasks.classification import Classification
from expunge.training.run import Run
from expunge.tuning import presets

SEEDS = (0, 1, 2)  # of Retrain; all else has the first
RETRAINED = tuple(f"retrain {seed}" for seed in SEEDS)
METHODS = ("bias_shift", "salun", "nhle", "ugradsl_plus")  # on the forgotten class
# rows of the tables, by their names in a record
FEATURES = ("corrected_forgotten", "corrected_retained", "probe_forgotten", "knn_forgotten", "scatter", "cka_original", "tv_retrained")  # fmt: skip
POPULATION_FIGURES = (("U-LiRA", "auc"), ("U-LiRA", "tpr_at_1"), ("RMIA", "auc"), ("forgetting score", "final"),
                      ("KLOM", "forget"), ("KLOM", "retain"), ("KLOM", "test"))  # fmt: skip
SOURCE, RECIPE = load("digits"), presets.recipe("digits")
TASK = Classification(len(SOURCE.classes))


@cyclopts.Parameter(name="*", consume_multiple=True)
@dataclass(frozen=True, kw_only=True)
class Options:
    """How many shadow models, and where things are kept."""

    shadows: int = 32  # originals, and as many retrained models
    # where shadow models are kept, so that a run that was cut off goes on; none: a temporary folder
    work: Path | None = None
    out: Path = Path("benchmarks/results/strong_audit_digits.json")


class Clock:
    """Seconds of each shadow population, by the wall and of the processor: the machine may be at other work."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self.last = (time.perf_counter(), time.process_time())

    def __call__(self, kind: str, done: int, total: int) -> None:
        """Told after each shadow model, so that the time since the last call is this one's."""
        now = (time.perf_counter(), time.process_time())
        row = self.found.setdefault(kind, {"made": 0, "wall": 0.0, "cpu": 0.0})
        row["made"] += 1
        row["wall"] += now[0] - self.last[0]
        row["cpu"] += now[1] - self.last[1]
        self.last = now
        print(f"{kind}: {done} of {total}", flush=True)


def fresh() -> torch.nn.Module:
    """Fresh weights from torch's global random state, as shadow models need them."""
    return build(presets.MODELS["digits"], num_classes=len(SOURCE.classes), shape=SOURCE.shape)


def runs(split: Any, methods: tuple[str, ...]) -> dict[str, Outcome]:
    """The original, Retrain of every seed, and the methods, as the demonstration would make them of this split."""
    begun = train(seeded_factory(fresh, SEEDS[0])(), split, RECIPE, TASK, seed=SEEDS[0])
    # judged on the split itself: the one it was trained on has the forget set among the retain samples
    whole = Run(begun.model, split, TASK, SEEDS[0])
    found = {"original": judge_run(whole, RECIPE, kind="original")}
    for seed, name in zip(SEEDS, RETRAINED, strict=True):
        factory = seeded_factory(fresh, seed)
        found[name] = experiment(begun.model, split, RECIPE, TASK, kind="retrain", seed=seed, factory=factory)
    beside = {"original": found["original"].evaluation, "retrained": found[RETRAINED[0]].evaluation}
    for name in methods:
        method = presets.method(name, "digits", split.scenario)
        found[name] = experiment(begun.model, split, method, TASK, seed=SEEDS[0], **beside)
    return found


def told(made: dict[str, Outcome], name: str, clock: Any = None, **settings: Any) -> dict[str, Any]:
    """The strong audit with the model of this name in the place of the one under test, beside its scores."""
    record = made[name].record
    found = strong_audit(
        made[name].model, made[name].run.split, TASK, original=made["original"].model, retrained=made[RETRAINED[0]].model,
        method=presets.method("salun", "digits", "random") if clock else None, recipe=RECIPE,
        evaluations={k: made[n].evaluation for k, n in (("original", "original"), ("unlearned", name), ("retrained", RETRAINED[0]))},
        retrained_scores=[made[k].record.scores for k in RETRAINED], settings=StrongSettings(**settings),
        factory=fresh, on_step=clock,
    )  # fmt: skip
    assert found.verdict is not None
    return {"settings": record.settings, "scores": record.scores, "status": record.status, "attacks": found.attacks,
            "features": {measure: row["unlearned"] for measure, row in found.features.items()},
            "verdict": {"words": found.verdict.words, "sentences": found.verdict.sentences}}  # fmt: skip


def at_random(shadows: int, folder: Path) -> dict[str, Any]:
    """SalUn on a random tenth against shadow models; the original and Retrain in the place of its model as well."""
    split, load = SplitSpec(forget_share=0.1).draw(SOURCE.train, SOURCE.test), os.getloadavg()
    made, clock = runs(split, ("salun",)), Clock()  # after the runs: they are no part of the attack's cost
    how: dict[str, Any] = {"shadows": shadows, "folder": folder}
    salun = told(made, "salun", clock, attacks=("lira", "rmia", "challenge", "klom"), **how)
    placed = {k: told(made, k, clock, attacks=("lira",), **how) for k in ("original", *RETRAINED)}
    placed_auc = {k: row["attacks"]["U-LiRA"]["auc_this_model"] for k, row in placed.items()}
    scores = {k: row["scores"] for k, row in placed.items()}
    return {"split": split.to_dict(), "sizes": split.sizes, "seconds": clock.found, "load": (load, os.getloadavg()),
            "salun": salun, "auc_of_others_in_its_place": placed_auc, "scores_of_others": scores}  # fmt: skip


def by_class() -> dict[str, Any]:
    """Class 3 forgotten: features and relearning of the methods, the original and each Retrain, beside the first Retrain."""
    split, load = SplitSpec(forget_class=("3",)).draw(SOURCE.train, SOURCE.test), os.getloadavg()
    made = runs(split, METHODS)
    rows = {name: told(made, name, attacks=("relearning", "features")) for name in made}
    return {"split": split.to_dict(), "sizes": split.sizes, "load": (load, os.getloadavg()), "runs": rows}


def tables(attacks: dict[str, Any], rows: dict[str, Any]) -> str:
    """Both tables of the docs; in Retrain's column the mean and sample standard deviation of its seeds."""
    lines = ["| | SalUn | without unlearning | null |", "| --- | --- | --- | --- |"]
    for name, key in POPULATION_FIGURES:
        cells = [stat_text([attacks[name].get(key + end)], 4) for end in ("", "_original", "_null")]
        lines.append(f"| {name}, {key} | {' | '.join(cells)} |")
    columns = {"original": ["original"], "Retrain": list(RETRAINED), **{m: [m] for m in METHODS}}
    lines += ["", "| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for key in FEATURES:
        cells = [stat_text((rows[n]["features"][key] for n in names), 2) for names in columns.values()]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    for rule in ("sgd", "adam"):
        found = [[rows[n]["attacks"]["relearning delay"][rule] for n in names] for names in columns.values()]
        cells = [", ".join(f"{d['steps']} ({stat_text([d['delay']])})" for d in each) for each in found]
        lines.append(f"| steps (delay), {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(options: Options = Options()) -> None:
    """Both parts, the file, the tables."""
    torch.set_num_threads(1)  # seconds are of one core, whatever the machine has
    about = {"what": "digits 8x8: 10 % at random against shadow models, class 3 by features and relearning",
             "command": "python benchmarks/strong_audit.py", "date": str(date.today()), "revision": revision(),
             "machine": machine(), "shadows": options.shadows, "seeds": {"runs": SEEDS[0], "retrain": SEEDS}}  # fmt: skip
    about["class"] = by_class()
    with tempfile.TemporaryDirectory() as temporary:
        about["random"] = at_random(options.shadows, options.work or Path(temporary))
    write_json(options.out, plain(about))
    print(tables(about["random"]["salun"]["attacks"], about["class"]["runs"]))


if __name__ == "__main__":
    cyclopts.run(main)
