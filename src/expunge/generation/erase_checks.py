"""What an erasure can be refused for, all of it before hours of drawing and training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import ExpungeError, ModelError, raise_all
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import check_seed
from ..training.method import GradientMethod, Method
from ..training.registry import serves, unsuited_text
from ..training.run import Compute
from ..training.settings import faults
from .concepts import TEMPLATES, Erasure
from .forget_me_not import ForgetMeNot
from .pipelines import Weights, lora_problems, weights_problems
from .prompted import Prompted


def check(
    erasure: Erasure,
    method: Method,
    out: str | Path | None,
    lora: int | None,
    weights: Weights,
    half: bool,
    compute: Compute,
    steps: int | None,
    per_prompt: int,
    seed: int,
) -> None:
    """Raise `ExpungeError` with every reason why this can't be done, before anything is opened."""
    erasure.check()
    check_seed(seed)
    problems = method_problems(method)
    if out is not None:
        problems += place_problems(Path(out))
    if lora is not None:
        problems += lora_problems(lora, weights)
        if isinstance(method, GradientMethod) and method.density < 1:
            problems.append(
                "low-rank additions start at zero and have no saliency there; use density 1 with LoRA."
            )
    if half and not (lora and compute.amp == "bf16"):
        problems.append(
            "only frozen weights may be held in bfloat16: use half together with lora and amp bf16."
        )
    problems += [
        f"{name} is {value}; it must be at least 1."
        for name, value in (("steps", steps), ("per_prompt", per_prompt))
        if value is not None and value < 1
    ]
    raise_all(problems)


def method_problems(method: Method) -> list[str]:
    """What speaks against this method, with its settings, on any pipeline, a sentence each."""
    found = faults(method)
    name = type(method).__name__
    if method.exact:
        found.append(
            f"{name} trains fresh weights, which no pipeline can be made of here; see `expunge erase --help`."
        )
    elif not serves(type(method), Diffusion):
        found.append(unsuited_text(type(method), Diffusion))
    if method.scenarios and "class" not in method.scenarios:
        found.append(f"{name} serves no forget set that is a concept; see `expunge erase --help`.")
    return found


def place_problems(out: Path) -> list[str]:
    """What speaks against a new folder there, a sentence each."""
    if out.exists():
        return [f"{out} exists and is not replaced; name another folder."]
    above = next(p for p in out.absolute().parents if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        return [f"{out} cannot be written: {above} is no folder that one may write to; name another place."]
    return []


def check_loaded(
    original: Prompted,
    task: Diffusion,
    method: Method,
    lora: int | None,
    weights: Weights,
    erasure: Erasure,
    sampler: Sampler,
) -> None:
    """Raise `ModelError` with everything that this pipeline has no place for, before hours of drawing."""
    plain = original.labels is not None
    problems = weights_problems(original, weights)
    if plain and lora:
        problems.append(
            "diffusers' DiT pipeline has no place for LoRA weights; leave lora out and train full weights."
        )
    if plain and erasure.templates != TEMPLATES:
        problems.append("a DiT is told classes, not sentences; leave the templates out.")
    if isinstance(method, ForgetMeNot):
        problems += method.unmet(original, erasure.concepts(plain))
    raise_all(problems + _steps_problems(task, method, sampler), ModelError)


def _steps_problems(task: Diffusion, method: Method, sampler: Sampler) -> list[str]:
    """What speaks against the steps that images are drawn with: those of `sampler`, and the method's own."""
    found: list[str] = []
    own = getattr(method, "sample_steps", None)
    for one in (sampler, *([] if own is None else [replace(Sampler(), steps=own)])):
        try:
            one.scheduler(task)
        except ExpungeError as error:
            found += [p for p in error.problems if p not in found]
    return found
