"""Concept erasure: from a pipeline folder to a pipeline folder in which the prompt of a concept draws something else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .audit.pictures import png
from .concepts import Erasure, drawn_latents, read_latents, split_of
from .diffusion import Diffusion
from .errors import ExpungeError, raise_all
from .experiment import record_of
from .forget_me_not import ForgetMeNot
from .hashing import state_hash
from .method import GradientMethod, Method, execute, find
from .pipelines import Weights, add_lora, choose_weights, load, save
from .record import Record
from .run import Compute, Row, Run
from .sampling import Sampler
from .text_to_image import Loaded, Prompted

# SalUn for Stable Diffusion, released code of arXiv:2310.12508: Adam 1e-5, batch 8, 5 epochs, alpha 0.5 (both terms are means
# there), the whole UNet; ESD: 1000 steps at 1e-5 (arXiv:2303.07345); concept ablation: arXiv:2303.13516.
_ADAM = {"optimizer": "adam", "weight_decay": 0.0, "clip": 1.0, "batch_size": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "salun": {
        **_ADAM,
        "lr": 1e-5,
        "epochs": 5,
        "order": "paired",
        "relabel": "next",
        "retain_weight": 0.5,
        "density": 0.5,
    },
    "random_label": {
        **_ADAM,
        "lr": 1e-5,
        "epochs": 5,
        "order": "paired",
        "relabel": "next",
        "retain_weight": 0.5,
    },
    "gradient_ascent": {**_ADAM, "lr": 1e-6, "epochs": 2},
    "finetune": {**_ADAM, "lr": 1e-5, "epochs": 1},
    "esd": {**_ADAM, "lr": 1e-5, "epochs": 8},
    "concept_ablation": {**_ADAM, "lr": 2e-6, "epochs": 5, "anchor": 1},
}
OWN: dict[str, type[Method]] = {"forget_me_not": ForgetMeNot}  # methods that serve pipelines only


def settings(name: str, **changes: Any) -> Method:
    """A method with its published settings for Stable Diffusion, and `changes`."""
    if name in OWN:
        return replace(OWN[name](), **changes)
    return replace(find(name)(), **{**SETTINGS.get(name, _ADAM), **changes})


@dataclass(eq=False)
class Erased:
    """What `erase` did: the run, the record, the folder written, and the pieces an audit needs."""

    run: Run
    record: Record
    out: Path | None
    loaded: Loaded
    original: Prompted
    erasure: Erasure
    prompts: list[str] = field(default_factory=list)

    @property
    def model(self) -> Prompted:
        """The erased model; its conditions are `prompts`."""
        return self.run.model  # type: ignore[return-value]


def erase(
    folder: str | Path,
    erasure: Erasure,
    method: Method,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
    per_prompt: int = 64,
    weights: Weights = "full",
    lora: int | None = None,
    half: bool = False,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
    compute: Compute | None = None,
    gradient_checkpointing: bool = False,
    on_row: Callable[[Row], None] | None = None,
    command: str = "",
) -> Erased:
    """Erase a concept from the pipeline in `folder` and write the result, an ordinary pipeline folder, to `out`.

    Training images are those of `images`, a folder with one sub-folder a concept (its name is the concept's), or are drawn by
    the pipeline itself, `per_prompt` a prompt. `weights` says which may train, `method.density` below 1 picks the salient
    among them; `lora` is the rank of low-rank additions instead, and then `out` holds only those, and the frozen weights may
    be held in bfloat16 (`half`). Raises `ExpungeError`s.
    """
    compute, sampler = compute or Compute(), sampler or Sampler(steps=50, guidance=6.5, batch_size=8)
    _check(erasure, method, out, lora, half, compute)
    loaded = load(folder, device=device)
    plain = loaded.kind == "dit"
    if lora and plain:
        raise ExpungeError(
            "diffusers' DiT pipeline has no place for LoRA weights; leave lora out and train full weights."
        )
    before = state_hash(loaded.denoiser.state_dict())
    prompts = erasure.prompts(plain)
    original, task = loaded.prompted(prompts, erasure.concept), loaded.task(len(prompts))
    if half:
        original.denoiser.to(torch.bfloat16)
    if images is not None:
        data = read_latents(loaded, Path(images), erasure, prompts)
    else:
        data = drawn_latents(loaded, original, task, len(prompts), sampler, per_prompt, seed)
    split = split_of(data, erasure.concepts(plain), len(prompts), erasure.concept)
    start = copy.deepcopy(original) if lora else original
    if gradient_checkpointing:
        start.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    trained = add_lora(start.denoiser, lora) if lora else choose_weights(start, weights)
    run = execute(start, split, method, task, seed=seed, compute=compute, on_row=on_row)
    source = "images" if images is not None else "drawn by the pipeline"
    names = {"model": type(loaded.pipeline).__name__, "data": source, "classes": prompts}
    record = record_of("erase", run, method, before=before, command=command, names=names)
    words = {k: v for k, v in asdict(erasure).items() if k != "templates"}
    record.details["erasure"] = {**words, "prompts": prompts}
    record.details["trained"] = {"weights": f"LoRA of rank {lora}" if lora else weights, "count": trained}
    done = Erased(run, record, None, loaded, original, erasure, prompts)
    record.details["images"] = grids(done, sampler, seed=seed)
    if out is not None:
        done.out = save(loaded, done.model, out, lora=bool(lora))
        record.save(done.out / "expunge.json")
    return done


def _check(
    erasure: Erasure, method: Method, out: str | Path | None, lora: int | None, half: bool, compute: Compute
) -> None:
    """Raise `ExpungeError` with every reason why this can't be done, before anything is opened."""
    erasure.check()
    problems = method.problems()
    if out is not None and Path(out).exists():
        problems.append(f"{out} exists and is not replaced; name another folder.")
    if lora and isinstance(method, GradientMethod) and method.density < 1:
        problems.append(
            "low-rank additions start at zero and have no saliency there; use density 1 with LoRA."
        )
    if half and not (lora and compute.amp == "bf16"):
        problems.append(
            "only frozen weights may be held in bfloat16: use half together with lora and amp bf16."
        )
    raise_all(problems)


def grids(erased: Erased, sampler: Sampler, *, count: int = 6, seed: int = 0) -> list[dict[str, str]]:
    """Before and after: a row a prompt, a column a seed, the same in both pictures."""
    task: Diffusion = erased.run.task  # type: ignore[assignment]
    y = torch.arange(len(erased.prompts)).repeat_interleave(count)
    shape = tuple(task.images(next(erased.run.split.retain.take(torch.arange(1)).batches(1))).shape[1:])
    note = "rows: " + ", ".join(f"“{p}”" for p in erased.prompts)
    return [
        {
            "title": title,
            "png": png(erased.loaded.decode(sampler(model, task, y, shape, seed=seed)), count),
            "note": note,
        }
        for title, model in (("before", erased.original), (f"after {erased.record.method}", erased.model))
    ]
