"""Checks of an erasure that run before hours of sampling and training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import ExpungeError, ModelError, raise_all
from ..methods.concept_ablation import ConceptAblation
from ..tasks.diffusion import Diffusion
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import seed_problems
from ..training.method import GradientMethod, Method
from ..training.registry import serves, unsuited_text
from ..training.settings import settings_problems
from .concepts import TEMPLATES, Erasure
from .forget_me_not import ForgetMeNot
from .options import EraseOptions
from .prompted import Prompted
from .same_prompts import same_prompt_problems
from .trainable import lora_problems, weights_problems


def check(
    erasure: Erasure,
    method: Method,
    options: EraseOptions,
    folder: str | Path,
    out: str | Path | None,
    state_file: str | Path | None = None,
) -> None:
    """Check everything that needs no parameters.

    Raises:
        ExpungeError: With every problem.
    """
    problems = erasure.problems() + seed_problems(options.seed) + method_problems(method)
    reads = [Path(path) for path in (folder, options.images) if path is not None]
    writes = [Path(path) for path in (out, options.spill, state_file) if path is not None]
    problems += [problem for path in writes for problem in inside_problems(path, *reads)]
    if out is not None:
        problems += place_problems(Path(out))
        if options.keep_failed:
            problems += place_problems(Path(out).with_name(f"{Path(out).name}.failed"))
    if options.safe and len(erasure.words) > 1:
        problems.append(
            "safe latent diffusion steers away from one concept; give one concept, or leave it out (--safe)."
        )
    if isinstance(method, ConceptAblation) and len(set(erasure.anchors)) > 1:
        problems.append(
            f"concept ablation has one anchor, and {len(set(erasure.anchors))} are given; give one for all concepts, or use esd or salun."
        )
    if options.lora is not None:
        problems += lora_problems(options.lora, options.weights)
        if isinstance(method, GradientMethod) and method.density < 1:
            problems.append("LoRA adapters start at zero and have no saliency; set density to 1 with LoRA.")
    if options.half and not (options.lora and options.compute.amp == "bf16"):
        problems.append("half needs frozen parameters: use it together with lora and amp bf16.")
    problems += [
        f"{name} is {value}; it must be at least 1."
        for name, value in (("steps", options.steps), ("per_prompt", options.per_prompt))
        if value is not None and value < 1
    ]
    raise_all(problems)


def method_problems(method: Method) -> list[str]:
    """Return the reasons why the method cannot erase a concept from any pipeline."""
    problems = settings_problems(method)
    name = type(method).__name__
    if method.exact:
        problems.append(
            f"{name} trains fresh weights, and no pipeline can be trained from scratch here; "
            "choose a method of `expunge erase --help`."
        )
    elif not serves(type(method), Diffusion):
        problems.append(unsuited_text(type(method), Diffusion))
    if method.scenarios and "class" not in method.scenarios:
        problems.append(
            f"{name} cannot forget a concept; it serves forget sets of {' or '.join(method.scenarios)}. "
            "Choose a method of `expunge erase --help`."
        )
    return problems


def place_problems(out: Path) -> list[str]:
    """Return the reasons why the folder `out` cannot be created."""
    if os.path.lexists(out):
        return [f"{out} exists and is not replaced; name another folder."]
    parent = next(p for p in out.absolute().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return [f"{out} cannot be written: {parent} is not a writable folder; name another folder."]
    return []


def inside_problems(path: Path, *reads: Path) -> list[str]:
    """Return a sentence for each folder in `reads` that the file or folder `path` would be written into, also through links."""
    try:
        real = path.resolve()
        places = [p for p in (real, *real.parents) if p.is_dir()]
        inside = [read for read in reads if read.is_dir() and any(p.samefile(read) for p in places)]
        same = [read for read in inside if real.is_dir() and real.samefile(read)]
    # a loop of links
    except (OSError, RuntimeError) as error:
        return [f"{path} cannot be written: {error}; name another place."]
    return [
        f"{read} is only read; name another folder to write."
        if read in same
        else f"{path} lies inside {read}, which is only read; name a place outside it."
        for read in inside
    ]


def check_loaded(
    original: Prompted,
    task: Diffusion,
    method: Method,
    options: EraseOptions,
    erasure: Erasure,
    sampler: Sampler,
) -> None:
    """Check the method and the options against the loaded pipeline.

    Raises:
        ModelError: With every problem.
    """
    is_dit = original.labels is not None
    problems = weights_problems(original, options.weights) + same_prompt_problems(original, erasure)
    if is_dit and options.lora:
        problems.append(
            "the DiT pipeline of diffusers has no place for LoRA weights; train full weights without lora."
        )
    if is_dit and erasure.templates != TEMPLATES:
        problems.append("a DiT takes classes as conditions, not sentences; remove the templates.")
    if isinstance(method, ForgetMeNot):
        problems += method.unmet(original, erasure.concepts(is_dit))
    raise_all(problems + _steps_problems(task, method, sampler), ModelError)


def _steps_problems(task: Diffusion, method: Method, sampler: Sampler) -> list[str]:
    """Return the problems of the sampler steps: those of `sampler`, and those that the method takes itself."""
    problems: list[str] = []
    samplers = [sampler]
    if (method_steps := getattr(method, "sample_steps", None)) is not None:
        samplers.append(replace(Sampler(), steps=method_steps))
    for each in samplers:
        try:
            each.scheduler(task)
        except ExpungeError as error:
            problems += [p for p in error.problems if p not in problems]
    return problems
