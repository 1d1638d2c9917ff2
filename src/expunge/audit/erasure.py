"""How well a concept was erased from a text-to-image pipeline, as a judge sees it, and what went with it.

UA and RA as for class-conditional models, over prompts; `composition` = share of images of "concept and kept" prompts in
which, the concept apart, the judge finds the kept one: erasers that break it erode more than they erase (the benchmark
"Erasure or Erosion" finds losses from 10 to 84 % behind equal UAs). All beside the same figures before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..diffusion import Diffusion
from ..errors import ExpungeError
from ..sampling import Sampler
from .accuracy import AuditResult
from .image_judge import Judge

if TYPE_CHECKING:
    from ..erase import Erased

TOGETHER = "a photo of a {} and a {}"


def audit_erasure(
    erased: Erased,
    judge: Judge,
    classes: Mapping[str, int],
    *,
    sampler: Sampler | None = None,
    count: int = 20,
    together: str | None = TOGETHER,
    seed: int = 0,
) -> AuditResult:
    """Scores after and before ("before" in the details), percent; `classes` gives the judge's class of each concept's words.

    `together` is the prompt with two places that tests composition; None leaves it out, as for a DiT. Raises `ExpungeError`
    for concepts that the judge has no class for.
    """
    words = erased.erasure
    kept = [w for w in dict.fromkeys((words.anchor, *words.keep)) if w]
    if missing := [w for w in (words.concept, *kept) if w not in classes]:
        raise ExpungeError(
            f"the judge's classes of {missing} are not given; name one for the concept, the anchor and everything kept."
        )
    draw = sampler or Sampler(steps=20, guidance=2.0)
    look = lambda prompts: _said(erased, judge, prompts, draw, count, seed)  # noqa: E731
    forms = ("{}",) if erased.loaded.kind == "dit" else words.templates
    fill = lambda word: [form.format(word) for form in forms]  # noqa: E731
    scores: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    per: dict[str, dict[str, float]] = {}
    for word in (words.concept, *kept):
        share = {
            k: 100 * (said.argmax(2) == classes[word]).double().mean().item()
            for k, said in look(fill(word)).items()
        }
        per[word] = share
    for when, found in scores.items():
        found["UA"] = 100 - per[words.concept][when]
        found["RA"] = sum(per[w][when] for w in kept) / len(kept) if kept else None
    if together is not None and kept:
        for when, said in look([together.format(words.concept, w) for w in kept]).items():
            others = said.clone()
            others[:, :, classes[words.concept]] = -torch.inf
            asked = torch.tensor([classes[w] for w in kept])[:, None]
            scores[when]["composition"] = 100 * (others.argmax(2) == asked).double().mean().item()
    limits = [f"The judge recognises {judge.accuracy:.1f} % of real test images; {count} images a prompt."]
    return AuditResult(
        scores["after"], {"before": scores["before"], "prompts": per, "limits": limits}, limits
    )


def _said(
    erased: Erased, judge: Judge, prompts: list[str], sampler: Sampler, count: int, seed: int
) -> dict[str, Tensor]:
    """The judge's logits (prompts, count, K) of what original and erased model draw, from the same noise."""
    original = erased.loaded.prompted(prompts)
    task: Diffusion = erased.loaded.task(len(prompts))
    latents = task.images(next(erased.run.split.retain.take(torch.arange(1)).batches(1)))
    y = torch.arange(len(prompts)).repeat_interleave(count)
    found = {}
    for when, model in (("before", original), ("after", original.with_denoiser(erased.model.denoiser))):
        drawn = erased.loaded.decode(sampler(model, task, y, tuple(latents.shape[1:]), seed=seed))
        found[when] = judge.predict(drawn, y).logits.unflatten(0, (len(prompts), count))
    return found
