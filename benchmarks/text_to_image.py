"""Erasing a concept from a text-to-image pipeline that can draw it: methods and mask controls, tuned at an equal budget.

    EXPUNGE_DATA=... python benchmarks/text_to_image.py [--pipeline FOLDER] [--out benchmarks/results/text_to_image_fashion.json]

A tiny Stable Diffusion of the real classes is trained on captioned Fashion-MNIST (`tests/fashion_pipeline.py`, some five minutes
on a core) unless `--pipeline` names the folder that an earlier call left. Every method gets three learning rates on one concept,
chosen by (UA + RA) / 2, and then erases three others. Images are drawn by calling the saved pipelines as a user would.
Runs that are in the output file already are not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import fashion_pipeline as fashion
from expunge.audit.image_judge import Judge
from expunge.generation.concepts import Erasure
from expunge.generation.erase import erase
from expunge.generation.erase_presets import settings
from expunge.generation.options import EraseOptions
from expunge.generation.pipelines import load
from expunge.records.atomic_files import write_json
from expunge.records.record import machine
from expunge.tasks.sampling import Sampler

TRIAL = ("boot", "sandal")  # concept and anchor on which learning rates are chosen
CONCEPTS = (("trouser", "dress"), ("bag", "t-shirt"), ("sneaker", "sandal"))  # of seeds 0, 1, 2
COUNT, STEPS = 20, 10  # images a prompt, sampler steps


@dataclass(frozen=True)
class Entry:
    """A row of the table: a method, which weights train, the rates tried, other settings."""

    method: str
    rates: tuple[float, float, float]
    weights: str = "full"
    changes: dict[str, Any] = field(default_factory=dict)


# the settings of the grid of November 2026
ESD = {"epochs": 30, "batch_size": 16, "clip": 1.0, "sample_steps": 20}
RELABEL = {"epochs": 15, "batch_size": 16, "retain_weight": 3.0}
TABLE = {
    "SalUn": Entry("salun", (2e-4, 5e-4, 1e-3), changes=RELABEL),
    "SalUn, random mask": Entry("salun", (2e-4, 5e-4, 1e-3), changes={**RELABEL, "mask": "random"}),
    "SalUn, inverted mask": Entry("salun", (2e-4, 5e-4, 1e-3), changes={**RELABEL, "mask": "inverted"}),
    "RL (SalUn, full mask)": Entry("random_label", (2e-4, 5e-4, 1e-3), changes=RELABEL),
    "RL, cross-attention": Entry("random_label", (5e-4, 1e-3, 2e-3), "cross_attention", RELABEL),
    "ESD-x": Entry("esd", (3e-5, 1e-4, 3e-4), "cross_attention", ESD),
    "ESD-u": Entry("esd", (1e-5, 3e-5, 1e-4), "not_cross_attention", ESD),
    "concept ablation": Entry("concept_ablation", (3e-6, 1e-5, 3e-5), changes={"epochs": 15, "batch_size": 16}),
    "Forget-Me-Not": Entry("forget_me_not", (5e-4, 2e-3, 5e-3), "cross_attention", {"epochs": 30, "batch_size": 16}),
    "GA": Entry("gradient_ascent", (1e-5, 5e-5, 2e-4), changes={"epochs": 5, "batch_size": 16}),
}  # fmt: skip


def recognised(folder: Path, judge: Judge, concept: str) -> tuple[float, float]:
    """UA and RA, percent: images asked for by the concept's prompt not known as it; those of all other prompts known."""
    y = torch.arange(len(fashion.CLASSES))
    prompts = [fashion.CAPTION.format(c) for c in fashion.CLASSES]
    drawn = fashion.draw(load(folder), prompts, COUNT, steps=STEPS)
    right = judge.predict(drawn, y.repeat_interleave(COUNT)).correct.double().view(-1, COUNT).mean(1)
    at = fashion.CLASSES.index(concept)
    return 100 * (1 - right[at].item()), 100 * right[y != at].mean().item()


def once(
    pipeline: Path, judge: Judge, entry: Entry, rate: float, pair: tuple[str, str], seed: int
) -> dict[str, Any]:
    """One erasure, and what users of its folder would get."""
    concept, anchor = pair
    keep = tuple(c for c in fashion.CLASSES if c not in pair)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = erase(
            pipeline,
            Erasure(concept=concept, anchor=anchor, keep=keep),
            settings(entry.method, lr=rate, **entry.changes),
            EraseOptions(
                per_prompt=48,
                weights=entry.weights,  # type: ignore[arg-type]
                sampler=Sampler(steps=20, guidance=2.0, batch_size=100),
                seed=seed,
            ),
            out=Path(folder) / "out",
        )
        ua, ra = recognised(Path(folder) / "out", judge, concept)
    record = done.record
    return {"concept": concept, "anchor": anchor, "seed": seed, "lr": rate, "UA": ua, "RA": ra, "seconds": record.seconds,
            "ended": record.ended, "steps": record.details["trained"]["steps"]}  # fmt: skip


def table(pipeline: Path, judge: Judge, out: Path) -> None:
    """Every row's trials and runs; the file is written after each, and what it holds is kept."""
    known = json.loads(out.read_text()) if out.exists() else {"trials": {}, "runs": {}}
    known |= {
        "what": __doc__.strip().splitlines()[0],  # type: ignore[union-attr]
        "command": "python benchmarks/text_to_image.py",
        "date": str(date.today()),
        "machine": machine(),
        "judge": judge.accuracy,
    }
    known["before"] = {c: recognised(pipeline, judge, c) for c, _ in (*CONCEPTS, TRIAL)}
    for name, entry in TABLE.items():
        trials = known["trials"].setdefault(name, [])
        for rate in entry.rates[len(trials) :]:
            trials.append(once(pipeline, judge, entry, rate, TRIAL, 100))
            write_json(out, known)
        chosen = max(trials, key=lambda t: t["UA"] + t["RA"])["lr"]
        runs = known["runs"].setdefault(name, [])
        for seed in range(len(runs), len(CONCEPTS)):
            runs.append(once(pipeline, judge, entry, chosen, CONCEPTS[seed], seed))
            write_json(out, known)
            print(name, runs[-1], flush=True)
    print(markdown(known))


def markdown(known: dict[str, Any]) -> str:
    """The table of the docs: mean and range over the concepts."""
    lines = ["| | rate | UA | RA | seconds |", "| --- | --- | --- | --- | --- |"]
    before = [known["before"][c] for c, _ in CONCEPTS]
    lines.append(f"| before | | {_span([b[0] for b in before])} | {_span([b[1] for b in before])} | |")
    for name, runs in known["runs"].items():
        cells = [_span([r[key] for r in runs]) for key in ("UA", "RA", "seconds")]
        lines.append(f"| {name} | {runs[0]['lr']:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--pipeline", type=Path, help="folder of a pipeline that an earlier call trained")
    asked.add_argument(
        "--work", type=Path, default=Path("demo/text-to-image"), help="where it is trained otherwise"
    )
    asked.add_argument("--out", type=Path, default=Path("benchmarks/results/text_to_image_fashion.json"))
    given = asked.parse_args()
    place = given.pipeline or given.work / "pipeline"
    if place.exists():
        table(place, fashion.train_the_judge()[0], given.out)
    else:
        given.work.mkdir(parents=True, exist_ok=True)
        made = fashion.build_pipeline(given.work)
        table(made.folder, made.judge, given.out)
