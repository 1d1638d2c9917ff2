"""The published settings of the methods that erase concepts from text-to-image pipelines, and how many steps they take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import ExpungeError
from ..tasks.diffusion import Diffusion
from ..training.method import Method
from ..training.registry import find, names, serves
from .forget_me_not import ForgetMeNot

# SalUn for Stable Diffusion, released code of arXiv:2310.12508: Adam 1e-5, batch 8, alpha 0.5 (both terms are means there), the
# whole UNet; ESD: 1e-5 (arXiv:2303.07345); concept ablation: 2e-6 (arXiv:2303.13516).
_ADAM = {"optimizer": "adam", "weight_decay": 0.0, "clip": 1.0, "batch_size": 8}
_RELABEL = {**_ADAM, "lr": 1e-5, "order": "paired", "relabel": "next", "retain_weight": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "salun": {**_RELABEL, "density": 0.5},
    "random_label": _RELABEL,
    "gradient_ascent": {**_ADAM, "lr": 1e-6},
    "finetune": {**_ADAM, "lr": 1e-5},
    "esd": {**_ADAM, "lr": 1e-5},
    "concept_ablation": {**_ADAM, "lr": 2e-6, "anchor": 1},
}
# Steps: SalUn's code takes 5 passes of about 120 steps on a class of Imagenette, ESD 1000, concept ablation 200 on one GPU (its
# README), Forget-Me-Not 35. The others are ours: RL as SalUn, the rest untuned.
STEPS = {
    "salun": 600,
    "random_label": 600,
    "esd": 1000,
    "concept_ablation": 200,
    "forget_me_not": 35,
    "selective_amnesia": 1000,
    "gradient_ascent": 100,
    "finetune": 600,
}
OWN: dict[str, type[Method]] = {"forget_me_not": ForgetMeNot}  # methods that serve pipelines only


def settings(name: str, **changes: Any) -> Method:
    """A method with its published settings for Stable Diffusion, and `changes`; the published number of steps is in `STEPS`.

    Raises `ExpungeError` for a name of no method that has a form for pipelines.
    """
    if name in OWN:
        return replace(OWN[name](), **changes)
    if name not in names() or not serves(find(name), Diffusion):
        raise ExpungeError(f"'{name}' has no form for pipelines; those that have: {', '.join(STEPS)}.")
    return replace(find(name)(), **{**SETTINGS.get(name, _ADAM), **changes})
