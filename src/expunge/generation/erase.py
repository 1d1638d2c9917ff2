"""Concept erasure: from a pipeline folder to a pipeline folder in which the prompt of a concept draws something else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..data.split import Split
from ..methods.concept_ablation import ConceptAblation
from ..pipeline.experiment import record_of
from ..records.hashing import state_hash
from ..records.record import Record
from ..tasks.sampling import Sampler
from ..torch_utils.module_state import seeded
from ..training.execute import execute
from ..training.method import GradientMethod, Method
from ..training.run import Compute, Row, Run
from .concepts import Erasure, contents, drawn_latents, image_files, kept_latents, read_latents, split_of
from .erase_checks import check, check_loaded
from .pipelines import Weights, add_lora, choose_weights, load, save
from .prompted import Prompted
from .side_by_side import grids
from .text_to_image import Loaded


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

    def save_record(self) -> None:
        """Write the record beside the weights, if they were written."""
        if self.out is not None:
            self.record.save(self.out / "expunge.json")


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
    steps: int | None = None,
    safe: bool = False,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
    compute: Compute | None = None,
    gradient_checkpointing: bool = False,
    on_row: Callable[[Row], None] | None = None,
    state_file: str | Path | None = None,
    command: str = "",
) -> Erased:
    """Erase a concept from the pipeline in `folder` and write the result, an ordinary pipeline folder, to `out`.

    Training images are those of `images`, a folder with one sub-folder a concept (its name is the concept's), or are drawn by
    the pipeline itself, `per_prompt` a prompt. `weights` says which may train, `method.density` below 1 picks the salient
    among them; `lora` is the rank of low-rank additions to the attention (all of it, or `weights="cross_attention"`) instead,
    and then `out` holds only those, and the frozen weights may be held in bfloat16 (`half`). `steps` is the length of the
    training, in place of `method.epochs`: as many whole passes as it takes. `safe` also draws what the original draws under
    safe latent diffusion, a filter. `state_file` keeps a resumable state, and beside it (`latents_file`) the latents, from
    which an interrupted call is gone on from; both are removed once `out` is written, and left to the caller without `out`.
    Interrupted after that, only pictures are missing. Raises `ExpungeError`s.
    """
    compute = compute or Compute()
    check(erasure, method, out, lora, weights, half, compute, steps, per_prompt, seed)
    files = {} if images is None else image_files(Path(images), erasure)
    together = max(1, getattr(method, "batch_size", 8) // compute.accumulate)  # samples in memory at once
    compute = replace(compute, eval_batch=min(compute.eval_batch, together))
    sampler = sampler or Sampler(steps=50, guidance=6.5, batch_size=min(8, together))
    loaded = load(folder, device=device)
    plain = loaded.kind == "dit"
    if gradient_checkpointing:
        loaded.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    prompts = erasure.prompts(plain)
    original, task = loaded.prompted(prompts, erasure.concept), loaded.task(len(prompts))
    check_loaded(original, task, method, lora, weights, erasure, sampler)
    loaded.rest()
    if half:
        original.denoiser.to(torch.bfloat16)
    if images is not None:
        make = partial(read_latents, loaded, Path(images), erasure, prompts, min(8, together))
    else:
        make = partial(drawn_latents, loaded, original, task, len(prompts), sampler, per_prompt, seed)
    if state_file is None:
        data = make()
    else:
        shown = (
            (contents(files),)
            if images is not None
            else (repr(replace(sampler, batch_size=1)), per_prompt, seed)
        )
        weights_of = (state_hash(m.state_dict()) for m in (original, loaded.pipeline.vae))
        data = kept_latents(latents_file(state_file), (*weights_of, repr(task), prompts, *shown), make)
    loaded.rest()
    split = split_of(data, erasure.concepts(plain), len(prompts), erasure.concept)
    method = _anchored(method, erasure, split)
    if steps is not None and isinstance(method, GradientMethod):
        method = replace(method, epochs=_passes(method, Run(original, split, task), steps))
    with _sharing(original):
        with seeded(seed, loaded.device):  # low-rank additions begin at random
            start, trained = _trainable(original, lora, weights)
        before = _hash(start, lora)
        run = execute(
            start, split, method, task, seed=seed, compute=compute, on_row=on_row, state_file=state_file
        )
    _own(run, start)
    source = "images" if images is not None else "drawn by the pipeline"
    names = {"model": type(loaded.pipeline).__name__, "data": source, "classes": prompts}
    record = record_of("erase", run, method, before=before, command=command, names=names)
    record.model["hash_after"] = _hash(run.model, lora)  # of the same tensors as the hash before
    words = {k: v for k, v in asdict(erasure).items() if k != "templates"}
    record.details["erasure"] = {**words, "prompts": prompts}
    record.details["trained"] = {"weights": weights, "lora": lora, "count": trained, "steps": run.step}
    done = Erased(run, record, None, loaded, original, erasure, prompts)
    if out is not None:
        done.out = save(loaded, done.model, out, lora=bool(lora))
        done.save_record()
        for kept in () if state_file is None else (Path(state_file), latents_file(state_file)):
            kept.unlink(missing_ok=True)  # nothing can go on from them: `out` is not replaced
    _illustrate(done, sampler, seed, safe)
    return done


def latents_file(state_file: str | Path) -> Path:
    """Where an interruptible `erase` keeps the latents that it read or drew."""
    return Path(state_file).with_suffix(".latents")


def _illustrate(done: Erased, sampler: Sampler, seed: int, safe: bool) -> None:
    """Draw before and after into the record, which was written without them: what was trained is not lost to the drawing."""
    try:
        done.record.details["images"] = grids(done, sampler, seed=seed, safe=safe)
    except torch.OutOfMemoryError as error:
        warnings.warn(
            f"the pictures of before and after could not be drawn: {error}", RuntimeWarning, stacklevel=3
        )
    done.save_record()


def _anchored(method: Method, erasure: Erasure, split: Split) -> Method:
    """The method; concept ablation without an anchor's words, and so without its images, goes to the null condition."""
    if not isinstance(method, ConceptAblation) or erasure.anchor or method.anchor != 1:
        return method
    return method if (split.retain.labels == 1).any() else replace(method, anchor=-1)


def _passes(method: GradientMethod, run: Run, steps: int) -> int:
    """How many passes make at least so many steps."""
    return -(-steps // max(1, replace(method, epochs=1).steps(run)))


def _trainable(original: Prompted, lora: int | None, weights: Weights) -> tuple[Prompted, int]:
    """The model to train, and how many of its weights do; with LoRA a copy, on the original's frozen weights."""
    if not lora:
        return original, choose_weights(original, weights)
    original.requires_grad_(False)
    start = copy.deepcopy(original)
    return start, add_lora(start.denoiser, lora, weights)


def _hash(model: nn.Module, lora: int | None) -> str:
    """Hash of the denoiser, or of its low-rank additions: what the folder written holds."""
    state = model.denoiser.state_dict()  # type: ignore[union-attr, operator]
    return state_hash({k: v for k, v in state.items() if not lora or "lora_" in k})


@contextmanager
def _sharing(model: Prompted) -> Iterator[None]:
    """Inside the block copies of `model` hold its very own frozen weights."""
    model.shares = True
    try:
        yield
    finally:
        model.shares = False


def _own(run: Run, start: Prompted) -> None:
    """After the training a copy is a copy again, since an attack may train all of it."""
    for model in (run.model, start, run._original):
        if isinstance(model, Prompted):
            model.shares = False
