"""The schedulers of pipeline folders: which ones the losses of an erasure serve, and signs of a model of few steps.

The losses are those of a diffusion model with discrete noise levels that predicts noise, v or the sample. Flow matching has other
levels. A model that is distilled to a few steps has another loss, and training it with this one undoes the distillation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

# the schedulers of diffusers that only sample a diffusion model in their own way
SCHEDULERS = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "SASolverScheduler",
)
# schedulers that were made for models of few steps
FEW_STEPS = ("LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler")
# published models of few steps whose scheduler is an ordinary one
FEW_STEP_MODELS = (
    "sd-turbo",
    "sdxl-turbo",
    "sdxl-lightning",
    "hyper-sd",
    "lcm_dreamshaper_v7",
    "lcm-sdxl",
    "lcm-ssd-1b",
)


def few_step_advice(what: str) -> str:
    """Return why `what`, a model of few steps, is refused, and what to do."""
    return (
        f"{what} is distilled to a few steps, which the loss of a diffusion model would undo; erase from the pipeline that "
        f"{what} was distilled from"
    )


def scheduler_problems(
    part: Path, class_name: str, config: dict[str, Any], model_names: Iterable[Any]
) -> list[str]:
    """Return why the noise levels of a scheduler, or its model, cannot be served.

    Args:
        part: Folder of the scheduler.
        class_name: Its class by `model_index.json`, which diffusers opens.
        config: Its configuration.
        model_names: Names under which the pipeline and its denoiser were opened before they were saved.
    """
    problems = []
    own = config.get("_class_name")
    for name in dict.fromkeys((class_name, own if isinstance(own, str) else class_name)):
        if name in FEW_STEPS:
            problems.append(
                f"the scheduler in {part} is a {name}, so {few_step_advice('the denoiser')}, and attach the LoRA of few steps "
                "to the result. If nothing of few steps was merged, save the pipeline with the scheduler of the original, such as "
                "DDIMScheduler."
            )
        elif name not in SCHEDULERS:
            what = "flow matching" if "Flow" in name else "unknown noise levels"
            problems.append(
                f"the scheduler in {part} is a {name} ({what}); known: {', '.join(SCHEDULERS)}. If the model predicts noise, v or "
                "the sample, save the pipeline with the scheduler of its training, such as DDPMScheduler."
            )
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        problems.append(
            f"the scheduler in {part} is set to flow matching (use_flow_sigmas or prediction_type flow_prediction), which is not "
            "supported; use a pipeline that predicts noise, v or the sample."
        )
    if config.get("timestep_type") == "continuous":
        problems.append(
            f"the scheduler in {part} has continuous noise levels (timestep_type), which are not supported; use a pipeline with "
            "discrete ones."
        )
    if known := _known_few_steps(model_names):
        problems.append(f"the model is {known}: {few_step_advice('it')}.")
    return problems


def few_step_doubt(part: Path, config: dict[str, Any]) -> str:
    """Return a sentence if the spacing of the steps is that of models of few steps. Empty without a doubt.

    Ordinary models have this spacing too, above all those that predict v from levels without any signal (arXiv 2305.08891).
    """
    ordinary = config.get("prediction_type") == "v_prediction" or config.get("rescale_betas_zero_snr")
    if config.get("timestep_spacing") != "trailing" or ordinary:
        return ""
    return (
        f"the scheduler in {part} spaces its steps as models of few steps do (timestep_spacing is trailing). If the model is "
        "distilled to a few steps, such as SD-Turbo, or has a LoRA of few steps merged, erasing undoes that; erase from the "
        "pipeline that it was distilled from."
    )


def _known_few_steps(names: Iterable[Any]) -> str:
    return next(
        (n for n in names if isinstance(n, str) and PurePosixPath(n).name.lower() in FEW_STEP_MODELS), ""
    )
