"""Published settings and numbers of steps of the methods that erase concepts from text-to-image pipelines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import ExpungeError
from ..tasks.diffusion import Diffusion
from ..training.method import Method
from ..training.registry import find, names, serves, unsuited_text
from .forget_me_not import ForgetMeNot
from .pipeline_index import Kind
from .trainable import Weights

# SalUn for Stable Diffusion, from the released code of arXiv:2310.12508: Adam 1e-5, batch size 8, alpha 0.5 (both terms
# are means in that code), all parameters of the UNet. ESD: the authors' code of 2025 for Stable Diffusion (Adam 5e-5,
# batch size 1, 50 sampler steps at scale 3). Concept ablation: 2e-6 (arXiv:2303.13516).
_ADAM = {"optimizer": "adam", "weight_decay": 0.0, "clip": 1.0, "batch_size": 8}
_RELABEL = {**_ADAM, "lr": 1e-5, "order": "paired", "relabel": "next", "retain_weight": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "salun": {**_RELABEL, "density": 0.5},
    "random_label": _RELABEL,
    "gradient_ascent": {**_ADAM, "lr": 1e-6},
    "finetune": {**_ADAM, "lr": 1e-5},
    "esd": {
        "optimizer": "adam",
        "weight_decay": 0.0,
        "clip": None,
        "batch_size": 1,
        "lr": 5e-5,
        "sample_steps": 50,
    },
    "concept_ablation": {**_ADAM, "lr": 2e-6, "anchor": 1},
}
# Published: SalUn's code takes 5 epochs of about 120 steps on a class of Imagenette, ESD 200 steps (its code of 2025;
# 1000 in the paper), concept ablation 200 on one GPU (its README), Forget-Me-Not 35. Ours: random_label as SalUn; the
# others are not tuned.
STEPS = {
    "salun": 600,
    "random_label": 600,
    "esd": 200,
    "concept_ablation": 200,
    "forget_me_not": 35,
    "selective_amnesia": 1000,
    "gradient_ascent": 100,
    "finetune": 600,
}
# methods that serve only pipelines
PIPELINE_METHODS: dict[str, type[Method]] = {"forget_me_not": ForgetMeNot}


def weights_for(name: str, kind: Kind) -> Weights:
    """Return the parameters that a method trains by default: ESD-x, as its authors do, and all for other methods.

    A DiT has no cross-attention.
    """
    return "cross_attention" if name == "esd" and kind != "dit" else "full"


def settings(name: str, **changes: Any) -> Method:
    """Return a method with its published settings for Stable Diffusion. `STEPS` has the published number of steps.

    Args:
        name: Name of the method, or `package.module:Class` for a class of your own, which keeps its own defaults.
        changes: Settings that differ from the published ones.

    Raises:
        ExpungeError: If the method cannot erase concepts from pipelines.

    Example:
        >>> settings("salun", lr=2e-5).density
        0.5
    """
    if name in PIPELINE_METHODS:
        return replace(PIPELINE_METHODS[name](), **changes)
    if ":" in name:
        method = find(name)
        if not serves(method, Diffusion):
            raise ExpungeError(unsuited_text(method, Diffusion))
        return replace(method(), **changes)
    if name not in names() or not serves(find(name), Diffusion):
        raise ExpungeError(f"'{name}' has no form for pipelines; choose one of {', '.join(STEPS)}.")
    return replace(find(name)(), **{**SETTINGS.get(name, _ADAM), **changes})
