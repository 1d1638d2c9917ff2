"""Invented records for tests of the report's layout. Nothing here was measured; none may stand in docs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from expunge.records.record import Record

CLASSES = [str(k) for k in range(10)]
FORGOTTEN = 3
MACHINE = {
    "system": "Linux",
    "arch": "x86_64",
    "cores": 2,
    "threads": 2,
    "python": "3.11.2",
    "expunge": "0.1.0",
    "torch": "2.13.0",
}
TARGET = {"UA": 100.0, "RA": 99.6, "TA": 97.9, "MIA": 100.0}
SHIFT = {
    "salun": (-0.4, -0.3, -0.6, -1.1),
    "ugradsl_plus": (0.0, -1.4, -2.2, 0.0),
    "nhle": (0.0, -2.8, -3.9, 0.0),
    "rl": (-3.1, -0.2, -0.8, -6.5),
    "ft": (-61.0, 0.3, 0.2, -55.0),
    "ga": (-7.0, -14.0, -16.5, -9.0),
}


def png(rng: np.random.Generator, size: int = 8) -> str:
    """A small grey picture as base64 PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((rng.random((size, size)) * 255).astype(np.uint8)).resize(
        (32, 32), Image.Resampling.NEAREST
    ).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def histogram(rng: np.random.Generator, sure: float, n: int) -> list[int]:
    """Counts of n confidences in 20 bins, towards 1 for `sure` above 1, towards 0 below."""
    return [
        int(c)
        for c in np.histogram(
            rng.beta(sure, 1.0, n) if sure >= 1 else rng.beta(0.4, 1 / sure, n), 20, (0, 1)
        )[0]
    ]


def details(rng: np.random.Generator, residue: float, loss: float) -> dict[str, Any]:
    """What the report can draw of a classifier; `residue` stays of the class, `loss` is what it cost."""
    sets = {"forget": 140, "retain": 1080, "test": 320}
    gone = {s: histogram(rng, 0.05 if s == "forget" else 12, n) for s, n in sets.items()}
    before = {s: histogram(rng, 15, n) for s, n in sets.items()}
    after = {
        s: histogram(rng, 0.05 + residue if s == "forget" else 12 - 6 * loss, n) for s, n in sets.items()
    }
    original = 97 + 3 * rng.random(10)
    unlearned, retrained = original - 3 * loss * rng.random(10), original - 0.8 * rng.random(10)
    unlearned[FORGOTTEN], retrained[FORGOTTEN] = 100 * residue, 0.0
    share, there = rng.dirichlet(np.ones(10)), rng.dirichlet(np.ones(10) * 2)
    share[FORGOTTEN], there[FORGOTTEN] = residue, 0.0
    label = rng.integers(0, 10, 400)
    centre = rng.normal(0, 6, (10, 2))
    cloud = {
        m: (centre + shift)[label] + rng.normal(0, 1.1, (400, 2))
        for m, shift in (
            ("original", 0.0),
            ("unlearned", rng.normal(0, 2, (10, 2))),
            ("retrained", rng.normal(0, 2, (10, 2))),
        )
    }
    guess = rng.integers(0, 10, 8)
    return {
        "histograms": {
            "bins": np.linspace(0, 1, 21).tolist(),
            "original": before,
            "unlearned": after,
            "retrained": gone,
        },
        "per_class": {
            "original": original.tolist(),
            "unlearned": unlearned.tolist(),
            "retrained": retrained.tolist(),
        },
        "redistribution": {
            "original": np.eye(10)[FORGOTTEN].tolist(),
            "unlearned": (share / share.sum()).tolist(),
            "retrained": (there / there.sum()).tolist(),
        },
        "embedding": {
            **{m: {"x": c[:, 0].tolist(), "y": c[:, 1].tolist()} for m, c in cloud.items()},
            "label": label.tolist(),
            "set": ["forget" if k == FORGOTTEN else "retain" for k in label],
        },
        "examples": [
            {
                "png": png(rng),
                "label": FORGOTTEN,
                "id": f"train/{17 * i}",
                "original": {"class": FORGOTTEN, "confidence": 0.99},
                "unlearned": {"class": int(g), "confidence": 0.4},
                "retrained": {"class": 8, "confidence": 0.7},
            }
            for i, g in enumerate(guess)
        ],
    }


def curves(rng: np.random.Generator, end: dict[str, float], steps: int = 90) -> list[dict[str, Any]]:
    """A run that comes in from the original's accuracies to those of `end`."""
    rows: list[dict[str, Any]] = [{"step": 0, "epoch": 0, "loss": None, "retain": 100.0, "forget": 100.0}]
    for step in range(10, steps + 1, 10):
        left = float(np.exp(-step / 18))
        rows.append(
            {
                "step": step,
                "epoch": step // 10,
                "loss": 0.2 + 2.6 * left + 0.05 * float(rng.random()),
                "retain": end["RA"] - 8 * left * float(rng.random()),
                "forget": 100 - end["UA"] * (1 - left),
            }
        )
    return rows


def record(
    kind: str, method: str, scores: dict[str, float], seed: int, seconds: float, **more: Any
) -> Record:
    """A run on the invented setting."""
    split = {
        "scenario": "class",
        "forget": [FORGOTTEN],
        "share": 1.0,
        "goal": "unlearn",
        "validation": 0.1,
        "seed": seed,
        "classes": 10,
        "sizes": {
            "forget": 140,
            "retain": 1080,
            "validation": 120,
            "test": 320,
            "test_forgotten": 37,
            "withheld": 13,
        },
        "forget_classes": [FORGOTTEN],
        "hash": f"{seed:064x}",
        "train_hash": f"{seed + 99:064x}",
    }
    values = {
        "model": {"name": "small_cnn", "parameters": 24_586, "hash_before": "0" * 64, "hash_after": "f" * 64},
        "data": {"name": "digits", "classes": CLASSES},
        "split": split,
        "machine": dict(MACHINE),
        "created": "2026-01-02T03:04:05+00:00",
        "command": f"expunge unlearn {method} --data digits --forget 3 --seed {seed}",
        "peak_memory": 312_000_000,
        **more,
    }
    return Record(kind=kind, method=method, seed=seed, scores=scores, seconds=seconds, **values)


def sample(seeds: int = 1) -> list[Record]:
    """Original, Retrain and six methods, each with everything the report can draw."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.3, 4) if seeds > 1 else np.zeros(4)
        found.append(
            record(
                "original",
                "original",
                {"UA": 0.0, "RA": 100.0, "TA": 98.4, "MIA": 0.7, "MIA_entropy": 1.4},
                seed,
                9.1,
            )
        )
        there = {m: min(v + float(n), 100.0) for (m, v), n in zip(TARGET.items(), noise, strict=True)}
        found.append(record("retrain", "retrain", {**there, "MIA_entropy": 99.0}, seed, 8.7))
        for i, (method, shift) in enumerate(SHIFT.items()):
            scores = {
                m: min(v + s + float(rng.normal(0, 0.3)) * (seeds > 1), 100.0)
                for (m, v), s in zip(TARGET.items(), shift, strict=True)
            }
            more: dict[str, Any] = {
                "details": details(rng, (100 - scores["UA"]) / 100, 0.2 + 0.15 * i),
                "curves": curves(rng, scores),
                "settings": {
                    "epochs": 10,
                    "lr": 0.013,
                    "density": 0.5 if method == "salun" else 1.0,
                    "clip": None,
                },
            }
            if method == "nhle":
                more["details"]["table2x2"] = [
                    {
                        "nhle": n,
                        "masking": m,
                        "forget_accuracy": 0.0 if n or m else 100.0,
                        "retain_accuracy": 99.0 - 2 * n,
                        "test_forgotten_accuracy": 0.0 if n or m else 98.0,
                        "test_retain_accuracy": 97.0 - 2 * n,
                    }
                    for n in (False, True)
                    for m in (False, True)
                ]
            if method == "salun":
                more["details"] |= strong()
            if method == "ga":
                more["status"] = "stopped: retain accuracy fell too far"
            found.append(
                record("unlearn", method, {**scores, "MIA_entropy": 97.0}, seed, 0.6 + 0.4 * i, **more)
            )
    return found


def strong() -> dict[str, Any]:
    """Details of a strong audit, in the ways that figures are named."""
    return {
        "attacks": {
            "U-LiRA": {"auc": 0.53, "tpr_at_1": 0.019, "auc_original": 0.97, "auc_null": 0.5, "shadows": 32},
            "label-only": {"original": {"auc": 0.7}, "unlearned": {"auc": 0.55}, "retrained": {"auc": 0.51}},
            "relearning delay": {"goal": 99.0, "sgd": {"steps": 4, "steps_retrained": None}},
            "learned_condition": {"within": 100, "unlearned_steps": None, "retrained_steps": 25},
        },
        "features": {
            "probe_forgotten": {"original": 99.1, "unlearned": 71.0, "retrained": 64.5},
            "cka_original": {"original": 1.0, "unlearned": 0.8, "retrained": 0.6},
        },
        "verdict": {
            "words": ["under-forgotten"],
            "sentences": ["A probe still finds the class in the features."],
            "limits": ["From one retrained model alone."],
            "figures": {"UA": {"value": 99.6, "retrained": 100.0, "allowed": 0.8, "beyond": False}},
        },
        "limits": ["Thirty-two shadow models: rates below 1 % are coarse."],
    }


def generator() -> list[Record]:
    """A diffusion model before and after, with pictures."""
    rng = np.random.default_rng(7)
    grid = [{"title": t, "png": png(rng, 16), "note": "eight seeds a class"} for t in ("before", "after")]
    runs = [record("original", "original", {"UA": 2.0, "FID_judge": 21.5}, 0, 300.0)]
    curve = [
        {"step": s, "epoch": 0, "loss": 0.05 + 0.2 / (s + 1), "retain": -0.05, "forget": -0.1}
        for s in range(9)
    ]
    for i, method in enumerate(("salun", "esd")):
        scores = {"UA": 99.0 - i, "RA": 90.0, "FID_judge": 23.0 + i, "KID_judge": 0.0123, "diversity": 95.0}
        runs.append(record("unlearn", method, scores, 0, 40.0, details={"images": grid}, curves=curve))
    for run in runs:
        run.task, run.model = "diffusion", {"name": "unet", "parameters": 1_200_000}
    return runs
